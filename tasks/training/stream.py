"""The samples of a run in their order, a function of the step alone: workers, processes, resuming change nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from ...datasets.augmentation import Augmentation, sample_geometry
from ...datasets.dataset import Dataset, Sample
from ...datasets.fields import Kind, collate, move_sample
from ...datasets.geometry import Geometry, Size
from ...datasets.randomness import Purpose, generator
from ...errors import UserError
from ..task import Batch, Task

Key = tuple[int, int]
"""(epoch, index). A world's stream is one epoch without end."""


class TrainingView(TorchDataset):
    """A data set seen through a run: read, moved by one geometry, prepared by the task."""

    def __init__(
        self, dataset: Dataset, task: Task, size: Size, augmentation: Augmentation, colour: float, seed: int
    ) -> None:
        self.dataset, self.task, self.size = dataset, task, size
        self.augmentation, self.colour, self.seed = augmentation, colour, seed
        self.fields = {**task.inputs(dataset.fields), **task.targets(dataset.fields)}

    def __getitem__(self, key: Key) -> Sample | UserError:
        try:
            return self.sample(key)
        except UserError as error:
            # A worker's exception would arrive wrapped in a stack trace; as a value it arrives as it is.
            return error

    def sample(self, key: Key) -> Sample:
        """The sample of a key as the network trains on it.

        Raises:
            UserError: what was read is damaged.
        """
        epoch, index = key
        rng = generator(self.seed, epoch, index, Purpose.GEOMETRY)

        def draw(source: Size) -> Geometry:
            may = self.task.augmentation(self.augmentation, self.dataset.fields, source)
            return sample_geometry(rng, source, self.size, may)

        sample, geometry = self.dataset.read_for(index, draw)
        moved = move_sample(sample, self.fields, geometry)
        return self.task.prepare(moved, generator(self.seed, epoch, index, Purpose.PREPARE), self.colour)


class Order(Sampler[list[Key]]):
    """Which samples this process gets at which micro-step.

    The run's samples are one long numbered row: epoch after epoch, each in an order drawn for it, and no epoch drops
    its last samples (a batch may straddle two epochs). Micro-step m of process r takes the r-th batch of the m-th
    slice, so that two processes of batch B see what one process of 2B sees.
    """

    def __init__(
        self, samples: int | None, batch: int, steps: range, seed: int, rank: int = 0, processes: int = 1
    ) -> None:
        """
        Args:
            samples: length of the set, None for a stream that never repeats.
            batch: samples per process and micro-step.
            steps: the micro-steps to go through; a resumed run starts later.
            seed: of the order.
            rank: this process, 0 <= rank < processes.
            processes: how many share the row.
        """
        self.samples, self.batch, self.steps, self.seed = samples, batch, steps, seed
        self.rank, self.processes = rank, processes
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        return map(self.keys, self.steps)

    def keys(self, step: int) -> list[Key]:
        """The samples of one micro-step."""
        start = (step * self.processes + self.rank) * self.batch
        return [self._key(number) for number in range(start, start + self.batch)]

    def _key(self, number: int) -> Key:
        if self.samples is None:
            return 0, number
        epoch, place = divmod(number, self.samples)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = generator(self.seed, epoch, 0, Purpose.SHUFFLE).permutation(self.samples)
        return epoch, int(self._order[place])


def batches(view: TrainingView, order: Iterable[list[Key]], workers: int, pinned: bool) -> Iterator[Batch]:
    """The batches of a run, made by `workers` processes.

    Raises:
        UserError: a sample is damaged.
    """
    loader = DataLoader(
        view,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=partial(_collate, fields=view.task.prepared(view.dataset.fields)),
        pin_memory=pinned,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_worker,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _collate(samples: list[Sample | UserError], fields: dict[str, Kind]) -> Batch | UserError:
    whole: list[Sample] = []
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
        whole.append(sample)
    return collate(whole, fields)


def _start_worker(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # A terminal's Ctrl-C and a scheduler's SIGTERM go to the whole group; it is the run that stops, after a whole step.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
