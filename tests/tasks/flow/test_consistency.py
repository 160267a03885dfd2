from __future__ import annotations

import numpy as np
import pytest

from densevision.tasks.flow.consistency import forward_backward_consistency, occlusion_mask

HEIGHT, WIDTH = 12, 16


def constant(u: float, v: float) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 2), (u, v), np.float32)


def linear(matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Flow of the affine motion x -> A x + t."""
    points = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1)
    return (points @ (matrix - np.eye(2)).T + shift).astype(np.float32)


def test_affine_flow_and_its_inverse_have_no_error():
    # Bilinear sampling is exact on linear fields.
    matrix, shift = np.array([[1.1, 0.2], [-0.1, 0.9]]), np.array([0.7, 1.3])
    inverse = np.linalg.inv(matrix)
    distance = forward_backward_consistency(linear(matrix, shift), linear(inverse, -inverse @ shift))
    assert distance.dtype == np.float32 and distance.shape == (HEIGHT, WIDTH)
    assert np.isfinite(distance).sum() > 100
    assert np.nanmax(distance) < 1e-5


def test_x_is_the_column_and_pixels_that_leave_the_image_are_nan():
    distance = forward_backward_consistency(constant(3, -1), constant(-3, 1))
    left = np.zeros((HEIGHT, WIDTH), bool)
    left[:, -3:] = True
    left[0] = True
    np.testing.assert_array_equal(np.isnan(distance), left)
    assert np.all(distance[~left] == 0)


def test_the_backward_flow_is_sampled_bilinearly_at_the_target():
    # b grows by 1 per column; a pixel that moves 0.25 to the right reads a quarter of the next column.
    backward = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    backward[..., 0] = np.arange(WIDTH)
    distance = forward_backward_consistency(constant(0.25, 0), backward)
    np.testing.assert_allclose(distance[:, :-1], np.broadcast_to(0.25 + np.arange(WIDTH - 1) + 0.25, (HEIGHT, 15)))


def test_the_last_row_and_column_are_inside():
    assert np.isfinite(forward_backward_consistency(constant(0, 0), constant(0, 0))).all()


@pytest.mark.parametrize(("pixel", "unknown"), [((4, 5), {(4, 5)}), ((0, 0), {(0, 0)})])
def test_unknown_flow_is_nan_only_where_it_is_sampled(pixel, unknown):
    still, partly_known = constant(0, 0), constant(0, 0)
    partly_known[pixel] = np.nan
    for forward, backward in ((still, partly_known), (partly_known, still)):
        error = forward_backward_consistency(forward, backward)
        assert {tuple(map(int, index)) for index in np.argwhere(np.isnan(error))} == unknown


@pytest.mark.parametrize(
    ("forward", "backward", "hidden"),
    [
        (0, 0.7, False),  # 0.49 against 0.5 + 0.01 * 0.49
        (0, 0.72, True),  # 0.5184 against 0.5 + 0.01 * 0.5184
        (8, -9, False),  # 1 against 0.5 + 0.01 * (64 + 81) = 1.95
        (2, -3, True),  # 1 against 0.5 + 0.01 * (4 + 9) = 0.63
    ],
)
def test_the_tolerance_is_that_of_the_paper(forward, backward, hidden):
    # Sundaram, Brox, Keutzer 2010, equation 5.
    assert occlusion_mask(constant(forward, 0), constant(backward, 0))[0, 0] == hidden


def test_occluded_are_the_pixels_that_a_moving_square_covers_and_those_that_leave():
    # A square over columns 4..7 moves 3 to the right over a static background: it uncovers 4..6 and covers 8..10.
    forward, backward = constant(0, 0), constant(0, 0)
    forward[3:9, 4:8] = 3, 0
    backward[3:9, 7:11] = -3, 0
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[3:9, 8:11] = True
    np.testing.assert_array_equal(occlusion_mask(forward, backward), expected)
    leaving = constant(5, 0)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:, -5:] = True
    np.testing.assert_array_equal(occlusion_mask(leaving, -leaving), expected)


def test_unknown_pixels_are_not_visible():
    forward = constant(0, 0)
    forward[2, 2] = np.nan
    assert occlusion_mask(forward, constant(0, 0)).sum() == 1


def test_inputs_are_not_modified():
    forward, backward = constant(3, 1), constant(-2, 0)
    before = forward.copy(), backward.copy()
    occlusion_mask(forward, backward)
    np.testing.assert_array_equal((forward, backward), before)
