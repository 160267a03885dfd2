"""DepthMap."""

from __future__ import annotations

import numpy as np

from densevision.tasks.depth.depth_map import DepthMap


def test_summary_has_the_range_in_meters():
    assert DepthMap(np.array([[0.42, np.nan], [3, 9.8]], np.float32)).summary() == "0.4 to 9.8 m, near is bright"
    assert DepthMap(np.full((2, 2), np.nan, np.float32)).summary() == "no known depth"
