"""Metrics of depth estimation and their protocols.

abs_rel = mean |p - g| / g; sq_rel = mean (p - g)² / g; rmse = √mean (p - g)²; rmse_log = √mean d², d = ln p - ln g;
log10 = mean |log10 p - log10 g|; silog = 100 √(mean d² - (mean d)²); delta_k = share of max(p / g, g / p) < 1.25^k.
Eigen, Puhrsch, Fergus 2014 (arXiv:1406.2283), section 4; Geiger's KITTI development kit for silog.

Convention: p is the prediction and g the ground truth in meters, nan or 0 where unknown. The order is resize, align,
clamp, mask, error, in float64. Sums are exact: scores do not depend on the order of the samples or on their
distribution over processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from ...datasets.core.geometry import plain_resize, warp_image, warp_nearest
from ...datasets.dataset import Sample
from ...datasets.field_types import FieldType
from ...errors import UserError
from ..prediction import Prediction
from ..task import RowMetrics, Table
from .depth_map import DepthMap

Crop = Callable[[int, int], tuple[slice, slice]]
"""(height, width) of an image to the rows and columns of the evaluated crop."""

LOG_FLOOR = 1e-3
"""Minimum of predictions in meters before logarithms and ratios, since they can be 0 after a ReLU."""

DELTA = 1.25
NYU_SIZE = (480, 640)


@dataclass(frozen=True)
class Protocol:
    """Evaluated pixels, and how their errors are averaged.

    Attributes:
        name: name that is printed with every score.
        min_depth, max_depth: meters; a pixel is evaluated if its ground truth is strictly between them.
        crop: evaluated crop; None: the full image.
        clamp: (minimum, maximum) in meters to which predictions are clamped; None: no clamping.
        align: "median" multiplies each prediction by median g / median p over the evaluated pixels.
        averaging: "pooled" is one mean over the pixels of all images, "per-image" the mean of the scores of the images.
        resize: (height, width) to which ground truth (nearest) and prediction (bilinear) are resized; None: the size of
            the ground truth.
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
    """Eigen crop of NYU in the version of BTS and its successors: 426 x 560 of 480 x 640."""
    _require_nyu(height, width)
    return slice(45, 471), slice(41, 601)


def nyu_toolbox_crop(height: int, width: int) -> tuple[slice, slice]:
    """Eigen crop of NYU in the version of the toolbox, with indices from 1 and the end included: 427 x 561."""
    _require_nyu(height, width)
    return slice(44, 471), slice(40, 601)


def garg_crop(height: int, width: int) -> tuple[slice, slice]:
    """Crop of Garg et al. 2016 on KITTI: rows 153:371 and columns 44:1197 of 375 x 1242."""
    return (
        slice(int(0.40810811 * height), int(0.99189189 * height)),
        slice(int(0.03594771 * width), int(0.96405229 * width)),
    )


def kitti_eigen_crop(height: int, width: int) -> tuple[slice, slice]:
    """Crop of Eigen et al. 2014 on KITTI: rows 124:342 and columns 44:1197 of 375 x 1242."""
    return (
        slice(int(0.3324324 * height), int(0.91351351 * height)),
        slice(int(0.0359477 * width), int(0.96405229 * width)),
    )


def kitti_benchmark_crop(height: int, width: int) -> tuple[slice, slice]:
    """Crop of the KITTI benchmark: the bottom 352 rows and the central 1216 columns; all of a smaller image."""
    top, left = max(height - 352, 0), max((width - 1216) // 2, 0)
    return slice(top, height), slice(left, left + min(1216, width))


def _require_nyu(height: int, width: int) -> None:
    if (height, width) != NYU_SIZE:
        raise UserError(
            f"The NYU crop is defined for images of 480x640, not {height}x{width}; use the protocol all-pixels."
        )


def with_median(protocol: Protocol) -> Protocol:
    """The protocol with median alignment, for models that predict depth up to scale."""
    return replace(protocol, name=f"{protocol.name}+median", align="median")


def _kitti(name: str, crop: Crop, near: float, far: float) -> Protocol:
    return Protocol(name, near, far, crop=crop, clamp=(near, far), averaging="per-image")


_NYU = Protocol("", 1e-3, 10.0, clamp=(1e-3, 10.0), averaging="per-image")
_PLAIN = (
    Protocol("all-pixels"),
    # As in the script of Laina et al.: every in-painted pixel of 480 x 640.
    Protocol("nyu-laina"),
    replace(_NYU, name="nyu-eigen-bts", crop=nyu_bts_crop),
    replace(_NYU, name="nyu-eigen-toolbox", crop=nyu_toolbox_crop),
    _kitti("kitti-garg-80", garg_crop, 1e-3, 80.0),
    _kitti("kitti-garg-50", garg_crop, 1.0, 50.0),
    _kitti("kitti-eigen-80", kitti_eigen_crop, 1e-3, 80.0),
    _kitti("kitti-kb-80", kitti_benchmark_crop, 1e-3, 80.0),
    # C1 evaluates pixels nearer than 70 m; C2 evaluates all, with predictions clamped near the range of the laser.
    Protocol("make3d-c1", max_depth=70.0, resize=(460, 345)),
    Protocol("make3d-c2", clamp=(0.0, 80.0), resize=(460, 345)),
)
PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for plain in _PLAIN for protocol in (plain, with_median(plain))
}


class DepthMetrics(RowMetrics):
    """abs_rel, sq_rel, rmse, rmse_log, log10, silog, delta1, delta2, delta3 and samples, under one protocol."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__()
        self.protocol = protocol

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Add one image; it does not count if it has no evaluated pixel.

        The sample has "depth", (H, W) in meters, nan or 0 where unknown.

        Raises:
            ValueError: the sizes differ.
            UserError: the crop of the protocol is defined for another size.
        """
        if not isinstance(prediction, DepthMap):
            raise TypeError(f"depth metrics need a DepthMap, not {type(prediction).__name__}")
        p, g = valid_pixels(prediction.meters, ground_truth["depth"], self.protocol)
        if g.size:
            self.rows.append(np.concatenate([_error_sums(p, g), _range_sums(p, g).ravel()]))

    def compute(self) -> dict[str, float]:
        rows = np.array(self.rows, dtype=np.float64).reshape(-1, _COLUMNS)[:, : 1 + _ERRORS]
        scores = _scores(_exact_sums(rows)[None] if self.protocol.averaging == "pooled" else rows)
        means = _exact_sums(scores) / len(scores) if len(rows) else np.full(len(_NAMES), np.nan)
        return {**dict(zip(_NAMES, means.tolist(), strict=True)), "samples": float(len(rows))}

    def tables(self, fields: dict[str, FieldType]) -> dict[str, Table]:
        """Pixels, abs_rel and rmse by the true depth, pooled over all images; ranges without a pixel are left out."""
        rows = np.array(self.rows, dtype=np.float64).reshape(-1, _COLUMNS)[:, 1 + _ERRORS :]
        ends = (*(f"{near:g} to {far:g} m" for near, far in pairwise(RANGES)), f"{RANGES[-1]:g} m and above")
        return {
            "ranges": [
                {"depth": name, "pixels": int(count), "abs_rel": relative / count, "rmse": math.sqrt(square / count)}
                for name, (count, relative, square) in zip(ends, rows.sum(axis=0).reshape(-1, 3).tolist(), strict=True)
                if count
            ]
        }


def valid_pixels(meters: np.ndarray, ground_truth: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Evaluated pixels of prediction and ground truth, after resize, alignment, clamp and mask.

    Args:
        meters: (H, W) prediction.
        ground_truth: (H, W), nan or 0 where unknown.
        protocol: the protocol.

    Returns:
        Two (N,) float64 arrays.

    Raises:
        ValueError: the shapes differ.
    """
    if meters.shape != ground_truth.shape:
        raise ValueError(f"prediction {meters.shape} and ground truth {ground_truth.shape} differ in size")
    if protocol.resize is not None:
        matrix = plain_resize((ground_truth.shape[0], ground_truth.shape[1]), protocol.resize).matrix()
        ground_truth = warp_nearest(ground_truth, matrix, protocol.resize, np.nan)
        meters = warp_image(meters, matrix, protocol.resize)
    if protocol.crop is not None:
        crop = protocol.crop(ground_truth.shape[0], ground_truth.shape[1])
        meters, ground_truth = meters[crop], ground_truth[crop]
    # Comparisons with nan are false.
    mask = (ground_truth > protocol.min_depth) & (ground_truth < protocol.max_depth)
    p, g = meters[mask].astype(np.float64), ground_truth[mask].astype(np.float64)
    if protocol.align == "median" and g.size:
        p *= np.median(g) / max(float(np.median(p)), LOG_FLOOR)
    if protocol.clamp is not None:
        p = np.clip(p, *protocol.clamp)
    return p, g


_NAMES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "delta1", "delta2", "delta3")
_ERRORS = 9
RANGES = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""Beginnings of the ranges of true depth in the table of a score, in meters."""
_COLUMNS = 1 + _ERRORS + 3 * len(RANGES)


def _error_sums(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """(1 + 9,) count and sums over the pixels, in the order that `_scores` expects."""
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


def _range_sums(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """(ranges, 3) count, and sums of |p - g| / g and (p - g)², by the range of the true depth."""
    index = np.searchsorted(RANGES, g, side="right") - 1
    weights = (None, np.abs(p - g) / g, (p - g) ** 2)
    return np.stack([np.bincount(index, weight, minlength=len(RANGES)) for weight in weights], axis=-1)


def _scores(sums: np.ndarray) -> np.ndarray:
    """Convert counts and sums (N, 1 + 9) to scores (N, 9) in the order of `_NAMES`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        abs_rel, sq_rel, square, log_square, log, log10, *deltas = (sums[:, 1:] / sums[:, :1]).T
    # A variance can be slightly negative by rounding.
    silog = 100 * np.sqrt(np.maximum(log_square - log**2, 0))
    return np.stack([abs_rel, sq_rel, np.sqrt(square), np.sqrt(log_square), log10, silog, *deltas], axis=1)


def _exact_sums(rows: np.ndarray) -> np.ndarray:
    """Column sums, rounded once: they do not depend on the order of the rows."""
    return np.array([math.fsum(column) for column in rows.T])
