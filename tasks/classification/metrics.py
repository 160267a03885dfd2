"""How often the true class is named first, and among the first five."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...datasets.dataset import Sample
from ..task import Metrics, Prediction
from .ranking import Ranking
from .views import VIEWS

PROTOCOLS: tuple[str, ...] = tuple(VIEWS)
"""Scores differ by how the picture is shown; what is counted is the same."""


class RankingMetrics(Metrics):
    """top1 and top5, shares from 0 to 1 of the pictures; nll, the mean of minus ln of the true class's probability.

    A tie does not count as right: a network that gives every class the same has named none. Neither does nan.
    """

    def __init__(self) -> None:
        self.first = self.five = self.count = 0
        self.surprise = 0.0

    def update(self, prediction: Prediction, truth: Sample) -> None:
        assert isinstance(prediction, Ranking)
        chance = prediction.probabilities[int(truth["category"])]
        before = int(np.count_nonzero(~(prediction.probabilities < chance))) - 1
        named = not np.isnan(chance)
        self.count += 1
        self.first += named and before < 1
        self.five += named and before < 5
        self.surprise -= float(np.log(max(chance, np.finfo(np.float32).tiny)))

    def state(self) -> Any:
        return self.first, self.five, self.surprise, self.count

    def merge(self, states: Iterable[Any]) -> None:
        self.first, self.five, self.surprise, self.count = (
            sum(values) for values in zip(*states, (0, 0, 0.0, 0), strict=True)
        )

    def compute(self) -> dict[str, float]:
        if self.count == 0:
            return {"top1": float("nan"), "top5": float("nan"), "nll": float("nan")}
        return {
            "top1": self.first / self.count,
            "top5": self.five / self.count,
            "nll": self.surprise / self.count,
        }
