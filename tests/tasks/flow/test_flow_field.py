from __future__ import annotations

import numpy as np
from PIL import Image

from densevision.datasets.formats.flo import read_flo
from densevision.tasks.flow.flow_field import FlowField


def moving(height: int = 40, width: int = 56) -> np.ndarray:
    vectors = np.random.default_rng((0, 0, 0, 1)).normal(0, 4, (height, width, 2)).astype(np.float32)
    vectors[3, 5] = np.nan
    return vectors


def test_its_data_its_colours_and_its_arrows_are_written_beside_each_other_and_no_picture_of_the_user_is(tmp_path):
    vectors = moving()
    (tmp_path / "a.png").write_text("the user's")
    files = FlowField(vectors, np.full((40, 56, 3), 200, np.uint8)).save(tmp_path, "a")
    assert [file.name for file in files] == ["a_flow.flo", "a_flow.png", "a_flow_arrows.png"]
    assert (tmp_path / "a.png").read_text() == "the user's"
    np.testing.assert_array_equal(read_flo(files[0]), vectors)
    for file in files[1:]:
        with Image.open(file) as picture:
            assert (picture.mode, picture.size) == ("RGB", (56, 40))


def test_without_its_picture_a_motion_has_no_arrows(tmp_path):
    field = FlowField(moving())
    assert field.arrows() is None
    assert [file.name for file in field.save(tmp_path, "a")] == ["a_flow.flo", "a_flow.png"]


def test_grey_and_16_bit_pictures_carry_arrows_too():
    for first in (np.zeros((40, 56, 1), np.uint8), np.full((40, 56, 3), 60000, np.uint16)):
        arrows = FlowField(moving(), first).arrows()
        assert arrows is not None and (arrows.shape, arrows.dtype) == ((40, 56, 3), np.uint8)


def test_it_says_the_mean_and_the_largest_motion_of_what_is_known():
    vectors = np.array([[[3, 4], [0, 0], [np.nan, np.nan]]], np.float32)
    assert FlowField(vectors).brief() == "mean 2.5 px, largest 5.0 px"
    assert FlowField(vectors[:, 2:]).brief() == "no known motion"
    assert FlowField.unit == "pixels"


def test_colours_are_those_of_the_motion_it_is_compared_with():
    slow, fast = (FlowField(np.full((2, 2, 2), (length, 0), np.float32)) for length in (1, 10))
    assert np.array_equal(slow.picture(), fast.picture())
    # Slower is whiter.
    assert slow.picture(like=fast).mean() > fast.picture().mean()
