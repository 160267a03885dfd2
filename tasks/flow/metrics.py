"""Scores of optical flow, each under a named protocol.

For f the estimated and g the true motion of a pixel, e = ||f - g|| is its end-point error:

    epe                        the mean of e, pixels (Otte, Nagel 1994)
    epe_visible, epe_occluded  over the pixels that the second picture shows, and over those that it does not
    s0-10, s10-40, s40+        over ||g|| < 10, 10 <= ||g|| < 40 and 40 <= ||g|| pixels (Butler et al. 2012, Sintel)
    1px, 3px, 5px              shares in [0, 1] of pixels with e above 1, 3 and 5 pixels (Geiger et al. 2012, KITTI)
    fl_all                     percent of pixels with e > 3 pixels and e > 5 % of ||g|| (Menze, Geiger 2015, KITTI)

Lower is better everywhere. Convention: f and g are in pixels of the original picture, g is nan where unknown and such
pixels count nothing; all others do, occluded ones too. An f that is nan where g is known makes e nan and every share
count it as wrong. Everything is computed in float64. Scores do not depend on the order of the samples or on how
processes share them: sums are exact.

What no pixel counts for has no score: a set that does not say what is visible leaves epe_visible and epe_occluded out,
a set of small motions s40+. Only epe, which is watched, is always there, nan where nothing was counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...datasets.dataset import Sample
from ...errors import unknown_name
from ..task import Metrics, Prediction
from .flow_field import FlowField

Averaging = Literal["pooled", "per-image"]
"""One mean over the pixels of all pictures, or the mean of the pictures' scores."""

ERRORS = ("epe", "epe_visible", "epe_occluded", "s0-10", "s10-40", "s40+")
SHARES = ("1px", "3px", "5px", "fl_all")

FL_PIXELS, FL_SHARE = 3.0, 0.05
"""An outlier of KITTI is farther off than both: pixels, and a share of the true motion."""


@dataclass(frozen=True)
class Protocol:
    """How pixels are averaged.

    Attributes:
        name: printed with every score.
        errors: of the mean errors, pixels.
        shares: of the shares of wrong pixels. A picture counts by its known pixels where they are pooled.
    """

    name: str
    errors: Averaging
    shares: Averaging


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # Chairs, Things and Sintel, whose pictures are all of one size and known everywhere.
        Protocol("pixels", errors="pooled", shares="pooled"),
        # As RAFT's script scores KITTI; averaging both alike shifts one of the two.
        Protocol("kitti", errors="per-image", shares="pooled"),
        # Middlebury's tables average over its few pictures.
        Protocol("pictures", errors="per-image", shares="per-image"),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        UserError: no such protocol; the nearest name is offered.
    """
    if name not in PROTOCOLS:
        raise unknown_name("flow protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


class FlowMetrics(Metrics):
    """The scores of this page and samples, under one protocol."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self._rows: list[np.ndarray] = []

    def update(self, prediction: Prediction, truth: Sample) -> None:
        """Count one picture. One without a known pixel is left out.

        Args:
            prediction: a `FlowField` of (H, W, 2) pixels.
            truth: a sample whose "flow" is (H, W, 2) pixels, nan where unknown, and whose "visible", where the set
                knows it, is (H, W) bool.

        Raises:
            ValueError: the two differ in size.
        """
        if not isinstance(prediction, FlowField):
            raise TypeError(f"flow is judged on a FlowField, not on a {type(prediction).__name__}")
        f, g, visible = prediction.vectors, truth["flow"], truth.get("visible")
        if f.shape != g.shape:
            raise ValueError(f"a prediction of {f.shape} cannot be compared with a truth of {g.shape}")
        known = np.isfinite(g).all(axis=-1)
        if known.any():
            seen = None if visible is None else visible[known]
            self._rows.append(_counts_and_sums(f[known].astype(np.float64), g[known].astype(np.float64), seen))

    def state(self) -> list[np.ndarray]:
        """One table of counts and sums per counted picture."""
        return list(self._rows)

    def merge(self, states: Iterable[list[np.ndarray]]) -> None:
        """See `Metrics.merge`."""
        self._rows = [row for state in states for row in state]

    def compute(self) -> dict[str, float]:
        """Every score that a pixel counts for, by name; `samples` is how many pictures counted."""
        rows = np.array(self._rows, dtype=np.float64).reshape(-1, len(ERRORS) + len(SHARES), 2)
        scores: dict[str, float] = {}
        for place, name in enumerate((*ERRORS, *SHARES)):
            score = _mean(rows[:, place], self.protocol.errors if name in ERRORS else self.protocol.shares)
            if score is not None:
                scores[name] = score
        return {"epe": math.nan, **scores, "samples": float(len(rows))}


def _counts_and_sums(f: np.ndarray, g: np.ndarray, visible: np.ndarray | None) -> np.ndarray:
    """One picture's table: for every score how many pixels it counts, and the sum of what it counts of them.

    Args:
        f, g: (N, 2) float64, estimated and true motions of the known pixels.
        visible: (N,) bool; None where the set does not say.
    """
    error, length = np.hypot(*(f - g).T), np.hypot(*g.T)
    nowhere = np.zeros(len(g), bool)
    regions = (
        ~nowhere,
        nowhere if visible is None else visible,
        nowhere if visible is None else ~visible,
        length < 10,
        (length >= 10) & (length < 40),
        length >= 40,
    )
    # What is not known to be near is far: nan compares false.
    outlier = ~((error <= FL_PIXELS) | (error <= FL_SHARE * length))
    wrong = (*(~(error <= pixels) for pixels in (1, 3, 5)), 100 * outlier)
    return np.array(
        [(np.count_nonzero(region), error[region].sum()) for region in regions]
        + [(len(g), value.sum()) for value in wrong],
        dtype=np.float64,
    )


def _mean(rows: np.ndarray, averaging: Averaging) -> float | None:
    """(N, 2) counts and sums of N pictures to one mean, rounded once; None where nothing was counted."""
    counts, sums = rows[rows[:, 0] > 0].T
    if not len(counts):
        return None
    if averaging == "pooled":
        return math.fsum(sums) / math.fsum(counts)
    return math.fsum(sums / counts) / len(counts)
