"""A colour as what a classifier learns from: its nearest bins with Gaussian weights, and how rare it is.

Zhang et al. 2016, sections 2.1 and 2.2. Nearest bins come out of a table over the plane of a and b, made once: the
search of a tree for every pixel, as the released code has it, is what a training would otherwise wait for.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ...datasets.dataset import Dataset
from .bins import BINS, bin_array, distances_squared
from .lab import AB_RANGE, lab_of

SIGMA = 5.0
"""Of the Gaussian over the distance to a bin, in units of a and b; of the prior's smoothing too."""

NEIGHBOURS = 5
"""Bins that share a colour, in the paper; the released code takes 10."""

CELL = 0.5
"""Sides of the table's cells, in units of a and b. Bins and weights are those of a cell's centre: a bin may stand in
for one that is nearer by a cell's diagonal (0.71) at most, and no weight is off by more than 0.03 where the bins
agree. Whole numbers are centres, so that greys and bins are exact."""

MIXED = 0.5
"""lambda: the share of the uniform distribution in the rarity of a colour."""

PRIOR_SAMPLES = 300
"""Training pictures whose colours are the prior, each thinned to about `PRIOR_SIDE` pixels a side."""
PRIOR_SIDE = 64


def soft_targets(ab: Tensor, neighbours: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """The nearest bins of every pixel and their weights exp(-d² / 2 sigma²), which add up to 1; see `CELL`.

    Args:
        ab: (B, 2, H, W), of sRGB colours.
        neighbours: bins per pixel, K.

    Returns:
        (B, K, H, W) int64 places in `colour_bins()`, nearest first, and (B, K, H, W) float32 weights. Of bins equally
        far the one that comes first in the list is taken.
    """
    places, weights = _table(neighbours, str(ab.device))
    row, column = ((ab + AB_RANGE) * (1 / CELL)).round_().clamp_(0, CELLS - 1).int().unbind(1)
    cell = (row * CELLS + column).flatten()
    shape = (neighbours, *row.shape)
    # Bins lead in memory: what follows runs along pixels.
    index, weight = (table.index_select(1, cell).view(shape).transpose(0, 1) for table in (places, weights))
    return index, weight


def nearest_bin(ab: Tensor) -> Tensor:
    """(B, 2, H, W) to (B, H, W) int64: the place of the nearest bin, which has the largest weight."""
    return soft_targets(ab, 1)[0][:, 0]


CELLS = round(2 * AB_RANGE / CELL) + 1
"""Of each axis, from -110 to 110."""


@lru_cache(maxsize=4)
def _table(neighbours: int, device: str) -> tuple[Tensor, Tensor]:
    """(K, cells) int64 nearest bins of every cell, nearest first, and (K, cells) float32 weights."""
    # In cells everything is a whole number: equal distances are equal, and ties go to the first bin.
    centres = torch.arange(CELLS, device="cpu") - CELLS // 2
    bins = torch.tensor(bin_array(), device="cpu") * round(1 / CELL)
    from_a, from_b = ((centres[:, None] - bins[:, axis]).square() for axis in (0, 1))
    place = torch.arange(BINS, dtype=torch.int32, device="cpu")
    keys = [((row + from_b).int() * 512 + place).topk(neighbours, largest=False, sorted=True).values for row in from_a]
    key = torch.cat(keys).T.contiguous()
    squared = (key // 512) * CELL**2
    weights = (squared * (-1 / (2 * SIGMA**2))).softmax(0)
    return (key % 512).long().to(device), weights.to(device)


def smoothed(counts: np.ndarray) -> np.ndarray:
    """A histogram over the bins as a distribution: each bin shared among its neighbours by the Gaussian, sum 1.

    Args:
        counts: (313,) not negative, not all 0.
    """
    kernel = np.exp(-distances_squared() / (2 * SIGMA**2))
    spread = (kernel / kernel.sum(0)) @ counts.astype(np.float64)
    return spread / spread.sum()


def rarity(prior: Tensor) -> Tensor:
    """How much a colour weighs: 1 / ((1 - lambda) p + lambda / Q), scaled so that its mean under the prior is 1.

    Args:
        prior: (Q,) a distribution.

    Source: Zhang et al. 2016, equation 4.
    """
    weight = 1 / ((1 - MIXED) * prior + MIXED / len(prior))
    return weight / (prior * weight).sum()


def measured_prior(dataset: Dataset) -> np.ndarray:
    """(313,) float64: how often each bin occurs in (at most a few hundred pictures of) a training set, smoothed."""
    count = min(PRIOR_SAMPLES, len(dataset))
    # Evenly over the set, so that a sorted one is covered; a world's stream just begins.
    stride = 1 if dataset.unbounded else max(1, len(dataset) // count)
    counts = np.zeros(BINS, np.int64)
    for number in range(count):
        picture: np.ndarray = dataset.read(number * stride)["image"]
        thinned = max(1, min(picture.shape[:2]) // PRIOR_SIDE)
        counts += bin_counts(lab_of(picture[::thinned, ::thinned])[..., 1:])
    return smoothed(counts)


def bins_of(ab: np.ndarray) -> np.ndarray:
    """(H, W, 2) to (H, W) int64: the nearest bin of every pixel."""
    return nearest_bin(torch.from_numpy(np.moveaxis(ab, -1, 0)[None]))[0].numpy()


def bin_counts(ab: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 2) to (313,) int64: how many pixels fall into each bin, or the sum of their whole weights (H, W)."""
    flat = None if weights is None else np.ravel(weights)
    return np.bincount(bins_of(ab).ravel(), flat, BINS).astype(np.int64)
