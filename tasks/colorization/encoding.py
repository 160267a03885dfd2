"""Color bins, soft targets over them with Gaussian weights, and class-rebalancing weights.

Zhang et al. 2016, sections 2.1 and 2.2. The 313 bins are a grid on the plane of a and b. The paper describes them as
the "in-gamut" points of a grid of step 10. The released list is neither the set of bins that sRGB colors fall into
(261) nor of the grid points within the hull of those colors (233). It is this: the colors' points, each widened to the
square of +-10 about it, and of that set's convex hull every grid point inside.

Nearest bins come from a lookup table over the plane, computed once: the tree search per pixel of the released code
would dominate the training time.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...datasets.dataset import Dataset
from .lab import AB_RANGE, lab_of, rgb_to_lab

STEP = 10
CUBE = 6
"""Values of R, G and B each: 216 colors give the same hull as all 16.7 million."""

BINS = 313


@lru_cache(maxsize=1)
def color_bins() -> tuple[tuple[int, int], ...]:
    """(a, b) of every bin, in lexicographic order: from (-90, 50) to (100, 0)."""
    from scipy.spatial import ConvexHull

    cube = np.stack(np.meshgrid(*3 * [np.linspace(0, 1, CUBE)]))
    # From numpy, so that networks can be built on any device, the meta device included.
    ab = rgb_to_lab(torch.from_numpy(cube.reshape(3, -1, 1)))[1:, :, 0].T.numpy()
    square = np.array([(da, db) for da in (-STEP, STEP) for db in (-STEP, STEP)])
    hull = ConvexHull((ab[:, None] + square).reshape(-1, 2))
    axis = np.arange(-12 * STEP, 13 * STEP, STEP)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    inside = (grid @ hull.equations[:, :2].T + hull.equations[:, 2] <= 1e-9).all(1)
    return tuple((int(a), int(b)) for a, b in grid[inside])


@lru_cache(maxsize=1)
def bin_array() -> np.ndarray:
    """`color_bins` as a read-only array, (313, 2) int64."""
    bins = np.array(color_bins(), np.int64)
    bins.setflags(write=False)
    return bins


def distances_squared() -> np.ndarray:
    """Squared distances between bins, (313, 313) int64."""
    bins = bin_array()
    return ((bins[:, None] - bins) ** 2).sum(-1)


SIGMA = 5.0
"""Standard deviation of the Gaussian weights and of the prior's smoothing, in units of a and b."""

NEIGHBORS = 5
"""Bins in a soft target, in the paper; the released code uses 10."""

CELL = 0.5
"""Size of the table's cells in units of a and b. Bins and weights are those of the cell's center: a selected bin may be
farther than the nearest one by at most a cell's diagonal (0.71), and weights differ by at most 0.03 where the bins are
the same. Integers are cell centers, so that grays and bins are exact."""

UNIFORM_WEIGHT = 0.5
"""lambda: weight of the uniform distribution in class rebalancing."""

PRIOR_SAMPLES = 300
"""Training images that measure the prior, each subsampled to about `PRIOR_SIDE` pixels in height or width."""
PRIOR_SIDE = 64


def soft_targets(ab: Tensor, neighbors: int = NEIGHBORS) -> tuple[Tensor, Tensor]:
    """The nearest bins of every pixel and their weights exp(-d² / 2 sigma²), with sum 1; see `CELL`.

    Args:
        ab: (B, 2, H, W), of sRGB colors.
        neighbors: bins per pixel, K.

    Returns:
        (B, K, H, W) int64 indices of `color_bins()`, nearest first, and (B, K, H, W) float32 weights. Ties go to the
        bin with the smaller index.
    """
    indices, weights = _table(neighbors, str(ab.device))
    row, column = ((ab + AB_RANGE) * (1 / CELL)).round_().clamp_(0, TABLE_SIZE - 1).int().unbind(1)
    cell = (row * TABLE_SIZE + column).flatten()
    shape = (neighbors, *row.shape)
    # Bins are the first axis in memory: later operations run along pixels.
    index, weight = (table.index_select(1, cell).view(shape).transpose(0, 1) for table in (indices, weights))
    return index, weight


def nearest_bin(ab: Tensor) -> Tensor:
    """(B, 2, H, W) to (B, H, W) int64: index of the nearest bin."""
    return soft_targets(ab, 1)[0][:, 0]


TABLE_SIZE = round(2 * AB_RANGE / CELL) + 1
"""Cells per axis, from -110 to 110."""


@lru_cache(maxsize=4)
def _table(neighbors: int, device: str) -> tuple[Tensor, Tensor]:
    """(K, cells) int64 nearest bins of every cell, nearest first, and (K, cells) float32 weights."""
    # In cells everything is a whole number: equal distances are equal, and ties go to the first bin.
    centers = torch.arange(TABLE_SIZE, device="cpu") - TABLE_SIZE // 2
    bins = torch.tensor(bin_array(), device="cpu") * round(1 / CELL)
    from_a, from_b = ((centers[:, None] - bins[:, axis]).square() for axis in (0, 1))
    number = torch.arange(BINS, dtype=torch.int32, device="cpu")
    keys = [((row + from_b).int() * 512 + number).topk(neighbors, largest=False, sorted=True).values for row in from_a]
    key = torch.cat(keys).T.contiguous()
    squared = (key // 512) * CELL**2
    weights = (squared * (-1 / (2 * SIGMA**2))).softmax(0)
    return (key % 512).long().to(device), weights.to(device)


def smoothed(counts: np.ndarray) -> np.ndarray:
    """Smooth a histogram over the bins with the Gaussian and normalize it to sum 1.

    Args:
        counts: (313,) non-negative counts, not all 0.
    """
    kernel = np.exp(-distances_squared() / (2 * SIGMA**2))
    spread = (kernel / kernel.sum(0)) @ counts.astype(np.float64)
    return spread / spread.sum()


def class_rebalancing_weights(prior: Tensor) -> Tensor:
    """Class-rebalancing weights 1 / ((1 - lambda) p + lambda / Q), scaled to mean 1 under the prior.

    Args:
        prior: (Q,) a distribution.

    Source: Zhang et al. 2016, equation 4.
    """
    weight = 1 / ((1 - UNIFORM_WEIGHT) * prior + UNIFORM_WEIGHT / len(prior))
    return weight / (prior * weight).sum()


def measured_prior(dataset: Dataset) -> np.ndarray:
    """(313,) float64: smoothed bin frequencies of (at most `PRIOR_SAMPLES` images of) a training set."""
    counts = np.zeros(BINS, np.int64)
    for index in dataset.spread(PRIOR_SAMPLES):
        image: np.ndarray = dataset.read(index)["image"]
        step = max(1, min(image.shape[:2]) // PRIOR_SIDE)
        counts += bin_counts(lab_of(image[::step, ::step])[..., 1:])
    return smoothed(counts)


def bins_of(ab: np.ndarray) -> np.ndarray:
    """(H, W, 2) to (H, W) int64: the nearest bin of every pixel."""
    return nearest_bin(torch.from_numpy(np.moveaxis(ab, -1, 0)[None]))[0].numpy()


def bin_counts(ab: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 2) to (313,) int64: pixels per bin, or the sum of their integer weights (H, W)."""
    flat = None if weights is None else np.ravel(weights)
    return np.bincount(bins_of(ab).ravel(), flat, BINS).astype(np.int64)
