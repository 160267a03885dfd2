"""Lab as scikit-image has it, there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb, rgb2lab

from densevision.tasks.colorization.lab import (
    AB_RANGE,
    gray,
    lab_of,
    lab_to_rgb,
    lightness,
    lightness_of,
    rgb_of,
    rgb_to_lab,
)


def cube(side: int = 18, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(1, 3, side², side) colors, evenly over sRGB."""
    values = torch.linspace(0, 1, side, dtype=dtype)
    return torch.cartesian_prod(values, values, values).T.reshape(1, 3, side * side, side)


def test_lab_of_a_color_cube_is_scikit_images():
    rgb = cube()
    expected = rgb2lab(rgb[0].double().numpy(), channel_axis=0)
    # Brief: to 1e-3. skimage computes in float64.
    assert np.abs(rgb_to_lab(rgb)[0].numpy() - expected).max() < 1e-3
    assert np.abs(rgb_to_lab(rgb.double())[0].numpy() - expected).max() < 1e-6


def test_the_way_back_of_colors_is_scikit_images_and_ends_where_it_began():
    lab = rgb_to_lab(cube(dtype=torch.float64))
    torch.testing.assert_close(lab_to_rgb(lab), cube(dtype=torch.float64), rtol=0, atol=1e-6)
    expected = lab2rgb(lab[0].numpy(), channel_axis=0)
    assert np.abs(lab_to_rgb(lab)[0].clamp(0, 1).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        ((255, 0, 0), (53.2406, 80.0923, 67.2028)),  # facts 3.2
        ((0, 0, 255), (32.2957, 79.1856, -107.8573)),  # facts 3.2
        ((255, 255, 255), (100.0, -0.0025, 0.0047)),  # facts 3.2: white is not exactly without color
    ],
)
def test_pure_colors_lie_where_the_facts_say(color, expected):
    found = lab_of(np.full((2, 3, 3), color, np.uint8))[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_no_color_of_srgb_leaves_the_range_of_a_and_b():
    ab = rgb_to_lab(cube())[:, 1:]
    # Facts 3.2: a -86.183..98.233, b -107.857..94.478.
    np.testing.assert_allclose(ab.amin((0, 2, 3)), (-86.183, -107.857), atol=2e-3)
    np.testing.assert_allclose(ab.amax((0, 2, 3)), (98.233, 94.478), atol=2e-3)
    assert ab.abs().max() < AB_RANGE


def test_8_bit_16_bit_and_float_images_mean_the_same():
    # Facts 3.2: 136 * 100 wraps to 32 in uint8; floats of 0..255 would saturate.
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    as_bytes, as_words = lab_of(image), lab_of(image.astype(np.uint16) * 257)
    np.testing.assert_allclose(as_words, as_bytes, atol=1e-4)
    np.testing.assert_allclose(lab_of(image.astype(np.float32) / 255), as_bytes, atol=1e-4)
    assert (np.diff(as_bytes[..., 0].ravel()) > 0).all()


def test_an_8_bit_image_comes_back_from_lab_as_it_was():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    np.testing.assert_array_equal(np.round(rgb_of(lab_of(image)) * 255), image)
    np.testing.assert_allclose(lightness_of(image), lab_of(image)[..., 0], atol=1e-4)


def test_the_gray_of_a_color_has_its_lightness_and_no_color():
    rgb = cube()
    torch.testing.assert_close(lightness(rgb), rgb_to_lab(rgb)[:, :1])
    again = rgb_to_lab(gray(rgb).expand(-1, 3, -1, -1))
    torch.testing.assert_close(again[:, :1], lightness(rgb), rtol=0, atol=1e-3)
    assert again[:, 1:].abs().max() < 0.01


def test_gradients_are_finite_even_at_black_and_beyond_the_screen():
    rgb = torch.zeros(1, 3, 2, 2, requires_grad=True)
    rgb_to_lab(rgb).sum().backward()
    lab = torch.tensor([5.0, 100.0, -100.0]).reshape(1, 3, 1, 1).requires_grad_()
    lab_to_rgb(lab).sum().backward()
    assert rgb.grad is not None and rgb.grad.isfinite().all()
    assert lab.grad is not None and lab.grad.isfinite().all()
