"""Top-1 and top-5 accuracy and negative log-likelihood."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...datasets.dataset import Sample
from ..prediction import Prediction
from ..task import Metrics
from .class_scores import ClassScores
from .policies import TEST_CROPS

PROTOCOLS: tuple[str, ...] = tuple(TEST_CROPS)
"""Protocols differ in the crops of the image; the metrics are the same."""


class ClassificationMetrics(Metrics):
    """top1 and top5 accuracy from 0 to 1; nll, the mean negative natural logarithm of the label's probability.

    Ties and nan count as wrong: a network that gives every class the same probability has no accuracy.
    """

    def __init__(self) -> None:
        self.first = self.five = self.count = 0
        self.nll = 0.0

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        assert isinstance(prediction, ClassScores)
        probability = prediction.probabilities[int(ground_truth["category"])]
        better = int(np.count_nonzero(~(prediction.probabilities < probability))) - 1
        valid = not np.isnan(probability)
        self.count += 1
        self.first += valid and better < 1
        self.five += valid and better < 5
        self.nll -= float(np.log(max(probability, np.finfo(np.float32).tiny)))

    def state(self) -> Any:
        return self.first, self.five, self.nll, self.count

    def merge(self, states: Iterable[Any]) -> None:
        self.first, self.five, self.nll, self.count = (
            sum(values) for values in zip(*states, (0, 0, 0.0, 0), strict=True)
        )

    def compute(self) -> dict[str, float]:
        if self.count == 0:
            return {"top1": float("nan"), "top5": float("nan"), "nll": float("nan")}
        return {
            "top1": self.first / self.count,
            "top5": self.five / self.count,
            "nll": self.nll / self.count,
        }
