"""Colorization metrics: AuC, PSNR and colorfulness."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...datasets.dataset import Sample
from ..prediction import Prediction
from ..task import RowMetrics
from .colorized_image import ColorizedImage
from .encoding import BINS, bin_counts, smoothed
from .lab import lab_of

MAX_THRESHOLD = 150
"""Largest of the thresholds 0, 1, ..., 150 on the distance in a and b."""

ROUNDING = (1 / 255) ** 2 / 12
"""The mean squared error of rounding to 8 bits: identical images score 58.9 dB, not infinity."""

PROTOCOLS = ("split-prior",)
"""Pixel weights of auc_rebalanced. "split-prior": 1 / p of the ground truth color, where p are the smoothed bin
frequencies over all evaluated pixels. So the weights are the same for every network and for the baseline, whatever
their training set; they change with the split and the number of samples, as the scores do. The paper's p is that of
ImageNet's training images."""


class ColorizationMetrics(RowMetrics):
    """auc, auc_rebalanced, psnr, colorfulness, colorfulness_of_ground_truth, clipped and samples.

    auc: mean over the thresholds of the fraction of pixels with an error in a and b up to the threshold, 0 to 1. psnr:
    dB of the 8-bit RGB image, averaged over images. colorfulness: see the function. clipped: fraction of pixels outside
    sRGB; auc is computed before clipping.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pixels, self._within = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Count one image, of which "image" is (H, W, 3).

        Raises:
            ValueError: the two differ in size.
        """
        if not isinstance(prediction, ColorizedImage):
            raise TypeError(f"colorization metrics need a ColorizedImage, not {type(prediction).__name__}")
        lab = lab_of(ground_truth["image"])
        if prediction.ab.shape[:2] != lab.shape[:2]:
            raise ValueError(
                f"a prediction of {prediction.ab.shape[:2]} cannot be compared with a ground truth of {lab.shape[:2]}"
            )
        ab = lab[..., 1:]
        self._pixels += bin_counts(ab)
        self._within += bin_counts(ab, thresholds_reached(prediction.ab, ab))
        predicted, target = prediction.to_image(), ColorizedImage(lab[..., 0], ab).to_image()
        row = psnr(predicted, target), colorfulness(predicted), colorfulness(target), float(prediction.clipped.mean())
        self.rows.append(row)

    def state(self) -> Any:
        return self._pixels.copy(), self._within.copy(), super().state()

    def merge(self, states: Iterable[Any]) -> None:
        states = list(states)
        super().merge(rows for _, _, rows in states)
        self._pixels, self._within = (
            sum((state[part] for state in states), np.zeros(BINS, np.int64)) for part in (0, 1)
        )

    def compute(self) -> dict[str, float]:
        names = ("psnr", "colorfulness", "colorfulness_of_ground_truth", "clipped")
        if not self.rows:
            return {**dict.fromkeys(("auc", "auc_rebalanced", *names), math.nan), "samples": 0.0}
        means = [math.fsum(column) / len(self.rows) for column in zip(*self.rows, strict=True)]
        weight = 1 / smoothed(self._pixels)
        reached, possible = self._within / (MAX_THRESHOLD + 1), self._pixels
        return {
            "auc": float(reached.sum() / possible.sum()),
            "auc_rebalanced": float((weight * reached).sum() / (weight * possible).sum()),
            **dict(zip(names, means, strict=True)),
            "samples": float(len(self.rows)),
        }


def thresholds_reached(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Number of thresholds 0, 1, ..., 150 not below the distance: two (H, W, 2) arrays to (H, W) int64."""
    distance = np.linalg.norm(prediction.astype(np.float64) - target, axis=-1)
    return np.maximum(MAX_THRESHOLD + 1 - np.ceil(distance), 0).astype(np.int64)


def psnr(prediction: np.ndarray, target: np.ndarray) -> float:
    """PSNR of two (H, W, 3) uint8 images over all channels, in dB; at most 58.9."""
    error = np.mean(((prediction.astype(np.float64) - target) / 255) ** 2)
    return -10 * math.log10(max(float(error), ROUNDING))


def colorfulness(image: np.ndarray) -> float:
    """Colorfulness of an (H, W, 3) uint8 RGB image: 0 for gray, about 33 for moderately and 82 for highly colorful
    photos.

    Source: Hasler, Süsstrunk: Measuring colorfulness in natural images. SPIE 2003, metric M3.
    """
    red, green, blue = np.moveaxis(image.astype(np.float64), -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean())
