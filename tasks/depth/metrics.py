"""Scores of depth estimation, each under a named protocol.

abs_rel = mean |p - g| / g; sq_rel = mean (p - g)² / g; rms = √mean (p - g)²; rms_log = √mean d², d = ln p - ln g;
log10 = mean |log10 p - log10 g|; silog = 100 √(mean d² - (mean d)²); delta_k = share of max(p / g, g / p) < 1.25^k.
Eigen, Puhrsch, Fergus 2014 (arXiv:1406.2283), section 4; Geiger's KITTI development kit for silog.

Convention: p is the prediction and g the truth, metres, nan or 0 where the truth is unknown. The order is resize,
align, clamp, mask, error. Everything is computed in float64. Scores do not depend on the order of the samples or on
how processes share them: sums are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...datasets.dataset import Sample
from ...datasets.geometry import plain_resize, warp_nearest, warp_picture
from ...errors import UserError, unknown_name
from ..task import Metrics, Prediction
from .depth_map import DepthMap

Crop = Callable[[int, int], tuple[slice, slice]]
"""(height, width) of a picture to the rows and columns that count."""

LOG_FLOOR = 1e-3
"""Metres; predictions are clamped here before logarithms and ratios, since a ReLU can answer exact 0."""

DELTA = 1.25
NYU_SIZE = (480, 640)


@dataclass(frozen=True)
class Protocol:
    """What counts, and how it is averaged.

    Attributes:
        name: printed with every score.
        min_depth, max_depth: metres; a pixel counts where its truth lies strictly between.
        crop: which part of the picture counts; None for all of it.
        clamp: metres; the prediction is brought into this range. None leaves it.
        align: "median" multiplies each prediction by median g / median p over the pixels that count.
        averaging: "pooled" is one mean over the pixels of all pictures, "per-image" the mean of the pictures' scores.
        resize: (height, width) at which truth (nearest) and prediction (bilinear) are compared; None compares at the
            truth's own size.
    """

    name: str
    min_depth: float = 0.0
    max_depth: float = math.inf
    crop: Crop | None = None
    clamp: tuple[float, float] | None = None
    align: Literal["median"] | None = None
    averaging: Literal["pooled", "per-image"] = "pooled"
    resize: tuple[int, int] | None = None


def nyu_bts_crop(height: int, width: int) -> tuple[slice, slice]:
    """The Eigen crop as BTS and its successors cut it: 426 x 560 of 480 x 640."""
    _require_nyu(height, width)
    return slice(45, 471), slice(41, 601)


def nyu_toolbox_crop(height: int, width: int) -> tuple[slice, slice]:
    """The same crop in the toolbox's numbers, which count from 1 and include the end: 427 x 561."""
    _require_nyu(height, width)
    return slice(44, 471), slice(40, 601)


def garg_crop(height: int, width: int) -> tuple[slice, slice]:
    """Garg et al. 2016 on KITTI: rows 153:371 and columns 44:1197 of 375 x 1242."""
    return (
        slice(int(0.40810811 * height), int(0.99189189 * height)),
        slice(int(0.03594771 * width), int(0.96405229 * width)),
    )


def kitti_eigen_crop(height: int, width: int) -> tuple[slice, slice]:
    """Eigen et al. 2014 on KITTI: rows 124:342 and columns 44:1197 of 375 x 1242."""
    return (
        slice(int(0.3324324 * height), int(0.91351351 * height)),
        slice(int(0.0359477 * width), int(0.96405229 * width)),
    )


def kitti_benchmark_crop(height: int, width: int) -> tuple[slice, slice]:
    """The benchmark's frame: the bottom 352 rows, 1216 columns about the centre; all of a smaller picture."""
    top, left = max(height - 352, 0), max((width - 1216) // 2, 0)
    return slice(top, height), slice(left, left + min(1216, width))


def _require_nyu(height: int, width: int) -> None:
    if (height, width) != NYU_SIZE:
        raise UserError(
            f"NYU's crop is made for pictures of 480x640, this one has {height}x{width}; use the protocol all-pixels."
        )


def with_median(protocol: Protocol) -> Protocol:
    """The protocol after median alignment, for networks that know depth up to a factor."""
    return replace(protocol, name=f"{protocol.name}+median", align="median")


def _kitti(name: str, crop: Crop, near: float, far: float) -> Protocol:
    return Protocol(name, near, far, crop=crop, clamp=(near, far), averaging="per-image")


_NYU = Protocol("", 1e-3, 10.0, clamp=(1e-3, 10.0), averaging="per-image")
_PLAIN = (
    Protocol("all-pixels"),
    # Laina's script: every in-painted pixel of 480 x 640.
    Protocol("nyu-laina"),
    replace(_NYU, name="nyu-eigen-bts", crop=nyu_bts_crop),
    replace(_NYU, name="nyu-eigen-toolbox", crop=nyu_toolbox_crop),
    _kitti("kitti-garg-80", garg_crop, 1e-3, 80.0),
    _kitti("kitti-garg-50", garg_crop, 1.0, 50.0),
    _kitti("kitti-eigen-80", kitti_eigen_crop, 1e-3, 80.0),
    _kitti("kitti-kb-80", kitti_benchmark_crop, 1e-3, 80.0),
    # C1 counts what is nearer than 70 m; C2 counts every pixel, predictions capped near the laser's reach.
    Protocol("make3d-c1", max_depth=70.0, resize=(460, 345)),
    Protocol("make3d-c2", clamp=(0.0, 80.0), resize=(460, 345)),
)
PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for plain in _PLAIN for protocol in (plain, with_median(plain))
}


def find_protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        UserError: no such protocol; the nearest name is offered.
    """
    if name not in PROTOCOLS:
        raise unknown_name("depth protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


class DepthMetrics(Metrics):
    """abs_rel, sq_rel, rms, rms_log, log10, silog, delta1, delta2, delta3 and samples, under one protocol."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self._sums: list[np.ndarray] = []

    def update(self, prediction: Prediction, truth: Sample) -> None:
        """Count one picture. One without a pixel that counts is left out.

        Args:
            prediction: a `DepthMap` of (H, W) metres.
            truth: a sample whose "depth" is (H, W) metres, nan or 0 where unknown.

        Raises:
            ValueError: the two differ in size.
            UserError: the protocol's crop is made for another size.
        """
        if not isinstance(prediction, DepthMap):
            raise TypeError(f"depth is judged on a DepthMap, not on {type(prediction).__name__}")
        p, g = compared_pixels(prediction.metres, truth["depth"], self.protocol)
        if g.size:
            self._sums.append(_error_sums(p, g))

    def state(self) -> list[np.ndarray]:
        """One row of sums per counted picture."""
        return list(self._sums)

    def merge(self, states: Iterable[list[np.ndarray]]) -> None:
        """See `Metrics.merge`."""
        self._sums = [row for state in states for row in state]

    def compute(self) -> dict[str, float]:
        """Every score by name; `samples` is how many pictures counted. nan where none did."""
        rows = np.array(self._sums, dtype=np.float64).reshape(-1, 1 + _ERRORS)
        scores = _scores(_exact_sums(rows)[None] if self.protocol.averaging == "pooled" else rows)
        means = _exact_sums(scores) / len(scores) if len(rows) else np.full(len(_NAMES), np.nan)
        return {**dict(zip(_NAMES, means.tolist(), strict=True)), "samples": float(len(rows))}


def compared_pixels(metres: np.ndarray, truth: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """The pixels that count: prediction and truth after resize, alignment, clamp and mask.

    Args:
        metres: (H, W) prediction.
        truth: (H, W), nan or 0 where unknown.
        protocol: what counts.

    Returns:
        Two (N,) float64 arrays.
    """
    if metres.shape != truth.shape:
        raise ValueError(f"a prediction of {metres.shape} cannot be compared with a truth of {truth.shape}")
    if protocol.resize is not None:
        matrix = plain_resize((truth.shape[0], truth.shape[1]), protocol.resize).matrix()
        truth = warp_nearest(truth, matrix, protocol.resize, np.nan)
        metres = warp_picture(metres, matrix, protocol.resize)
    if protocol.crop is not None:
        where = protocol.crop(truth.shape[0], truth.shape[1])
        metres, truth = metres[where], truth[where]
    # nan compares false.
    mask = (truth > protocol.min_depth) & (truth < protocol.max_depth)
    p, g = metres[mask].astype(np.float64), truth[mask].astype(np.float64)
    if protocol.align == "median" and g.size:
        p *= np.median(g) / max(float(np.median(p)), LOG_FLOOR)
    if protocol.clamp is not None:
        p = np.clip(p, *protocol.clamp)
    return p, g


_NAMES = ("abs_rel", "sq_rel", "rms", "rms_log", "log10", "silog", "delta1", "delta2", "delta3")
_ERRORS = 9


def _error_sums(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """(1 + 9,) count and sums over the pixels, in the order that `_scores` reads."""
    floored = np.maximum(p, LOG_FLOOR)
    error, d = p - g, np.log(floored) - np.log(g)
    ratio = np.maximum(floored / g, g / floored)
    return np.array(
        [
            g.size,
            np.sum(np.abs(error) / g),
            np.sum(error**2 / g),
            np.sum(error**2),
            np.sum(d**2),
            np.sum(d),
            np.sum(np.abs(d)) / math.log(10),
            *(np.sum(ratio < DELTA**power) for power in (1, 2, 3)),
        ],
        dtype=np.float64,
    )


def _scores(sums: np.ndarray) -> np.ndarray:
    """(N, 1 + 9) counts and sums to (N, 9) scores in the order of `_NAMES`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        abs_rel, sq_rel, square, log_square, log, log10, *deltas = (sums[:, 1:] / sums[:, :1]).T
    # Rounding can leave a variance just below 0.
    silog = 100 * np.sqrt(np.maximum(log_square - log**2, 0))
    return np.stack([abs_rel, sq_rel, np.sqrt(square), np.sqrt(log_square), log10, silog, *deltas], axis=1)


def _exact_sums(rows: np.ndarray) -> np.ndarray:
    """Column sums, rounded once: the same for every order of the rows."""
    return np.array([math.fsum(column) for column in rows.T])
