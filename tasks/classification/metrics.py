"""Top-1 and top-5 accuracy and negative log-likelihood."""

from __future__ import annotations

import math

import numpy as np

from ...datasets.dataset import Sample
from ..prediction import Prediction
from ..task import RowMetrics
from .class_scores import ClassScores
from .policies import TEST_CROPS

PROTOCOLS: tuple[str, ...] = tuple(TEST_CROPS)
"""Protocols differ in the crops of the image; the metrics are the same."""


class ClassificationMetrics(RowMetrics):
    """top1 and top5 accuracy from 0 to 1; nll, the mean negative natural logarithm of the label's probability.

    Ties and nan count as wrong: a network that gives every class the same probability has no accuracy.
    """

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        assert isinstance(prediction, ClassScores)
        probability = prediction.probabilities[int(ground_truth["category"])]
        better = int(np.count_nonzero(~(prediction.probabilities < probability))) - 1
        valid = not np.isnan(probability)
        nll = -float(np.log(max(probability, np.finfo(np.float32).tiny)))
        self.rows.append((valid and better < 1, valid and better < 5, nll))

    def compute(self) -> dict[str, float]:
        columns = zip(*self.rows, strict=True) if self.rows else [(math.nan,)] * 3
        return {name: sum(column) / len(column) for name, column in zip(("top1", "top5", "nll"), columns, strict=True)}
