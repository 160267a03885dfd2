"""Visualizations, compared with the published color wheel and with values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.utils import flow_to_image

from densevision.datasets.core.drawing import JOINT, LEFT, MIDDLE, RIGHT, draw_arrows, draw_flow, draw_skeleton

NAN = (np.nan, np.nan)


def every_direction(largest: float = 7.0) -> np.ndarray:
    """(41, 41, 2): flow away from the center, `largest` pixels at the corners."""
    side = np.linspace(-1, 1, 41) * largest / np.sqrt(2)
    return np.stack(np.meshgrid(side, side), axis=-1).astype(np.float32)


def test_wheel_is_that_of_baker_in_all_directions_and_lengths():
    # torchvision's port of the authors' code; facts 3.3. Equal to one level, because of rounding.
    flow = every_direction()
    theirs = flow_to_image(torch.from_numpy(flow).movedim(-1, 0)).movedim(0, -1).numpy()
    assert np.abs(draw_flow(flow, flow).astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("vector", "color"),
    # Right is red, left cyan, down yellow-green, up violet: the legend that Middlebury prints.
    [((1, 0), (255, 0, 0)), ((-1, 0), (0, 209, 255)), ((0, 1), (255, 229, 0)), ((0, -1), (88, 0, 255))],
)
def test_directions_have_the_expected_colors(vector, color):
    flow = np.array([[vector]], np.float32)
    assert np.abs(draw_flow(flow, flow)[0, 0].astype(int) - color).max() <= 12


def test_unknown_flow_is_black_and_not_part_of_the_maximum():
    # Facts 3.3: unknown flow must not enter the maximum. Middlebury's files say 1e9, samples nan.
    known = np.array([[(3, 4), (1, 0)]], np.float32)
    with_unknown = np.concatenate([known, np.array([[NAN, (1e9, np.nan)]], np.float32)])
    drawn = draw_flow(with_unknown, with_unknown)
    np.testing.assert_array_equal(drawn[0], draw_flow(known, known)[0])
    assert not drawn[1].any()


def test_no_motion_is_white_and_nothing_known_is_black():
    still = np.zeros((2, 3, 2), np.float32)
    assert (draw_flow(still, still) == 255).all()
    assert not draw_flow(still * np.nan, still * np.nan).any()


def test_motion_beyond_the_reference_is_darkened():
    flow = np.array([[(2, 0)]], np.float32)
    inside, beyond = (draw_flow(flow, np.array([[(length, 0)]], np.float32))[0, 0] for length in (2, 1))
    assert inside[0] == 255 and beyond[0] == 191  # three quarters of 255


def image(height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def drawn_on(canvas: np.ndarray) -> np.ndarray:
    """Pixels that were drawn, (H, W) bool."""
    return (canvas != 30).any(axis=-1)


def test_arrow_leads_from_a_pixel_to_its_destination():
    flow = np.full((40, 60, 2), np.nan, np.float32)
    flow[20, 30] = 20, -10
    drawn = np.argwhere(drawn_on(draw_arrows(image(), flow, 20)))
    assert not len(drawn)  # 10, 30, 50 and 10, 30 are the grid: the pixel is not on it
    flow[10, 30] = 20, 15
    drawn = np.argwhere(drawn_on(draw_arrows(image(), flow, 20)))
    # Rows 10 to 25 and columns 30 to 50, give or take the line's width and its tip.
    assert np.abs(drawn.min(axis=0) - (10, 30)).max() <= 2
    assert np.abs(drawn.max(axis=0) - (25, 50)).max() <= 2


def test_small_motions_are_dots_and_unknown_ones_are_not_drawn():
    flow = np.full((40, 60, 2), 0.5, np.float32)
    flow[:, 30:] = np.nan
    drawn = drawn_on(draw_arrows(image(), flow, 20))
    assert drawn[10, 10] and drawn[30, 10]
    assert not drawn[:, 30:].any()
    assert drawn.sum() < 40


def test_arrows_may_end_outside_and_the_input_is_not_changed():
    given = image()
    for length in (1e2, 1e6, 1e30):
        canvas = draw_arrows(given, np.full((40, 60, 2), (length, -length), np.float32), 10)
        assert (canvas.shape, canvas.dtype) == ((40, 60, 3), np.uint8)
        assert drawn_on(canvas).any()
    assert (given == 90).all()
    unknown = draw_arrows(given, np.full((40, 60, 2), np.nan, np.float32), 10)
    assert (unknown == 30).all()


FEET = np.array([(10, 30, 2), (25, 10, 2), (40, 30, 2), (55, 10, 2)], np.float32)
"""Left foot, left hip, right hip and right foot: the middle of a limb is between them."""
EDGES, PAIRS = ((0, 1), (1, 2), (2, 3)), ((0, 3), (1, 2))


def skeleton(*flags: int, ground: int = 90) -> np.ndarray:
    joints = FEET.copy()
    joints[:, 2] = flags
    return draw_skeleton(np.full((40, 60, 3), ground, np.uint8), joints, EDGES, PAIRS)


def near(drawn: np.ndarray, x: float, y: float, color: tuple[int, int, int]) -> bool:
    """Whether a color occurs within a pixel of a position."""
    around = drawn[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2].astype(int)
    return bool((np.abs(around - color).max(axis=-1) < 40).any())


def test_left_limbs_are_orange_right_ones_blue_and_the_middle_white():
    drawn = skeleton(2, 2, 2, 2)
    for x, y, color in ((17.5, 20, LEFT), (32.5, 20, MIDDLE), (47.5, 20, RIGHT)):
        assert near(drawn, x, y, color)
    assert all(near(drawn, x, y, JOINT) for x, y, _ in FEET)


def test_skeleton_is_visible_on_its_own_colors():
    # Without a rim, orange limbs would be invisible on orange clothes.
    for color in (LEFT, RIGHT, MIDDLE, JOINT):
        ground = np.full((40, 60, 3), color, np.uint8)
        drawn = draw_skeleton(ground, FEET, EDGES, PAIRS).astype(int)
        assert (np.abs(drawn - color).max(axis=-1) > 60).any(axis=1)[10:31].all()


def test_unlabeled_joints_and_their_limbs_are_not_drawn():
    assert (skeleton(0, 0, 0, 0) == 90).all()
    drawn = skeleton(2, 2, 0, 2)
    assert near(drawn, 17.5, 20, LEFT) and near(drawn, 55, 10, JOINT)
    assert (drawn[:, 30:50] == 90).all()


def test_occluded_joints_and_their_limbs_are_half_transparent():
    sure, faint = skeleton(2, 2, 2, 2).astype(int), skeleton(1, 2, 2, 2).astype(int)
    np.testing.assert_allclose(faint[30, 10], (sure[30, 10] + 90) / 2, atol=1)
    assert near(faint, 17.5, 20, tuple((np.array(LEFT) + 90) // 2))
    np.testing.assert_array_equal(faint[:, 45:], sure[:, 45:])


def test_joints_may_be_anywhere_and_the_input_is_not_changed():
    given = image()
    for place in (1e5, 1e30, np.inf):
        joints = FEET.copy()
        joints[3] = place, -place, 1
        drawn = draw_skeleton(given, joints, EDGES, PAIRS)
        assert near(drawn, 17.5, 20, LEFT)
    assert (given == 90).all()
