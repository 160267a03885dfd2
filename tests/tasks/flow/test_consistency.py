from __future__ import annotations

import numpy as np
import pytest

from densevision.tasks.flow.consistency import consistency, occluded

HEIGHT, WIDTH = 12, 16


def constant(u: float, v: float) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 2), (u, v), np.float32)


def linear(matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The motion x -> A x + t of every pixel."""
    points = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1)
    return (points @ (matrix - np.eye(2)).T + shift).astype(np.float32)


def test_a_motion_and_its_inverse_bring_every_pixel_back():
    # Bilinear reading is exact on linear fields.
    matrix, shift = np.array([[1.1, 0.2], [-0.1, 0.9]]), np.array([0.7, 1.3])
    inverse = np.linalg.inv(matrix)
    distance = consistency(linear(matrix, shift), linear(inverse, -inverse @ shift))
    assert distance.dtype == np.float32 and distance.shape == (HEIGHT, WIDTH)
    assert np.isfinite(distance).sum() > 100
    assert np.nanmax(distance) < 1e-5


def test_x_is_the_column_and_what_leaves_the_picture_is_unknown():
    distance = consistency(constant(3, -1), constant(-3, 1))
    left = np.zeros((HEIGHT, WIDTH), bool)
    left[:, -3:] = True
    left[0] = True
    np.testing.assert_array_equal(np.isnan(distance), left)
    assert np.all(distance[~left] == 0)


def test_the_motion_back_is_read_where_the_pixel_arrives_between_pixels_too():
    # b grows by 1 from column to column; a pixel that goes 0.25 to the right reads a quarter of the next one.
    backward = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    backward[..., 0] = np.arange(WIDTH)
    distance = consistency(constant(0.25, 0), backward)
    np.testing.assert_allclose(distance[:, :-1], np.broadcast_to(0.25 + np.arange(WIDTH - 1) + 0.25, (HEIGHT, 15)))


def test_the_last_row_and_column_are_inside():
    assert np.isfinite(consistency(constant(0, 0), constant(0, 0))).all()


@pytest.mark.parametrize(("place", "unknown"), [((4, 5), {(4, 5)}), ((0, 0), {(0, 0)})])
def test_unknown_motions_stay_unknown_and_spread_no_further_than_they_are_read(place, unknown):
    backward = constant(0, 0)
    backward[place] = np.nan
    found = {tuple(map(int, at)) for at in np.argwhere(np.isnan(consistency(constant(0, 0), backward)))}
    assert found == unknown
    forward = constant(0, 0)
    forward[place] = np.nan
    found = {tuple(map(int, at)) for at in np.argwhere(np.isnan(consistency(forward, constant(0, 0))))}
    assert found == unknown


@pytest.mark.parametrize(
    ("forward", "backward", "hidden"),
    [
        (0, 0.7, False),  # 0.49 against 0.5 + 0.01 * 0.49
        (0, 0.72, True),  # 0.5184 against 0.5 + 0.01 * 0.5184
        (8, -9, False),  # 1 against 0.5 + 0.01 * (64 + 81) = 1.95
        (2, -3, True),  # 1 against 0.5 + 0.01 * (4 + 9) = 0.63
    ],
)
def test_the_bound_is_that_of_the_paper(forward, backward, hidden):
    # Sundaram, Brox, Keutzer 2010, equation 5.
    assert occluded(constant(forward, 0), constant(backward, 0))[0, 0] == hidden


def test_what_a_nearer_square_covers_and_what_leaves_is_occluded_and_nothing_else():
    # A square over columns 4..7 moves 3 to the right over a still ground: it uncovers 4..6 and covers 8..10.
    forward, backward = constant(0, 0), constant(0, 0)
    forward[3:9, 4:8] = 3, 0
    backward[3:9, 7:11] = -3, 0
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[3:9, 8:11] = True
    np.testing.assert_array_equal(occluded(forward, backward), expected)
    leaving = constant(5, 0)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:, -5:] = True
    np.testing.assert_array_equal(occluded(leaving, -leaving), expected)


def test_what_is_unknown_is_not_called_visible():
    forward = constant(0, 0)
    forward[2, 2] = np.nan
    assert occluded(forward, constant(0, 0)).sum() == 1


def test_neither_motion_is_changed():
    forward, backward = constant(3, 1), constant(-2, 0)
    kept = forward.copy(), backward.copy()
    occluded(forward, backward)
    np.testing.assert_array_equal((forward, backward), kept)
