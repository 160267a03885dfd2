"""Metrics of memorability: rank correlation with its confidence interval, squared error, and spread of the predictions.

rho is Spearman's rank correlation: Pearson's correlation of the ranks, equal values with the mean of their ranks. It is
nan if the predictions or the scores are all equal, since nothing is ranked then; it is never 0 instead. rho does not
change if the predictions are mapped monotonically, mse does. sd_ratio is the standard deviation of the predictions
divided by that of the scores: far below 1 is regression to the mean, the usual failure of this task, which rho does not
see.

A dataset whose players are simulated states what limits rho: `ceiling`, the rho of the score that infinitely many
players would give, and `split_half`, the consistency of two halves of the players, which Spearman and Brown's formula
2 r / (1 + r) extends to all players. They are the same for every prediction.
"""

from __future__ import annotations

import numpy as np

from ...datasets.dataset import Sample
from ..crops import TEST_CROPS
from ..prediction import Prediction
from ..task import RowMetrics
from .memorability_score import MemorabilityScore

PROTOCOLS = tuple(TEST_CROPS)
"""Protocols differ in the crops of the image; the metrics are the same."""

RESAMPLES = 1000
"""Number of bootstrap resamples, drawn with a fixed seed."""

INTERVAL = (2.5, 97.5)
"""Percentiles of the confidence interval."""


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 along the last axis of (..., N) values; equal values have the mean of their ranks."""
    order = np.argsort(values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=-1)
    positions = np.broadcast_to(np.arange(values.shape[-1]), values.shape)
    starts = np.ones(values.shape, bool)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    ends = np.ones(values.shape, bool)
    ends[..., :-1] = starts[..., 1:]
    first = np.maximum.accumulate(np.where(starts, positions, 0), axis=-1)
    last = np.where(ends, positions, values.shape[-1] - 1)[..., ::-1]
    last = np.minimum.accumulate(last, axis=-1)[..., ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=-1)
    return ranks


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rho along the last axis of two arrays (..., N); nan where one of them is constant."""
    a, b = (ranks - ranks.mean(-1, keepdims=True) for ranks in (average_ranks(first), average_ranks(second)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def confidence_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of `spearman` of two (N,) arrays, by percentiles; nan if it is undefined.

    Resamples in which one of the two is constant are left out.
    """
    rng = np.random.default_rng(0)
    rows = max(1, 500_000 // len(first))  # few at a time: memory
    counts = [min(rows, RESAMPLES - start) for start in range(0, RESAMPLES, rows)]
    picks = (rng.integers(len(first), size=(count, len(first))) for count in counts)
    rho = np.concatenate([spearman(first[pick], second[pick]) for pick in picks])
    rho = rho[np.isfinite(rho)]
    low, high = np.percentile(rho, INTERVAL) if rho.size else (np.nan, np.nan)
    return float(low), float(high)


PLAYERS = ("expected_score", "first_half", "second_half")
"""Fields of a dataset that say how consistent its players are."""


class MemorabilityMetrics(RowMetrics):
    """rho with its interval rho_low to rho_high, mse, sd of the predictions, sd_ratio and samples.

    Where the dataset has the scores of two halves of the players and the expected score, also ceiling, split_half and
    split_half_all, which is split_half extended to all players.
    """

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        if not isinstance(prediction, MemorabilityScore):
            raise TypeError(f"memorability metrics need a MemorabilityScore, not {type(prediction).__name__}")
        scores = [float(ground_truth[name]) for name in ("score", *PLAYERS) if name in ground_truth]
        self.rows.append((prediction.value, *scores))

    def compute(self) -> dict[str, float]:
        if not self.rows:
            return {**dict.fromkeys(("rho", "rho_low", "rho_high", "mse", "sd", "sd_ratio"), np.nan), "samples": 0.0}
        # In one order, so that the resamples do not depend on how processes shared the images.
        predicted, scores, *players = np.array(sorted(self.rows)).T
        low, high = confidence_interval(predicted, scores)
        # Of equal values, numpy's standard deviation is a rounding error.
        sd, sd_of_scores = (float(values.std()) if np.ptp(values) else 0.0 for values in (predicted, scores))
        computed = {
            "rho": float(spearman(predicted, scores)),
            "rho_low": low,
            "rho_high": high,
            "mse": float(((predicted - scores) ** 2).mean()),
            "sd": sd,
            "sd_ratio": sd / sd_of_scores if sd_of_scores else np.nan,
            "samples": float(len(scores)),
        }
        if len(players) < len(PLAYERS):
            return computed
        expected, *halves = players
        split_half = float(spearman(*halves))
        return {
            **computed,
            "ceiling": float(spearman(expected, scores)),
            "split_half": split_half,
            "split_half_all": 2 * split_half / (1 + split_half),
        }
