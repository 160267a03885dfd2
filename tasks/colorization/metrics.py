"""Scores of colours. A score means nothing without its protocol: every result carries the protocol's name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...datasets.dataset import Sample
from ..task import Metrics, Prediction
from .bins import BINS
from .colours import Colours
from .encoding import bin_counts, smoothed
from .lab import lab_of

LARGEST = 150
"""Of the thresholds 0, 1, ..., 150 on the distance of two colours in a and b."""

ROUNDING = (1 / 255) ** 2 / 12
"""The mean squared error of rounding to 8 bits: pictures that agree score 58.9 dB, not infinity."""

PROTOCOLS = ("split-prior",)
"""How auc_rebalanced weighs a pixel. "split-prior": by 1 / p of its true colour, where p is how often the bins occur
among all the pixels that are scored, smoothed as in training. So the weights are the same for every network and for
the trivial answer, whatever these were trained on; they change with the split and with the number of samples, as the
scores themselves do. The paper's p is that of ImageNet's training pictures."""


class ColourMetrics(Metrics):
    """auc, auc_rebalanced, psnr, colourfulness, colourfulness_of_truth, clipped and samples.

    auc: over the thresholds, the mean share of pixels whose a and b are no farther off, from 0 to 1. psnr: dB of the
    8-bit RGB picture, averaged over pictures. colourfulness: see the function. clipped: share of the pixels whose
    colour lies outside sRGB; auc is taken before they are clipped.
    """

    def __init__(self) -> None:
        self._pixels, self._within = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
        self._rows: list[tuple[float, ...]] = []

    def update(self, prediction: Prediction, truth: Sample) -> None:
        """Count one picture.

        Args:
            prediction: `Colours` of (H, W).
            truth: a sample whose "image" is (H, W, 3).

        Raises:
            ValueError: the two differ in size.
        """
        if not isinstance(prediction, Colours):
            raise TypeError(f"colours are judged on Colours, not on {type(prediction).__name__}")
        lab = lab_of(truth["image"])
        if prediction.ab.shape[:2] != lab.shape[:2]:
            raise ValueError(f"an answer of {prediction.ab.shape[:2]} cannot be judged by one of {lab.shape[:2]}")
        ab = lab[..., 1:]
        self._pixels += bin_counts(ab)
        self._within += bin_counts(ab, thresholds_reached(prediction.ab, ab))
        answered, true = prediction.picture(), Colours(lab[..., 0], ab).picture()
        row = psnr(answered, true), colourfulness(answered), colourfulness(true), float(prediction.clipped.mean())
        self._rows.append(row)

    def state(self) -> Any:
        """Per bin its pixels and the thresholds they reached, and one row of scores per picture."""
        return self._pixels.copy(), self._within.copy(), list(self._rows)

    def merge(self, states: Iterable[Any]) -> None:
        """See `Metrics.merge`."""
        states = list(states)
        self._pixels, self._within = (
            sum((state[part] for state in states), np.zeros(BINS, np.int64)) for part in (0, 1)
        )
        self._rows = [row for state in states for row in state[2]]

    def compute(self) -> dict[str, float]:
        """Every score by name; `samples` is how many pictures counted. nan where none did."""
        names = ("psnr", "colourfulness", "colourfulness_of_truth", "clipped")
        if not self._rows:
            return {**dict.fromkeys(("auc", "auc_rebalanced", *names), math.nan), "samples": 0.0}
        means = [math.fsum(column) / len(self._rows) for column in zip(*self._rows, strict=True)]
        weight = 1 / smoothed(self._pixels)
        reached, possible = self._within / (LARGEST + 1), self._pixels
        return {
            "auc": float(reached.sum() / possible.sum()),
            "auc_rebalanced": float((weight * reached).sum() / (weight * possible).sum()),
            **dict(zip(names, means, strict=True)),
            "samples": float(len(self._rows)),
        }


def thresholds_reached(answer: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How many of the thresholds 0, 1, ..., 150 are no smaller than the distance: (H, W, 2) twice to (H, W) int64."""
    distance = np.linalg.norm(answer.astype(np.float64) - truth, axis=-1)
    return np.maximum(LARGEST + 1 - np.ceil(distance), 0).astype(np.int64)


def psnr(answer: np.ndarray, truth: np.ndarray) -> float:
    """dB between (H, W, 3) uint8 pictures over all three channels, range 0..1; at most 58.9."""
    error = np.mean(((answer.astype(np.float64) - truth) / 255) ** 2)
    return -10 * math.log10(max(float(error), ROUNDING))


def colourfulness(picture: np.ndarray) -> float:
    """Of (H, W, 3) uint8 RGB: 0 for grey, about 33 for a moderately and 82 for a highly colourful photograph.

    Source: Hasler, Süsstrunk: Measuring colourfulness in natural images. SPIE 2003, metric M3.
    """
    red, green, blue = np.moveaxis(picture.astype(np.float64), -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean())
