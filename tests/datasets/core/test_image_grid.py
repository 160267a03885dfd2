"""Rows, columns and grids of images."""

from __future__ import annotations

import numpy as np

from densevision.datasets.core.drawing import GAP, fit_to_cell, hstack_images, image_grid, vstack_images


def test_hstack_images_resizes_to_the_tallest_image():
    row = hstack_images([np.zeros((20, 10, 3), np.uint8), np.zeros((10, 30, 3), np.uint8)])
    assert row.shape == (20, 10 + 4 + 60, 3)
    assert (row[:, 10:14] == 255).all()


def test_vstack_images_pads_to_the_widest_image():
    column = vstack_images([np.zeros((20, 10, 3), np.uint8), np.zeros((10, 30, 3), np.uint8)])
    assert column.shape == (20 + 4 + 10, 30, 3)
    assert (column[:20, 10:] == 255).all() and (column[20:24] == 255).all() and (column[24:] == 0).all()


def test_fit_to_cell_keeps_the_aspect_ratio():
    result = fit_to_cell(np.zeros((10, 40, 3), np.uint8), (60, 60))
    assert result.shape == (60, 60, 3)
    dark = np.argwhere(result[..., 0] == 0)
    assert dark.min(0).tolist() == [22, 0] and dark.max(0).tolist() == [36, 59]


def test_a_cell_of_its_own_size_is_unchanged_and_margins_have_the_background():
    image = fit_to_cell(np.full((50, 100, 3), 255, np.uint8), (200, 200), background=0)
    assert image.shape == (200, 200, 3)
    assert image[50:150].min() == 255 and image[:50].max() == image[150:].max() == 0
    assert np.array_equal(fit_to_cell(image, (200, 200)), image)


def test_image_grid_keeps_the_order():
    cells = [np.full((2, 3, 3), value, np.uint8) for value in (1, 2, 3)]
    result = image_grid(cells, 2)
    assert result.shape == (4 + GAP, 6 + GAP, 3)
    assert (result[0, 0, 0], result[0, -1, 0], result[-1, 0, 0], result[-1, -1, 0]) == (1, 2, 3, 255)


def test_a_grid_without_gaps_fills_what_is_left_with_the_background():
    result = image_grid([np.full((2, 3, 3), value, np.uint8) for value in (1, 2, 3)], 2, gap=0, background=9)
    assert result.shape == (4, 6, 3)
    assert (result[2, 0, 0], result[2, 3, 0]) == (3, 9)
