"""Protocols in, one JSON out: every sample of a split counted once, whatever the number of processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as distributed

from ..datasets.dataset import Dataset, Sample
from .inference import Predictor
from .task import Metrics, Prediction, Task


@dataclass
class Share:
    """The part of a split that one process counts: every `processes`-th sample, from `rank` on."""

    rank: int = 0
    processes: int = 1

    @classmethod
    def here(cls) -> Share:
        """This process's share, one of one outside torchrun."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    def indices(self, samples: int) -> range:
        """Which samples this process counts."""
        return range(self.rank, samples, self.processes)

    def merged(self, metrics: Metrics) -> dict[str, float]:
        """The scores over all processes, on each of them."""
        if self.processes > 1:
            states: list[Any] = [None] * self.processes
            distributed.all_gather_object(states, metrics.state())
            metrics.merge(states)
        return {name: float(value) for name, value in metrics.compute().items()}


@dataclass
class Evaluation:
    """Scores of one split under one protocol.

    Attributes:
        protocol: its name.
        samples: how many were counted.
        metrics: score by name.
        shown: a few samples with their predictions, for drawing; of this process.
        errors: (index, watched score of that sample alone), filled when asked for.
    """

    protocol: str
    samples: int
    metrics: dict[str, float]
    shown: list[tuple[Sample, Prediction]] = field(default_factory=list)
    errors: list[tuple[int, float]] = field(default_factory=list)

    def scores(self) -> dict[str, Any]:
        """What a training state keeps: without the samples that were shown."""
        return {"protocol": self.protocol, "samples": self.samples, "metrics": self.metrics}


def evaluate(
    task: Task,
    answer: Callable[[Sample], Prediction],
    dataset: Dataset,
    protocol: str,
    samples: int | None = None,
    show: int = 0,
    each: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score answers on a split, in original pixels.

    Args:
        task: whose metrics are used.
        answer: from a sample to a prediction at the sample's size (`Predictor.answer`, or a baseline).
        dataset: the opened split.
        protocol: a name of `task.protocols`.
        samples: the first N only; default: all.
        show: how many of the first samples to keep for drawing.
        each: also score every sample alone, to find the worst.
        progress: called with (done, total) of this process.
    """
    share = Share.here()
    count = len(dataset) if samples is None else min(samples, len(dataset))
    metrics, shown, errors = task.metrics(protocol), [], []
    indices = share.indices(count)
    for done, index in enumerate(indices, 1):
        sample = dataset.read(index)
        prediction = answer(sample)
        metrics.update(prediction, sample)
        if index < show:
            shown.append((sample, prediction))
        if each:
            alone = task.metrics(protocol)
            alone.update(prediction, sample)
            errors.append((index, alone.compute()[task.watch.name]))
        if progress is not None:
            progress(done, len(indices))
    return Evaluation(protocol, count, share.merged(metrics), shown, errors)


def worst(evaluation: Evaluation, watch_higher: bool, number: int) -> Sequence[int]:
    """The samples with the worst watched score, worst first; samples that count nothing are left out."""
    known = [(score, index) for index, score in evaluation.errors if score == score]
    return [index for _, index in sorted(known, reverse=not watch_higher)[:number]]


def predictor_answer(predictor: Predictor, protocol: str, flip: bool = False) -> Callable[[Sample], Prediction]:
    """A predictor in the form that `evaluate` takes, asked as the protocol has it."""
    view = predictor.task.view_of(protocol)
    return lambda sample: predictor.answer(sample, view, flip)
