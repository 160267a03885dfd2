"""The 313 color bins of Zhang et al. 2016: a grid on the plane of a and b, derived by code.

Zhang et al. 2016 describe them as the "in-gamut" points of a grid of step 10. Their released list is neither the set of
bins that sRGB colors fall into (261) nor of the grid points within the hull of those colors (233). It is this: the
colors' points, each widened to the square of +-10 about it, and of that set's convex hull every grid point inside.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from .lab import rgb_to_lab

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
