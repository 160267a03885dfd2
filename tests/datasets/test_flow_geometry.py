"""Transforms of optical flow: f'(x') = M2 (x + f(x)) - x' with separate matrices for the two frames."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from densevision.datasets.core.augmentation import MAX_SHIFT, Augmentation, sample_geometry
from densevision.datasets.core.geometry import (
    Geometry,
    hflip,
    plain_resize,
    rotation,
    scaling,
    transform_points,
    translation,
)
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.field_types import Flow, Image, transform_sample
from densevision.datasets.rendering.chairs import draw_chairs

SIZE = (48, 64)
FIELDS = {"first": Image(), "second": Image(frame=1), "flow": Flow()}
MOTION = np.array([[1.05, -0.1, 3.0], [0.08, 0.9, -2.0], [0, 0, 1.0]])


def field_of(motion: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Flow of an affine map at every pixel center."""
    x, y = np.meshgrid(np.arange(size[1], dtype=np.float64), np.arange(size[0], dtype=np.float64))
    to_x, to_y = transform_points(motion, x, y)
    return np.stack([to_x - x, to_y - y], axis=-1).astype(np.float32)


TURNED = translation(63, 0) @ rotation(180) @ translation(0, -47)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (hflip(64), hflip(64)),
        (TURNED, TURNED),
        (translation(5, -3), translation(5, -3)),
        (translation(5, -3), rotation(4) @ scaling(1.1, 0.9)),
        (hflip(64), translation(-2.25, 1.5) @ rotation(-3) @ hflip(64)),
        (np.eye(3), np.array([[1, 0.1, 0], [0, 1, 0], [1e-4, 2e-4, 1.0]])),
    ],
)
def test_affine_flow_under_two_matrices_follows_the_formula(first, second):
    # If the first frame is shifted by integer pixels, the flow is exactly M2 A M1^-1 x' - x', without rounding.
    moved = Flow().transform(field_of(MOTION, SIZE), Geometry((first, second), SIZE))
    expected = field_of(second @ MOTION @ np.linalg.inv(first), SIZE)
    known = np.isfinite(moved).all(-1)
    assert known.mean() > 0.8
    np.testing.assert_allclose(moved[known], expected[known], atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_a_constant_field_follows_any_two_matrices_exactly(seed):
    dice = np.random.default_rng((31, seed))
    first = translation(*dice.uniform(-5, 5, 2)) @ rotation(dice.uniform(-40, 40)) @ scaling(*dice.uniform(0.6, 1.8, 2))
    second = translation(*dice.uniform(-5, 5, 2)) @ rotation(dice.uniform(-9, 9)) @ first
    moved = Flow().transform(field_of(translation(4.5, -1.25), SIZE), Geometry((first, second), SIZE))
    expected = field_of(second @ translation(4.5, -1.25) @ np.linalg.inv(first), SIZE)
    known = np.isfinite(moved).all(-1)
    assert known.any()
    np.testing.assert_allclose(moved[known], expected[known], atol=1e-3)


def test_flip_negates_u_and_half_turn_negates_both():
    flow = np.random.default_rng(0).normal(0, 3, (*SIZE, 2)).astype(np.float32)
    flipped = Flow().transform(flow, Geometry((hflip(64),), SIZE))
    np.testing.assert_allclose(flipped, flow[:, ::-1] * (-1, 1), atol=1e-5)
    about = translation(31.5, 23.5) @ rotation(180) @ translation(-31.5, -23.5)
    np.testing.assert_allclose(Flow().transform(flow, Geometry((about,), SIZE)), -flow[::-1, ::-1], atol=1e-5)


def test_quarter_turn_rotates_the_vectors():
    flow = np.random.default_rng(1).normal(0, 3, (32, 32, 2)).astype(np.float32)
    about = translation(15.5, 15.5) @ rotation(90) @ translation(-15.5, -15.5)
    moved = Flow().transform(flow, Geometry((about,), (32, 32)))
    # Clockwise in the image: left becomes up, and (u, v) becomes (-v, u).
    turned = np.rot90(flow, -1)
    np.testing.assert_allclose(moved, np.stack([-turned[..., 1], turned[..., 0]], -1), atol=1e-4)


def test_a_resize_scales_the_vectors():
    flow = np.broadcast_to(np.array([3, 4], np.float32), (*SIZE, 2))
    moved = Flow().transform(flow, plain_resize(SIZE, (96, 32)))
    np.testing.assert_allclose(moved, np.broadcast_to(np.array([1.5, 8]), (96, 32, 2)), atol=1e-5)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(relative_motion=1.0),
        Augmentation(hflip=0.5, max_rotation=17.0, max_zoom=2.0, relative_motion=1.0),
        Augmentation(hflip=0.5, max_rotation=17.0, max_zoom=2.0),
        Augmentation(hflip=0.5, resize_short_side=(60, 90), relative_motion=0.5),
        Augmentation(hflip=0.5, crop_area=(0.3, 1.0), relative_motion=1.0),
    ],
    ids=["between", "paper", "together", "scale", "area"],
)
def test_augmented_pairs_match_better_with_their_flow_than_without(augmentation):
    ratios = []
    for index in range(12):
        pair = draw_chairs(np.random.default_rng((41, index)), 72, 96)
        geometry = sample_geometry(generator(0, 0, index, Purpose.GEOMETRY), (72, 96), SIZE, augmentation)
        moved = transform_sample(pair, FIELDS, geometry)
        first, second, flow = (moved[name].astype(np.float32) for name in ("first", "second", "flow"))
        y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
        back = cv2.remap(second, x + np.nan_to_num(flow[..., 0]), y + np.nan_to_num(flow[..., 1]), cv2.INTER_LINEAR)
        target = np.stack([x, y], -1) + flow
        seen = np.isfinite(flow).all(-1) & (target >= 0).all(-1) & (target <= (SIZE[1] - 1, SIZE[0] - 1)).all(-1)
        without, by_flow = (np.abs(first - other)[seen].mean() for other in (second, back))
        if without > 2:  # gray levels; below, there is hardly any motion
            ratios.append(by_flow / without)
    print(f"mean ratio of the photometric errors {np.mean(ratios):.3f}, worst {max(ratios):.3f} of {len(ratios)} pairs")
    assert len(ratios) >= 8 and max(ratios) < 1 and np.mean(ratios) < 0.6


def test_only_the_second_frame_gets_relative_motion_and_none_in_evaluation():
    usual = Augmentation(hflip=0.5, max_rotation=5.0, max_zoom=1.5)
    for index in range(10):
        plain = sample_geometry(generator(0, 0, index, Purpose.GEOMETRY), SIZE, SIZE, usual)
        moving = sample_geometry(
            generator(0, 0, index, Purpose.GEOMETRY), SIZE, SIZE, replace(usual, relative_motion=1.0)
        )
        np.testing.assert_array_equal(plain.matrix(0), moving.matrix(0))
        middle = np.array([31.5, 23.5, 1])
        shift = moving.matrix(1) @ np.linalg.inv(moving.matrix(0)) @ middle - middle
        assert 0 < np.abs(shift[:2] / (64, 48)).max() <= MAX_SHIFT + 1e-9
    assert len(sample_geometry(None, SIZE, SIZE, replace(usual, relative_motion=1.0)).matrices) == 1
