"""The 313 bins are the released list's, derived."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import ConvexHull

from densevision.tasks.colorization.encoding import BINS, bin_array, color_bins, distances_squared


def test_there_are_313_bins_of_whole_tens_in_lexicographic_order():
    bins = color_bins()
    assert len(bins) == BINS == 313  # facts 3.2
    assert list(bins) == sorted(set(bins))
    assert all(isinstance(value, int) and value % 10 == 0 for pair in bins for value in pair)


def test_the_bins_have_the_released_lists_range():
    bins = bin_array()
    # Facts 3.2: a from -90 to 100, b from -110 to 100.
    assert bins.min(0).tolist() == [-90, -110]
    assert bins.max(0).tolist() == [100, 100]


def test_the_bins_hold_those_that_other_rules_miss():
    # Facts 3.2: the corners of every cell that sRGB touches give 309 and miss these four.
    assert {(40, 90), (100, -90), (100, -10), (100, 0), (0, 0)} <= set(color_bins())


def test_the_bins_are_the_grid_points_of_their_own_hull():
    # Facts 3.2.
    bins = bin_array()
    equations = ConvexHull(bins).equations
    grid = np.stack(np.meshgrid(np.arange(-130, 131, 10), np.arange(-130, 131, 10), indexing="ij"), -1).reshape(-1, 2)
    inside = (grid @ equations[:, :2].T + equations[:, 2] <= 1e-9).all(1)
    np.testing.assert_array_equal(grid[inside], bins)


def test_the_bins_are_the_same_where_tensors_are_made_on_another_device():
    with torch.device("meta"):
        assert color_bins.__wrapped__() == color_bins()


def test_bins_and_their_distances_are_computed_once_and_cannot_be_spoiled():
    assert bin_array() is bin_array()
    assert not bin_array().flags.writeable
    squared = distances_squared()
    assert squared.shape == (313, 313) and (np.diag(squared) == 0).all()
    assert squared[squared > 0].min() == 100
