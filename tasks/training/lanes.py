"""Order of training samples that are stored in shards: every micro-batch of a step has a lane of shards of its own."""

from __future__ import annotations

import numpy as np

from ...datasets.core.randomness import Purpose, generator
from ...datasets.dataset import Dataset

SampleKey = tuple[int, int]
"""(epoch, index); the stream of an infinite dataset is one endless epoch."""
MIXED_SHARDS = 4
"""Shards of a lane whose samples are mixed. Shards have samples in random order themselves."""


def lanes_of(dataset: Dataset, samples: int | None, micro_batches: int, seed: int) -> Lanes | None:
    """The lanes of a run on the first `samples` of a dataset; None if it has no shards, or weights of samples.

    Args:
        dataset: the training set.
        samples: of an epoch; None: endless.
        micro_batches: of a step, over all processes.
        seed: seed of the run.
    """
    if dataset.shards is None or dataset.sample_weights is not None or not samples or samples < micro_batches:
        return None
    return Lanes(dataset.shards[:samples], micro_batches, seed)


class Lanes:
    """Sample keys by the number of the micro-batch, so that a process reads few shards.

    In every epoch, the shards are put in a random order and cut into as many lanes as a step has micro-batches, equal
    to one sample. Micro-batch g of a step takes the next samples of lane g, in which those of `MIXED_SHARDS` successive
    shards are mixed. An order is a function of the seed, the epoch, the step and g: neither processes nor workers nor
    resuming change it, every sample comes once in an epoch, and all processes together read each shard once, plus at
    most one shard a lane that a cut divides.
    """

    def __init__(self, shards: np.ndarray, lanes: int, seed: int) -> None:
        """
        Args:
            shards: (N,) number of the shard of every sample; at least `lanes` samples.
            lanes: micro-batches of a step, over all processes.
            seed: seed of the run.
        """
        self.shards, self.lanes, self.seed = shards, lanes, seed
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def keys(self, number: int, count: int) -> list[SampleKey]:
        """Keys of micro-batch `number`, counted over all steps and processes, of `count` samples."""
        step, lane = divmod(number, self.lanes)
        samples = len(self.shards)
        start, end = lane * samples // self.lanes, (lane + 1) * samples // self.lanes
        keys = []
        for place in range(step * count, (step + 1) * count):
            epoch, position = divmod(place, end - start)
            keys.append((epoch, int(self._order(epoch, lane, start, end)[position])))
        return keys

    def _order(self, epoch: int, lane: int, start: int, end: int) -> np.ndarray:
        """The samples of a lane in an epoch, which are kept while it lasts."""
        kept = self._orders.get(lane)
        if kept is None or kept[0] != epoch:
            rng = generator(self.seed, epoch, 0, Purpose.SHUFFLE)
            ranks = rng.permutation(int(self.shards.max()) + 1)[self.shards]
            order = np.argsort(ranks, kind="stable")[start:end]
            # Windows of whole shards, as far as the lane has them.
            _, window = np.unique(ranks[order], return_inverse=True)
            mixed = generator(self.seed, epoch, lane + 1, Purpose.SHUFFLE).random(len(order))
            kept = self._orders[lane] = epoch, order[np.lexsort((mixed, window // MIXED_SHARDS))]
        return kept[1]
