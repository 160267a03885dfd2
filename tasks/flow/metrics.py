"""Metrics of optical flow, by protocol: end-point error and outlier rates.

For predicted flow f and ground truth g of a pixel, e = ||f - g|| is its end-point error:

    epe                        mean of e, pixels (Otte, Nagel 1994)
    epe_visible, epe_occluded  over the pixels that are visible in the second image, and over those that are not
    s0-10, s10-40, s40+        over ||g|| < 10, 10 <= ||g|| < 40 and 40 <= ||g|| pixels (Butler et al. 2012, Sintel)
    1px, 3px, 5px              fractions in [0, 1] of pixels with e above 1, 3 and 5 pixels (Geiger et al. 2012, KITTI)
    fl_all                     percent of pixels with e > 3 pixels and e > 5 % of ||g|| (Menze, Geiger 2015, KITTI)

Lower is better for all of them. Convention: f and g are in pixels of the original image. Pixels where g is unknown
(nan) are ignored; all others count, occluded ones too. Where g is known and f is nan, e is nan and the pixel counts as
wrong. Everything is computed in float64. Scores do not depend on the order of the samples or on their distribution over
processes: sums are exact.

A score to which no pixel contributes is left out: epe_visible and epe_occluded for datasets without visibility, s40+
for datasets of small motion. Only epe, the monitored metric, is always present, nan if nothing was counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...datasets.dataset import Sample
from ...datasets.field_types import FieldType
from ..prediction import Prediction
from ..task import RowMetrics, Table
from .flow_field import FlowField

Averaging = Literal["pooled", "per-image"]
"""One mean over the pixels of all images, or the mean of the scores per image."""

ERRORS = ("epe", "epe_visible", "epe_occluded", "s0-10", "s10-40", "s40+")
OUTLIER_RATES = ("1px", "3px", "5px", "fl_all")

FL_ABSOLUTE, FL_RELATIVE = 3.0, 0.05
"""KITTI's outliers exceed both errors: in pixels, and as a share of the length of the true motion."""


@dataclass(frozen=True)
class Protocol:
    """How pixels are averaged.

    Attributes:
        name: registry name.
        errors: averaging of the errors in pixels.
        outlier_rates: averaging of the outlier rates. With "pooled", images are weighted by their known pixels.
    """

    name: str
    errors: Averaging
    outlier_rates: Averaging


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # Chairs, Things and Sintel: all images have the same size and dense ground truth.
        Protocol("pixel-mean", errors="pooled", outlier_rates="pooled"),
        # As in RAFT's script for KITTI; the same averaging for both would change one of the two.
        Protocol("kitti", errors="per-image", outlier_rates="pooled"),
        # Middlebury's tables average over images.
        Protocol("image-mean", errors="per-image", outlier_rates="per-image"),
    )
}


class FlowMetrics(RowMetrics):
    """The metrics above, and `samples`, under one protocol."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__()
        self.protocol = protocol

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Count one image; images without a known pixel are ignored.

        The sample has "flow", (H, W, 2) pixels, nan where unknown, and optionally "visible", (H, W) bool.

        Raises:
            ValueError: the sizes differ.
            TypeError: the prediction is not a `FlowField`.
        """
        if not isinstance(prediction, FlowField):
            raise TypeError(f"flow metrics need a FlowField, not a {type(prediction).__name__}")
        f, g, visible = prediction.vectors, ground_truth["flow"], ground_truth.get("visible")
        if f.shape != g.shape:
            raise ValueError(f"the prediction has the shape {f.shape}, the ground truth {g.shape}")
        # Component by component: NumPy is slow at reductions over an axis of two.
        known = np.isfinite(g[..., 0]) & np.isfinite(g[..., 1])
        if not known.any():
            return
        if known.all():
            known = np.s_[:, :]
        f, g = (each[known].astype(np.float64).reshape(-1, 2) for each in (f, g))
        self.rows.append(_pixel_sums(f, g, None if visible is None else visible[known].ravel()))

    def compute(self) -> dict[str, float]:
        rows = np.array(self.rows, dtype=np.float64).reshape(-1, len(ERRORS) + len(OUTLIER_RATES), 2)
        scores: dict[str, float] = {}
        for index, name in enumerate((*ERRORS, *OUTLIER_RATES)):
            score = _mean(rows[:, index], self.protocol.errors if name in ERRORS else self.protocol.outlier_rates)
            if score is not None:
                scores[name] = score
        return {"epe": math.nan, **scores, "samples": float(len(rows))}

    def tables(self, fields: dict[str, FieldType]) -> dict[str, Table]:
        """Pixels and mean end-point error by the length of the true flow, pooled over all images."""
        counts, sums = np.sum(self.rows, axis=0)[3 : len(ERRORS)].T if self.rows else np.zeros((2, 3))
        ranges = ("below 10 px", "10 to 40 px", "40 px and above")
        with np.errstate(invalid="ignore"):
            means = sums / counts
        return {
            "speeds": [
                {"flow": name, "pixels": int(count), "epe": float(mean)}
                for name, count, mean in zip(ranges, counts, means, strict=True)
            ]
        }


def _pixel_sums(f: np.ndarray, g: np.ndarray, visible: np.ndarray | None) -> np.ndarray:
    """Table of one image, (scores, 2): for every score the number of its pixels and the sum of their values.

    `f` and `g` are (N, 2) float64, `visible` is (N,) bool or None, all of the known pixels.
    """
    error, length = _lengths(f - g), _lengths(g)
    seen = [(0, 0.0), (0, 0.0)] if visible is None else _counts_and_sums(error, visible.astype(np.int8), 2)[::-1]
    speeds = _counts_and_sums(error, (length >= 10).view(np.int8) + (length >= 40).view(np.int8), 3)
    # Comparisons with nan are False: a nan counts as an outlier.
    wrong = [len(g) - np.count_nonzero(error <= pixels) for pixels in (1, 3, 5)]
    outliers = len(g) - np.count_nonzero((error <= FL_ABSOLUTE) | (error <= FL_RELATIVE * length))
    rates = [(len(g), value) for value in (*wrong, 100 * outliers)]
    return np.array([(len(g), error.sum()), *seen, *speeds, *rates], dtype=np.float64)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Lengths of (N, 2) vectors in pixels, whose squares float64 holds: ten times as fast as `hypot`."""
    return np.sqrt(np.einsum("ij,ij->i", vectors, vectors))


def _counts_and_sums(values: np.ndarray, region: np.ndarray, regions: int) -> list[tuple[int, float]]:
    """For every region, by number: how many of the (N,) values are in it, and their sum."""
    sums = np.bincount(region, values, regions)
    return list(zip(np.bincount(region, minlength=regions).tolist(), sums.tolist(), strict=True))


def _mean(rows: np.ndarray, averaging: Averaging) -> float | None:
    """Mean of (N, 2) counts and sums of N images, rounded once; None if nothing was counted."""
    counts, sums = rows[rows[:, 0] > 0].T
    if not len(counts):
        return None
    if averaging == "pooled":
        return math.fsum(sums) / math.fsum(counts)
    return math.fsum(sums / counts) / len(counts)
