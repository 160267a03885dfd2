"""Evaluation: metrics of a split under a protocol, each sample counted once by any number of processes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..atomic_io import write_text
from ..datasets.core.problems import sample_errors
from ..datasets.dataset import Dataset, Sample
from ..errors import UserError, unknown_name
from .distributed import ProcessGroup
from .inference import Predictor, load
from .own_data import Data, as_dataset
from .prediction import Prediction
from .task import MonitoredMetric, Table, Task


@dataclass
class Evaluation:
    """Scores of one split under one protocol.

    Attributes:
        protocol: name of the protocol.
        samples: number of samples over all processes.
        metrics: scores by name.
        examples: a few samples of this process with their predictions, for drawing.
        per_sample: a row for every sample: its "index", its name as "sample", and its scores alone;
            with `per_sample` only.
        sample_states: `Metrics.state` of each of these samples, for `compare`.
        tables: tables of the metrics beside the scores (confusion matrix, joints, ranges), as rows by column.
        split: split of the dataset.
    """

    protocol: str
    samples: int
    metrics: dict[str, float]
    examples: list[tuple[Sample, Prediction]] = field(default_factory=list)
    per_sample: list[dict[str, Any]] = field(default_factory=list)
    sample_states: list[Any] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    split: str = ""

    def __repr__(self) -> str:
        scores = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return f"Evaluation({self.samples} samples, {self.protocol}: {scores})"

    def to_csv(self, path: str | Path) -> list[Path]:
        """Write `per_sample` as CSV, and every table beside it as STEM-NAME.csv; returns the files.

        For pandas, `pandas.DataFrame(evaluation.per_sample)` needs no file.
        """
        path = Path(path)
        named = {path: self.per_sample}
        named |= {path.with_name(f"{path.stem}-{name}{path.suffix}"): rows for name, rows in self.tables.items()}
        for file, rows in named.items():
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(file, text.getvalue())
        return list(named)

    def header(self) -> dict[str, Any]:
        """Metrics with protocol, number of samples and split, for a checkpoint header."""
        return {"protocol": self.protocol, "samples": self.samples, "split": self.split, **self.metrics}

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


def score(
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
        per_sample: also score every sample alone, and tabulate.
        flip: average a predictor's outputs with those for the flipped inputs.
        batch_size: number of samples that are read together, and by a predictor predicted together.
        progress: called with (done, total) of this process after every sample.
    """
    group = ProcessGroup.current()
    count = len(dataset) if samples is None else min(samples, len(dataset))
    metrics, examples, rows, states = task.metrics(protocol), [], [], []
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
                states.append(sample_metrics.state())
                own = {name: float(value) for name, value in sample_metrics.compute().items() if name != "samples"}
                rows.append({"index": index, "sample": dataset.sample_name(index), **own})
        if progress is not None:
            progress(start + len(part), len(indices))
    if group.num_processes > 1:
        metrics.merge(group.all_gather(metrics.state()))
        pairs = sorted(chain.from_iterable(group.all_gather(list(zip(rows, states, strict=True)))), key=_index)
        rows, states = [row for row, _ in pairs], [state for _, state in pairs]
    scores = {name: float(value) for name, value in metrics.compute().items()}
    tables = metrics.tables(dataset.fields) if per_sample else {}
    return Evaluation(protocol, count, scores, examples, rows, states, tables, dataset.split)


def _index(pair: tuple[dict[str, Any], Any]) -> int:
    return pair[0]["index"]


def evaluate(
    model: Predictor | nn.Module | str | Path,
    data: Data,
    protocol: str | None = None,
    *,
    samples: int | None = None,
    flip: bool = False,
    batch_size: int = 8,
    device: str = "auto",
    amp: str = "auto",
) -> Evaluation:
    """Score a model on data under a protocol, in original pixels.

    >>> evaluation = evaluate("runs/mine", my_test_samples)  # doctest: +SKIP
    >>> evaluation.metrics["abs_rel"]  # doctest: +SKIP
    >>> evaluation.to_csv("scores.csv")  # doctest: +SKIP

    Args:
        model: a run folder, checkpoint, name of a packaged checkpoint, `Predictor`, or model of `create_model`.
        data: evaluation data as in `train`: a `Dataset` (`open_dataset(name, root, split)`), the name of a synthetic
            one, a list of dictionaries, a dataset of PyTorch, or a pair of folders.
        protocol: one of the task's protocols; None: that under which papers report on the dataset.
        samples: score the first N samples only.
        flip: average the predictions for the image and its mirror image.
        batch_size: samples that run together.
        device: as in `load`, unless the model is a predictor.
        amp: as `device`.

    Returns:
        `metrics` by name, a row for every sample (`per_sample`), and the tables of the metrics (`tables`).

    Raises:
        UserError: an unknown protocol, or data that do not have what the model predicts.
    """
    predictor = model if isinstance(model, Predictor) else load(model, device, amp)
    dataset = as_dataset(predictor.task, data, split="test", fields=predictor.fields)
    test, protocol = prepare_split(predictor, dataset, protocol, samples)
    return score(predictor.task, predictor, test, protocol, samples, per_sample=True, flip=flip, batch_size=batch_size)


def prepare_split(
    predictor: Predictor, dataset: Dataset, protocol: str | None, samples: int | None
) -> tuple[Dataset, str]:
    """A split in the form that is scored, and its protocol; whatever is missing is reported before anything runs.

    Raises:
        UserError: an unknown protocol, fields that are missing or of other classes or joints, or no ground truth.
    """
    task = predictor.task
    test = task.evaluation.dataset(dataset.with_size(predictor.size))
    protocol = protocol or task.evaluation.default_protocol(test)
    # Some protocols take a value: fcn-score=CHECKPOINT.
    if protocol.partition("=")[0] not in task.protocols:
        raise unknown_name(f"protocol of the task {task.name}", protocol, task.protocols)
    test = task.evaluation.under(test, protocol)
    task.inputs(test.fields)
    for name, field_type in task.targets(test.fields).items():
        if predictor.fields[name] != field_type:
            raise UserError(
                f"The model was trained for {predictor.fields[name]}, but {dataset.title} has {field_type}."
            )
    require_ground_truth(task, test, protocol, samples)
    return test, protocol


@dataclass(frozen=True)
class Comparison:
    """Difference of two models on the same samples.

    Attributes:
        metric: the monitored metric of the task.
        first, second: its values.
        difference: second minus first.
        interval: bootstrap interval of the difference, 95 %: that of as many resamplings of the samples, with the same
            samples for both models.
        better: share of the resamplings in which the second is better.
        samples, resamples: their numbers.
    """

    metric: str
    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    better: float
    samples: int
    resamples: int


def compare(task: Task, first: Evaluation, second: Evaluation, resamples: int = 1000, seed: int = 0) -> Comparison:
    """Compare two models by a paired bootstrap over the samples (Efron 1979).

    The metric of a resampling is that of its samples as a set, so that pooled scores, medians and ranks are what they
    are for the split.

    Args:
        task: the task of both.
        first: evaluation of one with `per_sample`.
        second: that of the other, of the same samples under the same protocol.
        resamples: number of resamplings.
        seed: seed of the resamplings.

    Raises:
        UserError: they are evaluations of other samples or protocols.
    """
    names = [[row["sample"] for row in each.per_sample] for each in (first, second)]
    if first.protocol != second.protocol or names[0] != names[1] or not names[0]:
        raise UserError(
            f"The two evaluations are of {len(names[0])} and {len(names[1])} samples, under {first.protocol} and "
            f"{second.protocol}; a comparison needs the same samples under the same protocol."
        )
    name, count = task.monitor.name, len(names[0])
    rng = np.random.default_rng(seed)
    metrics = task.metrics(first.protocol)
    differences, better = [], 0
    for _ in range(resamples):
        drawn = rng.integers(count, size=count).tolist()
        values = []
        for each in (first, second):
            metrics.merge([each.sample_states[index] for index in drawn])
            values.append(float(metrics.compute()[name]))
        differences.append(values[1] - values[0])
        better += task.monitor.better(values[1], values[0])
    low, high = np.nanquantile(differences, (0.025, 0.975)).tolist()
    values = first.metrics[name], second.metrics[name]
    return Comparison(name, *values, values[1] - values[0], (low, high), better / resamples, count, resamples)


def worst_samples(evaluation: Evaluation, monitor: MonitoredMetric, count: int) -> Sequence[int]:
    """Indices of the samples with the worst value of a metric, worst first; samples without a value are left out."""
    scores = [(row[monitor.name], row["index"]) for row in evaluation.per_sample]
    scores = [(value, index) for value, index in scores if value == value]
    return [index for _, index in sorted(scores, reverse=not monitor.higher_is_better)[:count]]
