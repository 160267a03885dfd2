"""Synthetic shapes: reproducible at any size, solvable by form, helped but not decided by color."""

from __future__ import annotations

import colorsys
import itertools
import math

import cv2
import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.rendering.grounds import GROUNDS, PATTERNS, ground, pyramid
from densevision.datasets.rendering.materials import Dice
from densevision.datasets.rendering.outlines import FRAGMENTS, OUTLINES
from densevision.datasets.rendering.shapes import (
    CONTRAST,
    HUE_SPREAD,
    NAMES,
    PREFERRED_HUES,
    PREFERRED_SHARE,
    draw_shape,
)
from densevision.datasets.synthetic import SyntheticShapes


def rng(index: int) -> np.random.Generator:
    return np.random.default_rng((11, 0, index, 5))


@pytest.fixture(scope="module")
def many():
    return [draw_shape(rng(index), 48, 48) for index in range(1500)]


def area(contours) -> float:
    return abs(cv2.contourArea(contours[0].astype(np.float32))) - sum(
        abs(cv2.contourArea(hole.astype(np.float32))) for hole in contours[1:]
    )


@pytest.mark.parametrize("size", [(32, 32), (37, 53), (64, 48), (224, 224)])
def test_fields_have_their_shapes_and_types_at_any_size(size):
    for index in range(12):
        drawn = draw_shape(rng(index), *size)
        assert drawn.image.shape == (*size, 3) and drawn.image.dtype == np.uint8
        assert drawn.mask.shape == size and drawn.mask.dtype == np.bool_
        assert 0 <= drawn.category < len(NAMES)
        assert drawn.image.std() > 8


def test_same_seed_gives_the_same_image_at_any_size():
    for index in range(20):
        small, large = draw_shape(rng(index), 64, 64), draw_shape(rng(index), 256, 256)
        assert small.category == large.category
        reduced = cv2.resize(large.mask.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA) > 0.5
        assert (reduced != small.mask).sum() < 0.12 * small.mask.sum()
        coarse = cv2.resize(large.image, (64, 64), interpolation=cv2.INTER_AREA).astype(float)
        assert np.abs(coarse - small.image).mean() < 14


def test_classes_are_uniform(many):
    counts = np.bincount([drawn.category for drawn in many], minlength=len(NAMES))
    # 150 expected of each, sigma 11.6
    assert (np.abs(counts - 150) < 5 * 11.6).all()


def test_shape_is_completely_in_the_image_with_the_area_of_its_outline():
    for index in range(100):
        drawn = draw_shape(rng(index), 96, 128)
        assert not (drawn.mask[0].any() or drawn.mask[-1].any() or drawn.mask[:, 0].any() or drawn.mask[:, -1].any())
        unit = area(OUTLINES[NAMES[drawn.category]])
        # Radius 0.24 to 0.42 of 96 pixels, squeezed in one direction to 0.9 at most.
        assert 0.9 * 0.97 * unit * (0.24 * 96) ** 2 < drawn.mask.sum() < 1.03 * unit * (0.42 * 96) ** 2


def test_outlines_fit_the_unit_circle_and_a_ring_has_its_hole():
    for name, contours in OUTLINES.items():
        radius = max(np.hypot(*contour.T).max() for contour in contours)
        assert 0.85 < radius <= 1.0 + 1e-9, name
    ring = draw_shape(rng(0), 96, 96, "ring").mask
    y, x = np.argwhere(ring).mean(0).round().astype(int)
    assert not ring[y, x]


def form(mask: np.ndarray) -> list[float]:
    """What is left of a silhouette when place, size and rotation are taken away."""
    points = cv2.findNonZero(mask.astype(np.uint8))
    moment = cv2.HuMoments(cv2.moments(mask.astype(np.uint8), binaryImage=True))[0, 0]
    width, length = cv2.minAreaRect(points)[1]
    return [float(moment), cv2.contourArea(cv2.convexHull(points)) / mask.sum(), mask.sum() / (width * length)]


def test_classes_differ_at_all_rotations():
    """Each class is named from its silhouette alone by what a rotation leaves; so no square is another's diamond."""
    means, spreads = {}, {}
    for name in NAMES:
        found = [form(draw_shape(rng(index), 128, 128, name).mask) for index in range(12)]
        means[name], spreads[name] = np.mean(found, 0), np.std(found, 0)
    for number, one in enumerate(NAMES):
        for other in NAMES[number + 1 :]:
            apart = np.abs(means[one] - means[other]) / (spreads[one] + spreads[other] + 1e-9)
            assert apart.max() > 2, (one, other, apart)


def hue_of(drawn) -> float:
    inside = cv2.erode(drawn.mask.astype(np.uint8), np.ones((3, 3))) > 0
    pixels = drawn.image[inside] if inside.any() else drawn.image[drawn.mask]
    hues = np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in np.median(pixels, 0, keepdims=True)])
    return hues[0, 0]


def test_color_is_informative_but_not_sufficient_for_the_class(many):
    def away(first: float, second: float) -> float:
        return abs((first - second + 0.5) % 1 - 0.5)

    near = [away(hue_of(drawn), PREFERRED_HUES[NAMES[drawn.category]]) < HUE_SPREAD + 0.02 for drawn in many]
    by_chance = 2 * (HUE_SPREAD + 0.02)
    expected = PREFERRED_SHARE + (1 - PREFERRED_SHARE) * by_chance
    assert np.mean(near) == pytest.approx(expected, abs=0.06)
    hues = sorted(PREFERRED_HUES.values())
    assert set(PREFERRED_HUES) == set(NAMES)
    # Two classes never prefer the same colors.
    assert min(second - first for first, second in itertools.pairwise(hues)) >= 2 * HUE_SPREAD


def test_shapes_are_darker_or_lighter_than_their_background(many):
    """A gray image, or colors that happen to agree, must not hide it."""
    differences = []
    for drawn in many[:400]:
        gray = cv2.cvtColor(drawn.image, cv2.COLOR_RGB2GRAY)
        outside = cv2.dilate(drawn.mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
        differences.append(abs(gray[drawn.mask].mean() - gray[outside].mean()) / 255)
    # Shade, light from one side and exposure take some of it away.
    assert np.quantile(differences, 0.02) > CONTRAST / 2


def test_fragments_are_not_shapes_of_the_list():
    """They are slender, where every shape is as wide as long or nearly so."""

    def slenderness(contour):
        sides = cv2.minAreaRect(contour.astype(np.float32))[1]
        return max(sides) / min(sides)

    dice = Dice(np.random.default_rng(0))
    assert min(slenderness(make(dice)) for make in FRAGMENTS for _ in range(50)) > 1.3
    roundish = {name: slenderness(contours[0]) for name, contours in OUTLINES.items()}
    assert max(slender for name, slender in roundish.items() if name not in ("arrow", "crescent", "drop")) < 1.2


@pytest.mark.parametrize("name", [*GROUNDS, *PATTERNS])
def test_backgrounds_tile_without_a_seam(name):
    tile = pyramid(name)[0]
    inner = np.abs(np.diff(tile, axis=0)).mean(tuple(range(tile.ndim))[1:])
    seam = np.abs(tile[0] - tile[-1]).mean()
    assert seam <= inner.max() * 1.05 + 0.02


@pytest.mark.parametrize("name", GROUNDS)
def test_distant_background_fades_to_its_mean(name):
    near, far = (ground(name, 1.0, 0.4, (0.1, 0.2), (side, side)) for side in (256, 16))
    assert far.std((0, 1)).mean() < near.std((0, 1)).mean()
    np.testing.assert_allclose(far.mean((0, 1)), pyramid(name)[0].mean((0, 1)), atol=0.05)


def test_backgrounds_have_typical_colors():
    color = {name: pyramid(name)[0].mean((0, 1)) for name in GROUNDS}
    assert color["meadow"].argmax() == 1  # green
    for name in ("sky", "water", "snow", "night"):
        assert color[name].argmax() == 2, name  # blue
    for name in ("planks", "sand", "bricks", "autumn"):
        red, green, blue = color[name]
        assert red > green > blue, name
    assert np.ptp(color["cobbles"]) < 0.02  # gray
    assert color["snow"].mean() > 0.8 > 0.25 > color["night"].mean()


def test_opens_by_name_and_train_differs_from_test():
    train, test = open_dataset("synthetic-shapes"), open_dataset("synthetic-shapes", split="test")
    assert isinstance(train, SyntheticShapes) and train.infinite and len(test) == 1000
    assert train.read(0)["image"].shape == (64, 64, 3)
    assert open_dataset("synthetic-shapes").with_size((40, 56)).read(3)["image"].shape == (40, 56, 3)
    assert math.isclose(PREFERRED_SHARE, 0.7)
