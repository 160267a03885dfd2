"""What a depth map says of itself."""

from __future__ import annotations

import numpy as np

from densevision.tasks.depth.depth_map import DepthMap


def test_a_depth_map_says_its_range_in_metres_and_how_its_picture_shows_it():
    assert DepthMap(np.array([[0.42, np.nan], [3, 9.8]], np.float32)).brief() == "0.4 to 9.8 m, near is bright"
    assert DepthMap(np.full((2, 2), np.nan, np.float32)).brief() == "no known depth"
