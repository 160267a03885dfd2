"""DepthMap."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from densevision.tasks.depth.depth_map import DepthMap


def test_summary_has_the_range_in_meters():
    assert DepthMap(np.array([[0.42, np.nan], [3, 9.8]], np.float32)).summary() == "0.4 to 9.8 m, near is bright"
    assert DepthMap(np.full((2, 2), np.nan, np.float32)).summary() == "no known depth"


@pytest.mark.parametrize("unknown", [False, True])
def test_the_colors_in_the_file_are_those_of_the_drawing(tmp_path, unknown):
    """With a palette, where all depths are known; black is a color more."""
    meters = np.random.default_rng(0).uniform(0.5, 9, (31, 45)).astype(np.float32)
    if unknown:
        meters[3:8, 5:9] = np.nan
    prediction = DepthMap(meters)
    path = prediction.save(tmp_path, "a")[2]
    with Image.open(path) as image:
        assert image.mode == ("RGB" if unknown else "P")
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), prediction.to_image())
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    np.testing.assert_array_equal(stored[..., ::-1], prediction.to_image())
