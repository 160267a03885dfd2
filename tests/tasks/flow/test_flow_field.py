from __future__ import annotations

import numpy as np
from PIL import Image

from densevision.datasets.formats.flow import read_flo
from densevision.tasks.flow.flow_field import FlowField


def random_vectors(height: int = 40, width: int = 56) -> np.ndarray:
    vectors = np.random.default_rng((0, 0, 0, 1)).normal(0, 4, (height, width, 2)).astype(np.float32)
    vectors[3, 5] = np.nan
    return vectors


def test_save_writes_flo_colors_and_arrows_and_does_not_touch_other_files(tmp_path):
    vectors = random_vectors()
    (tmp_path / "a.png").write_text("the user's")
    files = FlowField(vectors, np.full((40, 56, 3), 200, np.uint8)).save(tmp_path, "a")
    assert [file.name for file in files] == ["a_flow.flo", "a_flow.png", "a_flow_arrows.png"]
    assert (tmp_path / "a.png").read_text() == "the user's"
    np.testing.assert_array_equal(read_flo(files[0]), vectors)
    for file in files[1:]:
        with Image.open(file) as image:
            assert (image.mode, image.size) == ("RGB", (56, 40))


def test_without_the_first_image_there_are_no_arrows(tmp_path):
    field = FlowField(random_vectors())
    assert field.arrows() is None
    assert [file.name for file in field.save(tmp_path, "a")] == ["a_flow.flo", "a_flow.png"]


def test_arrows_are_drawn_on_gray_and_16_bit_images():
    for first in (np.zeros((40, 56, 1), np.uint8), np.full((40, 56, 3), 60000, np.uint16)):
        arrows = FlowField(random_vectors(), first).arrows()
        assert arrows is not None and (arrows.shape, arrows.dtype) == ((40, 56, 3), np.uint8)


def test_the_summary_has_mean_and_maximum_of_the_known_motion():
    vectors = np.array([[[3, 4], [0, 0], [np.nan, np.nan]]], np.float32)
    assert FlowField(vectors).summary() == "mean 2.5 px, max 5.0 px"
    assert FlowField(vectors[:, 2:]).summary() == "no known motion"
    assert FlowField.unit == "pixels"


def test_colors_are_scaled_to_the_reference():
    slow, fast = (FlowField(np.full((2, 2, 2), (length, 0), np.float32)) for length in (1, 10))
    assert np.array_equal(slow.to_image(), fast.to_image())
    # Slower motion is whiter.
    assert slow.to_image(reference=fast).mean() > fast.to_image().mean()
