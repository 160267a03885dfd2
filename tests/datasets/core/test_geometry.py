"""Geometric transforms of all field types by one matrix per frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from densevision.datasets.core.augmentation import Augmentation, sample_geometry
from densevision.datasets.core.geometry import (
    Geometry,
    covering_size,
    hflip,
    plain_resize,
    resize_antialiased,
    rotation,
    scaling,
    transform_points,
    translation,
    warp_image,
    warp_nearest,
)
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.field_types import Camera, Depth, Flow, Image, Keypoints, Mask, SegmentationMask, Skeleton

ANYTHING = Augmentation(hflip=0.5, max_rotation=10, max_zoom=1.5)
BODY = Skeleton(("nose", "left hand", "right hand"), ((0, 1), (0, 2)), ((1, 2),))


def draw(index: int, source=(60, 80), target=(48, 56), augmentation=ANYTHING) -> Geometry:
    return sample_geometry(generator(3, 0, index, Purpose.GEOMETRY), source, target, augmentation)


def smooth_image(size, seed=0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(size=(*size, 3)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def test_identity_returns_the_same_image_and_depth():
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    depth = np.random.default_rng(0).uniform(1, 9, (7, 9)).astype(np.float32)
    identity = plain_resize((7, 9), (7, 9))
    np.testing.assert_array_equal(Image().transform(image, identity), image)
    np.testing.assert_array_equal(Depth().transform(depth, identity), depth)


@pytest.mark.parametrize("warp", [warp_image, lambda p, m, s: warp_nearest(p, m, s, 0)])
def test_warping_by_an_integer_shift_is_a_shift(warp):
    # facts 3.8, pixel centers: warping with an integer flow equals a shift.
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    moved = warp(image, translation(3, -2), (20, 30))
    np.testing.assert_array_equal(moved[:18, 3:], image[2:, :27])


def test_doubling_a_row_follows_the_half_pixel_rule():
    # facts 3.8: bilinear x2 of [0, 1, 2, 3] is [0, .25, .75, 1.25, ...] under x' = (x + .5) s - .5.
    row = np.array([[0, 1, 2, 3]], np.float32).repeat(4, 0)
    doubled = warp_image(row, plain_resize((4, 4), (8, 8)).matrix(), (8, 8))
    np.testing.assert_allclose(doubled[3, 1:7], [0.25, 0.75, 1.25, 1.75, 2.25, 2.75], atol=1e-6)


def test_hflip_is_the_reversed_array():
    image = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    np.testing.assert_array_equal(Image().transform(image, Geometry((hflip(8),), (5, 8))), image[:, ::-1])


def test_a_composition_is_one_matrix_and_one_interpolation():
    first, second = draw(0), draw(1, source=(48, 56), target=(40, 40))
    both = first.then(second)
    np.testing.assert_allclose(both.matrix(), second.matrix() @ first.matrix())
    assert both.size == (40, 40)
    assert both.zoom == pytest.approx(first.zoom * second.zoom)
    image = smooth_image((60, 80))
    inside = np.s_[12:28, 12:28]
    twice = Image().transform(Image().transform(image, first), second)
    np.testing.assert_allclose(Image().transform(image, both)[inside], twice[inside], atol=0.02)


def test_a_composition_keeps_the_matrices_of_later_frames():
    pair = Geometry((np.eye(3), translation(2, 0)), (10, 10))
    both = Geometry((scaling(2, 2),), (20, 20)).then(pair)
    np.testing.assert_allclose(both.matrix(0), scaling(2, 2))
    np.testing.assert_allclose(both.matrix(1), translation(2, 0) @ scaling(2, 2))


def test_same_seed_gives_the_same_geometry():
    np.testing.assert_array_equal(draw(4).matrix(), draw(4).matrix())
    assert not np.allclose(draw(4).matrix(), draw(5).matrix())


def test_switching_one_augmentation_off_does_not_change_the_others():
    full, unturned = draw(6), draw(6, augmentation=Augmentation(hflip=0.5, max_rotation=0, max_zoom=1.5))
    assert full.zoom == unturned.zoom
    assert np.sign(np.linalg.det(full.matrix())) == np.sign(np.linalg.det(unturned.matrix()))


@pytest.mark.parametrize("index", range(12))
def test_without_rotation_every_output_pixel_is_from_inside(index):
    geometry = draw(index, augmentation=Augmentation(hflip=0.5, max_zoom=1.5))
    corners = np.array([-0.5, 55.5, -0.5, 55.5]), np.array([-0.5, -0.5, 47.5, 47.5])
    x, y = transform_points(np.linalg.inv(geometry.matrix()), *corners)
    assert x.min() >= -0.5 - 1e-9 and x.max() <= 79.5 + 1e-9
    assert y.min() >= -0.5 - 1e-9 and y.max() <= 59.5 + 1e-9


def test_flips_have_the_stated_probability():
    flipped = [np.linalg.det(draw(index).matrix()) < 0 for index in range(400)]
    assert 0.4 < np.mean(flipped) < 0.6
    assert not any(np.linalg.det(draw(i, augmentation=Augmentation()).matrix()) < 0 for i in range(20))


def test_fcrns_input_is_the_center_of_the_halved_image():
    # facts 3.1: 480x640 to 228x304; their ratio is the same, so that nothing is cropped.
    geometry = sample_geometry(None, (480, 640), (228, 304), Augmentation())
    np.testing.assert_allclose(geometry.matrix(), scaling(0.475, 0.475))
    assert geometry.zoom == 1


def test_a_covering_crop_keeps_the_aspect_and_the_center():
    geometry = sample_geometry(None, (100, 200), (50, 50), Augmentation())
    assert covering_size((100, 200), (50, 50)) == (50, 100)
    np.testing.assert_allclose(
        transform_points(geometry.matrix(), np.array([99.5]), np.array([49.5])), [[24.5], [24.5]]
    )


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("target", [(48, 56), (18, 26), (150, 150)])
def test_blob_and_keypoint_move_together(index, target):
    image = np.zeros((60, 80, 3), np.float32)
    x, y = np.meshgrid(np.arange(80), np.arange(60))
    image += np.exp(-((x - 41) ** 2 + (y - 28) ** 2) / (2 * 3.0**2))[..., None].astype(np.float32)
    geometry = draw(index, target=target)
    moved = Image().transform(image, geometry)[..., 0]
    joint = Keypoints(skeleton=Skeleton(("it",), (), ())).transform(np.array([[41, 28, 2]], np.float32), geometry)[0]
    columns, rows = np.meshgrid(np.arange(target[1]), np.arange(target[0]))
    peak = moved > 0.5 * moved.max()
    center = [(axis * moved)[peak].sum() / moved[peak].sum() for axis in (columns, rows)]
    if 8 < joint[0] < target[1] - 8 and 8 < joint[1] < target[0] - 8:
        np.testing.assert_allclose(joint[:2], center, atol=0.25)


def test_below_half_scale_an_image_is_averaged():
    checker = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    for side in (32, 16, 11):
        small = warp_image(checker.astype(np.uint8), plain_resize((64, 64), (side, side)).matrix(), (side, side))
        assert small.min() >= 110 and small.max() <= 145


def test_reduction_does_not_shift_the_image():
    ramp = np.broadcast_to(np.arange(97, dtype=np.float32), (97, 97)).copy()
    for side in (40, 30, 19, 12):
        matrix = plain_resize((97, 97), (side, side)).matrix()
        small = warp_image(ramp, matrix, (side, side))
        x, _ = transform_points(np.linalg.inv(matrix), np.arange(side, dtype=float), np.zeros(side))
        np.testing.assert_allclose(small[side // 2, 2:-2], x[2:-2], atol=0.05)


def test_16_bits_are_resized_like_8():
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    resized = resize_antialiased(image.astype(np.uint16) * 257, (16, 12), True, "bicubic")
    assert resized.dtype == np.uint16
    np.testing.assert_allclose(resized / 257, resize_antialiased(image, (16, 12), True, "bicubic"), atol=1.01)


def test_plain_resize_does_not_change_depth():
    depth = np.array([[1, 2], [3, 4]], np.float32)
    for size in ((4, 4), (2, 6), (1, 1)):
        assert set(np.unique(Depth().transform(depth, plain_resize((2, 2), size)))) <= {1, 2, 3, 4}


def test_covering_crop_does_not_change_depth():
    depth = np.full((60, 80), 2.5, np.float32)
    np.testing.assert_array_equal(
        Depth().transform(depth, sample_geometry(None, (60, 80), (48, 48), Augmentation())), 2.5
    )


def test_zoom_divides_depth():
    # facts 3.1: scaling augmentation by s zooms in, hence depth divides by s.
    geometry = draw(2, augmentation=Augmentation(max_zoom=1.5))
    assert 1 < geometry.zoom <= 1.5
    moved = Depth().transform(np.full((60, 80), 3, np.float32), geometry)
    np.testing.assert_allclose(moved, 3 / geometry.zoom, rtol=1e-6)
    assert moved.dtype == np.float32


def test_depth_is_never_averaged_and_corners_become_unknown():
    # facts 3.1: rotation uses nearest for depth and marks the new corners invalid.
    depth = np.where(np.arange(80) < 40, 1.0, 9.0).astype(np.float32)[None].repeat(60, 0)
    center = translation(39.5, 29.5)
    moved = Depth().transform(depth, Geometry((center @ rotation(20) @ np.linalg.inv(center),), (60, 80)))
    assert set(np.unique(moved[np.isfinite(moved)])) == {1, 9}
    assert np.isnan(moved[0, 0]) and np.isfinite(moved[30, 40])


def test_labels_and_masks_are_nearest_and_outside_is_marked():
    away = Geometry((translation(2, 0),), (3, 4))
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    moved = SegmentationMask(tuple("abcdefghijkl")).transform(labels, away)
    np.testing.assert_array_equal(moved[:, 2:], labels[:, :2])
    assert (moved[:, :2] == 255).all()
    assert not Mask().transform(np.ones((3, 4), bool), away)[:, :2].any()


@pytest.mark.parametrize("index", range(6))
def test_transformed_camera_projects_to_the_transformed_pixels(index):
    # K' = M K
    camera = np.array([[300.0, 0, 40], [0, 310, 29], [0, 0, 1]])
    points = np.random.default_rng(index).uniform((-1, -1, 2), (1, 1, 6), (20, 3)).T
    geometry = draw(index)

    def project(matrix):
        projected = matrix @ points
        return projected[:2] / projected[2]

    expected = transform_points(geometry.matrix(), *project(camera))
    np.testing.assert_allclose(project(Camera().transform(camera, geometry)), expected, atol=1e-9)


@pytest.mark.parametrize("matrix", [hflip(80), rotation(180), scaling(2, 2), hflip(80) @ rotation(10),
                                    hflip(80) @ hflip(80), translation(1, 1)])  # fmt: skip
def test_left_and_right_are_exchanged_if_the_determinant_is_negative(matrix):
    joints = np.array([[40, 30, 2], [20, 30, 2], [60, 31, 2]], np.float32)
    # The output is large enough, and shifted, so that every joint stays inside.
    moved = Keypoints(skeleton=BODY).transform(joints, Geometry((translation(200, 200) @ matrix,), (600, 600)))
    x, y = transform_points(translation(200, 200) @ matrix, joints[:, 0].astype(float), joints[:, 1].astype(float))
    order = [0, 2, 1] if np.linalg.det(matrix) < 0 else [0, 1, 2]
    np.testing.assert_allclose(moved[:, :2], np.stack([x, y], 1)[order], atol=1e-3)


def test_joint_outside_the_image_becomes_unlabeled():
    joints = np.array([[0, 0, 2], [79, 59, 1], [79.4, 59.4, 2]], np.float32)
    stay = Keypoints(skeleton=BODY).transform(joints, Geometry((np.eye(3),), (60, 80)))
    np.testing.assert_array_equal(stay[:, 2], [2, 1, 2])
    gone = Keypoints(skeleton=BODY).transform(joints, Geometry((translation(1, 0),), (60, 80)))
    np.testing.assert_array_equal(gone[:, 2], [2, 0, 0])


def flow_field(seed: int, size=(60, 80)) -> np.ndarray:
    return (smooth_image(size, seed)[..., :2] * 40 - 20).astype(np.float32)


def test_flip_negates_u():
    flow = flow_field(0)
    moved = Flow().transform(flow, Geometry((hflip(80),), (60, 80)))
    np.testing.assert_allclose(moved, flow[:, ::-1] * [-1, 1], atol=1e-5)


def test_flow_scales_with_the_image():
    # facts 3.8: scaling flow multiplies vectors.
    constant = np.full((10, 12, 2), [2, -3], np.float32)
    moved = Flow().transform(constant, plain_resize((10, 12), (30, 24)))
    np.testing.assert_allclose(moved, np.broadcast_to([4, -9], (30, 24, 2)), atol=1e-5)


UPRIGHT = translation(59, 0) @ rotation(90)
"""A quarter turn that maps an image of 60x80 (height x width) to one of 80x60."""


@pytest.mark.parametrize("turned", [UPRIGHT, hflip(60) @ UPRIGHT])
def test_flow_rotates_with_the_image(turned):
    flow = flow_field(1)
    moved = Flow().transform(flow, Geometry((turned,), (80, 60)))
    known = np.isfinite(moved).all(-1)
    x, y = np.meshgrid(np.arange(60.0), np.arange(80.0))
    from_x, from_y = transform_points(np.linalg.inv(turned), x, y)
    columns, rows = np.round(from_x[known]).astype(int), np.round(from_y[known]).astype(int)
    np.testing.assert_allclose(moved[known], flow[rows, columns] @ turned[:2, :2].T, atol=1e-4)
    assert known.mean() > 0.9


def test_flow_follows_its_formula_with_different_matrices():
    # f'(x') = M2 (x + f(x)) - x' with x = M1^-1 x' (design.md 3.2), here with M1 = 1 and a shift of frame 2.
    flow = flow_field(2)
    pair = Geometry((np.eye(3), translation(5, -1) @ rotation(2)), (60, 80))
    moved = Flow().transform(flow, pair)
    x, y = np.meshgrid(np.arange(80.0), np.arange(60.0))
    to_x, to_y = transform_points(pair.matrix(1), x + flow[..., 0], y + flow[..., 1])
    np.testing.assert_allclose(moved, np.stack([to_x - x, to_y - y], -1), atol=1e-4)


@pytest.mark.parametrize("index", range(6))
def test_transformed_pair_matches_with_its_transformed_flow(index):
    second = smooth_image((90, 110), index)
    affine = translation(4, -3) @ rotation(3) @ scaling(1.04, 1.04)
    x, y = np.meshgrid(np.arange(110.0), np.arange(90.0))
    to_x, to_y = transform_points(affine, x, y)
    first = warp_image(second, np.linalg.inv(affine), (90, 110))
    flow = np.stack([to_x - x, to_y - y], -1).astype(np.float32)
    common = draw(index, (90, 110), (70, 80))
    pair = common.then(Geometry((np.eye(3), translation(2, 1)), (70, 80)))
    moved_flow = Flow().transform(flow, pair)
    one_image, other_image = Image().transform(first, pair), Image(frame=1).transform(second, pair)
    columns, rows = np.meshgrid(np.arange(80, dtype=np.float32), np.arange(70, dtype=np.float32))
    target = np.nan_to_num(moved_flow, nan=-1e4) + np.stack([columns, rows], -1)
    fetched = cv2.remap(other_image, target[..., 0].astype(np.float32), target[..., 1].astype(np.float32), 1)
    inside = (target > 8).all(-1) & (target[..., 0] < 72) & (target[..., 1] < 62)
    inside[:8], inside[-8:], inside[:, :8], inside[:, -8:] = False, False, False, False
    assert inside.mean() > 0.2
    assert np.abs(fetched - one_image)[inside].mean() < 0.2 * np.abs(other_image - one_image)[inside].mean()
