"""Evaluation: metrics of a split under a protocol, each sample counted once by any number of processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..datasets.core.problems import sample_errors
from ..datasets.dataset import Dataset, Sample
from ..errors import UserError
from .distributed import ProcessGroup
from .inference import Predictor
from .prediction import Prediction
from .task import Task


@dataclass
class Evaluation:
    """Scores of one split under one protocol.

    Attributes:
        protocol: name of the protocol.
        samples: number of samples over all processes.
        metrics: scores by name.
        examples: a few samples of this process with their predictions, for drawing.
        sample_scores: (index, monitored metric of that sample alone), with `per_sample` only.
    """

    protocol: str
    samples: int
    metrics: dict[str, float]
    examples: list[tuple[Sample, Prediction]] = field(default_factory=list)
    sample_scores: list[tuple[int, float]] = field(default_factory=list)

    def scores(self) -> dict[str, Any]:
        """Protocol, number of samples and metrics, for the training state; examples are left out."""
        return {"protocol": self.protocol, "samples": self.samples, "metrics": self.metrics}

    def undefined(self) -> dict[str, dict[str, str]]:
        """For result.json, whose `metrics` contain null there: the reason of every score that is nan or infinite."""
        reason = f"nan or infinite: no sample defines it under {self.protocol}, or a prediction is not finite"
        scores = {name: reason for name, value in self.metrics.items() if not math.isfinite(value)}
        return {"undefined": scores} if scores else {}


def require_ground_truth(task: Task, dataset: Dataset, protocol: str, samples: int | None = None) -> None:
    """Check, before a model is trained or run, that at least one sample of a split counts under a protocol.

    Scores the ground truth itself, from the first sample to the first one that counts; usually that is the same.

    Args:
        task, dataset, protocol, samples: as in `evaluate`.

    Raises:
        UserError: no sample counts, so that every score would be nan.
    """
    count = len(dataset) if samples is None else min(samples, len(dataset))
    for index in range(count):
        with sample_errors(dataset.sample_name(index)):
            sample = dataset.read(index)
        metrics = task.metrics(protocol)
        metrics.update(task.ground_truth(sample, dataset.fields), sample)
        scores = metrics.compute()
        # A protocol that resizes may turn unknown values of this prediction into nan; the sample counts nevertheless.
        if scores.get("samples") or not math.isnan(scores[task.monitor.name]):
            return
    raise UserError(
        f"No sample of the split '{dataset.split}' of {dataset.title} ({count} read) has ground truth that counts "
        f"under the protocol {protocol}, so there is nothing to score: evaluate on another split or dataset."
    )


def evaluate(
    task: Task,
    predict: Predictor | Callable[[Sample], Prediction],
    dataset: Dataset,
    protocol: str,
    samples: int | None = None,
    num_examples: int = 0,
    per_sample: bool = False,
    flip: bool = False,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score predictions on a split, in original pixels.

    Args:
        task: the task, whose metrics are computed.
        predict: a predictor, which runs in the input mode of the protocol; or a function from a sample to a prediction
            at its size, such as a baseline.
        dataset: the split.
        protocol: one of `task.protocols`.
        samples: number of samples, from the first on; None: all.
        num_examples: number of samples, from the first on, that are returned for drawing.
        per_sample: also score every sample alone, for `worst_samples`.
        flip: average a predictor's outputs with those for the flipped inputs.
        batch_size: number of samples that are read together, and by a predictor predicted together.
        progress: called with (done, total) of this process after every sample.
    """
    group = ProcessGroup.current()
    count = len(dataset) if samples is None else min(samples, len(dataset))
    metrics, examples, sample_scores = task.metrics(protocol), [], []
    indices = group.indices(count)
    for start in range(0, len(indices), batch_size):
        part = indices[start : start + batch_size]
        batch = []
        for index in part:
            with sample_errors(dataset.sample_name(index)):
                batch.append(dataset.read(index))
        if isinstance(predict, Predictor):
            predictions = predict.predict_samples(batch, task.evaluation.mode(protocol), flip)
        else:
            predictions = map(predict, batch)
        for index, sample, prediction in zip(part, batch, predictions, strict=True):
            metrics.update(prediction, sample)
            if index < num_examples:
                examples.append((sample, prediction))
            if per_sample:
                sample_metrics = task.metrics(protocol)
                sample_metrics.update(prediction, sample)
                sample_scores.append((index, sample_metrics.compute()[task.monitor.name]))
        if progress is not None:
            progress(start + len(part), len(indices))
    if group.num_processes > 1:
        metrics.merge(group.all_gather(metrics.state()))
    scores = {name: float(value) for name, value in metrics.compute().items()}
    return Evaluation(protocol, count, scores, examples, sample_scores)


def worst_samples(evaluation: Evaluation, higher_is_better: bool, count: int) -> Sequence[int]:
    """Indices of the samples with the worst monitored metric, worst first; samples without a score are left out."""
    scores = [(score, index) for index, score in evaluation.sample_scores if score == score]
    return [index for _, index in sorted(scores, reverse=not higher_is_better)[:count]]
