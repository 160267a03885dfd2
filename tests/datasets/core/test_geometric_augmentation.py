"""Geometric augmentation: distributions of crops, scales, zooms and flips."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from densevision.datasets.core.augmentation import ASPECT, Augmentation, random_crop, sample_geometry
from densevision.datasets.core.geometry import Geometry, Size, covering_size, transform_points
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.field_types import Depth, Image, Keypoints, Skeleton

CIFAR = Augmentation(hflip=0.5, resize_short_side=(32, 32), crop_padding=4)
"""He et al. 2015, section 4.2: padding of 4, a random crop of 32, flipped half of the time (facts 2.3)."""
RESNET = Augmentation(hflip=0.5, resize_short_side=(256, 480))
INCEPTION = Augmentation(hflip=0.5, crop_area=(0.08, 1.0))


def draw(index: int, source: Size, target: Size, augmentation: Augmentation) -> Geometry:
    return sample_geometry(generator(3, 0, index, Purpose.GEOMETRY), source, target, augmentation)


def noise(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


def scale_of(geometry: Geometry) -> tuple[float, float]:
    """(y, x) magnification."""
    return abs(geometry.matrix()[1, 1]), abs(geometry.matrix()[0, 0])


def corner(geometry: Geometry) -> tuple[float, float]:
    """(top, left) of the crop in pixels of the resized image; integers if they were drawn as such."""
    matrix, (y, x) = geometry.matrix(), scale_of(geometry)
    left = matrix[0, 2] if matrix[0, 0] > 0 else geometry.size[1] - 1 - matrix[0, 2]
    return (y - 1) / 2 - matrix[1, 2], (x - 1) / 2 - left


# --- scale and pad ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(20))
def test_crop_without_resize_is_exact(index):
    source = noise(32, 32, 3)
    geometry = draw(index, (32, 32), (32, 32), CIFAR)
    padded = np.pad(source, ((4, 4), (4, 4), (0, 0)), "reflect")
    top, left = (round(place) + 4 for place in corner(geometry))
    expected = padded[top : top + 32, left : left + 32]
    if np.linalg.det(geometry.matrix()) < 0:
        expected = expected[:, ::-1]
    np.testing.assert_array_equal(Image().transform(source, geometry), expected)


def test_crops_are_uniform_over_all_allowed_positions():
    # 2 x 4 + 1 positions on each axis; 1800 draws are 200 for each, of standard deviation 13.
    places = np.array([corner(draw(index, (32, 32), (32, 32), CIFAR)) for index in range(1800)])
    np.testing.assert_allclose(places, np.round(places), atol=1e-9)
    for axis in range(2):
        values, counts = np.unique(np.round(places[:, axis]), return_counts=True)
        assert values.tolist() == list(range(-4, 5))
        assert counts.min() > 140 and counts.max() < 260
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.1


def test_crops_reach_both_ends_of_the_image_and_stay_inside():
    # AlexNet: 227 of 256, hence 30 positions (facts 2.3)
    places = np.array(
        [corner(draw(i, (256, 300), (227, 227), Augmentation(resize_short_side=(256, 256)))) for i in range(1500)]
    )
    assert (places.min(0).round().tolist(), places.max(0).round().tolist()) == ([0, 0], [29, 73])


def test_padded_digit_has_one_position():
    # LeNet-5: 28 in 32 (facts 1.1)
    lenet = Augmentation(resize_short_side=(28, 28), crop_padding=2)
    assert {tuple(np.round(corner(draw(index, (28, 28), (32, 32), lenet)), 9)) for index in range(30)} == {(-2, -2)}


@pytest.mark.parametrize("source", [(300, 400), (400, 300), (256, 256)])
def test_resize_short_side_is_uniform_over_integers_ends_included(source):
    drawn = [draw(index, source, (28, 28), Augmentation(resize_short_side=(30, 33))) for index in range(400)]
    shorts = [round(min(np.multiply(source, scale_of(geometry))), 6) for geometry in drawn]
    values, counts = np.unique(shorts, return_counts=True)
    assert values.tolist() == [30, 31, 32, 33]
    assert counts.min() > 60  # of 100 expected, standard deviation 9


@pytest.mark.parametrize("index", range(20))
def test_scaled_crop_stays_in_the_image_and_keeps_its_aspect(index):
    geometry = draw(index, (300, 400), (224, 224), RESNET)
    y, x = scale_of(geometry)
    assert 256 <= round(y * 300) <= 480 and x == pytest.approx(y, abs=0.5 / 400)
    columns, rows = transform_points(np.linalg.inv(geometry.matrix()), np.array([-0.5, 223.5]), np.array([-0.5, 223.5]))
    assert columns.min() >= -0.5 - 1e-6 and columns.max() <= 399.5 + 1e-6
    assert rows.min() >= -0.5 - 1e-6 and rows.max() <= 299.5 + 1e-6


@pytest.mark.parametrize(("source", "pad"), [((16, 16), 0), ((3, 50), 0), ((1, 1), 2), ((50, 3), 3)])
def test_images_smaller_than_the_crop_are_reflected(source, pad):
    for index in range(8):
        geometry = draw(index, source, (32, 32), Augmentation(hflip=0.5, resize_short_side=(20, 24), crop_padding=pad))
        moved = Image().transform(noise(*source, 1), geometry)
        assert moved.shape == (32, 32, 1)
        for place, side in zip(corner(geometry), np.multiply(source, scale_of(geometry)), strict=True):
            ends = sorted((-pad, side + pad - 32))
            assert ends[0] - 1e-6 <= place <= ends[1] + 1e-6


def test_without_rng_the_crop_is_centered_at_the_minimum_scale():
    geometry = sample_geometry(None, (256, 320), (224, 224), RESNET)
    assert corner(geometry) == pytest.approx((16, 48))
    assert geometry.zoom == pytest.approx(256 / 224)


# --- area -------------------------------------------------------------------------------------------------------


def test_areas_and_aspects_are_those_of_szegedy():
    # facts 2.3: 8 to 100 % of the area, aspect between 3/4 and 4/3
    drawn = [draw(index, (300, 400), (224, 224), INCEPTION) for index in range(400)]
    heights, widths = np.array([np.divide(224, scale_of(geometry)) for geometry in drawn]).T
    areas, aspects = heights * widths / (300 * 400), widths / heights
    assert 0.08 * 0.98 < areas.min() < 0.15 and 0.85 < areas.max() <= 1
    assert ASPECT[0] * 0.99 < aspects.min() < 0.8 and 1.25 < aspects.max() < ASPECT[1] * 1.01
    places = np.array([corner(geometry) / np.array(scale_of(geometry)) for geometry in drawn])
    np.testing.assert_allclose(places, np.round(places), atol=1e-6)  # integer pixels
    assert (places > -1e-6).all() and (places + np.stack([heights, widths], 1) < np.array([300, 400]) + 1e-6).all()


def test_image_too_long_for_any_draw_gives_its_center_crop():
    # Fallback of torchvision: the largest center crop of the nearest allowed aspect ratio (facts 2.3).
    rng = generator(0, 0, 0, Purpose.GEOMETRY)
    assert random_crop(rng, (30, 300), (0.9, 1.0)) == (0, 130, 30, 40)
    assert random_crop(rng, (300, 30), (0.9, 1.0)) == (130, 0, 40, 30)
    assert random_crop(rng, (1, 1), (0.08, 1.0)) == (0, 0, 1, 1)


def test_full_area_crop_of_a_square_is_a_plain_resize():
    drawn = [draw(i, (64, 64), (32, 32), Augmentation(crop_area=(1.0, 1.0))) for i in range(5)]
    widths = [32 / scale_of(geometry)[1] for geometry in drawn]
    assert max(widths) <= 64 + 1e-9


def test_without_rng_crop_area_is_a_covering_crop():
    plain = sample_geometry(None, (300, 400), (224, 224), Augmentation())
    np.testing.assert_array_equal(sample_geometry(None, (300, 400), (224, 224), INCEPTION).matrix(), plain.matrix())


# --- framing ----------------------------------------------------------------------------------------------------

FRAMINGS = ("fit", "stretch")
SOURCES = ((300, 400), (400, 300), (224, 160), (50, 800), (1, 1))


def framed(geometry: Geometry, source: Size) -> tuple[np.ndarray, np.ndarray]:
    """Outer edges of the image in the output: (left, right) and (top, bottom)."""
    height, width = source
    x, y = transform_points(geometry.matrix(), np.array([-0.5, width - 0.5]), np.array([-0.5, height - 0.5]))
    return np.sort(x), np.sort(y)


@pytest.mark.parametrize("source", SOURCES)
def test_fit_framing_contains_the_complete_image_at_its_aspect(source):
    target, lefts, tops = (224, 160), [], []
    factor = min(224 / source[0], 160 / source[1])
    for index in range(60):
        geometry = draw(index, source, target, Augmentation(hflip=0.5, framing="fit"))
        assert geometry.size == target and geometry.zoom == 1
        assert scale_of(geometry) == pytest.approx((factor, factor))
        (left, right), (top, bottom) = framed(geometry, source)
        assert left > -0.5 - 1e-6 and right < 159.5 + 1e-6 and top > -0.5 - 1e-6 and bottom < 223.5 + 1e-6
        lefts.append(left)
        tops.append(top)
    # At any position within the available space.
    for found, room in ((lefts, 160 - factor * source[1]), (tops, 224 - factor * source[0])):
        assert min(found) < -0.5 + 0.1 * room + 1e-6 and max(found) > -0.5 + 0.9 * room - 1e-6


@pytest.mark.parametrize("source", SOURCES)
def test_stretch_framing_fills_the_output(source):
    for index in range(10):
        geometry = draw(index, source, (224, 160), Augmentation(hflip=0.5, framing="stretch"))
        np.testing.assert_allclose(framed(geometry, source), [(-0.5, 159.5), (-0.5, 223.5)], atol=1e-6)


@pytest.mark.parametrize("source", SOURCES)
def test_without_rng_a_framed_image_is_centered_without_zoom(source):
    for framing in FRAMINGS:
        geometry = sample_geometry(None, source, (224, 160), Augmentation(0.5, 30, 1.5, framing))
        (left, right), (top, bottom) = framed(geometry, source)
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((79.5, 111.5))
        assert geometry.zoom == 1 and np.linalg.det(geometry.matrix()) > 0
        assert max((right - left) / 160, (bottom - top) / 224) == pytest.approx(1)
        assert right - left <= 160 + 1e-6 and bottom - top <= 224 + 1e-6


@pytest.mark.parametrize("framing", FRAMINGS)
def test_zoom_of_framed_images_is_log_uniform_in_both_directions(framing):
    whole = draw(0, (300, 400), (224, 160), Augmentation(framing=framing))
    zooms = []
    for index in range(600):
        geometry = draw(index, (300, 400), (224, 160), Augmentation(max_zoom=1.5, framing=framing))
        assert scale_of(geometry) == pytest.approx(np.multiply(geometry.zoom, scale_of(whole)))
        zooms.append(geometry.zoom)
    # 600 draws in six equal parts are 100 in each, standard deviation 9.
    parts, _ = np.histogram(np.log(zooms) / np.log(1.5), 6, (-1, 1))
    assert parts.sum() == 600 and parts.min() > 60 and parts.max() < 140


@pytest.mark.parametrize("framing", FRAMINGS)
def test_larger_images_fill_the_output_and_smaller_ones_are_inside(framing):
    larger = 0
    for index in range(40):
        geometry = draw(index, (300, 400), (224, 160), Augmentation(max_zoom=2, framing=framing))
        for (first, last), side in zip(framed(geometry, (300, 400)), (160, 224), strict=True):
            # Beyond the first and the last edge of the output: both or neither.
            beyond = (-0.5 - first, last - (side - 0.5))
            assert min(beyond) > -1e-6 if last - first > side else max(beyond) < 1e-6
            larger += last - first > side
    assert 10 < larger < 70


@pytest.mark.parametrize("index", range(6))
def test_framing_does_not_change_the_random_numbers(index):
    # Zoom, angle, x position, y position, flip: the same for every framing.
    zoom, angle, x, y, flip = generator(3, 0, index, Purpose.GEOMETRY).uniform((0, -1, 0, 0, 0), 1)
    for framing in (*FRAMINGS, "cover"):
        geometry = draw(index, (300, 400), (224, 160), Augmentation(0.5, 20, 1.5, framing))
        matrix = geometry.matrix() @ np.diag([-1, 1, 1]) if flip < 0.5 else geometry.matrix()
        assert np.linalg.det(matrix) > 0
        assert geometry.zoom == pytest.approx(1.5 ** (zoom if framing == "cover" else 2 * zoom - 1))
        turned = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
        assert turned == pytest.approx(-20 * angle if flip < 0.5 else 20 * angle)
        straight = draw(index, (300, 400), (224, 160), Augmentation(0, 0, 1.5, framing))
        (left, right), (top, bottom) = framed(straight, (300, 400))
        assert (left + 0.5, top + 0.5) == pytest.approx((x * (160 - (right - left)), y * (224 - (bottom - top))))


# --- all of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "augmentation", [CIFAR, RESNET, INCEPTION, Augmentation(0.5, 10, 1.5), Augmentation(0.5, 10, 1.5, "fit")]
)
def test_geometry_is_reproducible(augmentation):
    one, again, other = (draw(index, (300, 400), (224, 224), augmentation) for index in (4, 4, 5))
    np.testing.assert_array_equal(one.matrix(), again.matrix())
    assert one.zoom == again.zoom and not np.allclose(one.matrix(), other.matrix())


@pytest.mark.parametrize("augmentation", [CIFAR, RESNET, INCEPTION, Augmentation(0.5, max_zoom=1.5)])
def test_the_flip_is_the_fifth_draw_whatever_else_is_drawn(augmentation):
    # Runs of earlier versions keep their samples.
    for index in range(30):
        fifth = generator(3, 0, index, Purpose.GEOMETRY).uniform(0, 1, 5)[4]
        geometry = draw(index, (300, 400), (224, 224), augmentation)
        assert (np.linalg.det(geometry.matrix()) < 0) == (fifth < 0.5)


@pytest.mark.parametrize("index", range(6))
def test_random_stream_of_zoom_and_position_is_unchanged(index):
    # The order of the draws is fixed: zoom, angle, x position, y position, flip.
    zoom, angle, x, y, _ = generator(3, 0, index, Purpose.GEOMETRY).uniform((0, -1, 0, 0, 0), 1)
    geometry = draw(index, (60, 80), (48, 56), Augmentation(max_zoom=1.5))
    assert geometry.zoom == pytest.approx(1.5**zoom) and -1 <= angle <= 1
    height, width = (geometry.zoom * side for side in covering_size((60, 80), (48, 56)))
    assert corner(geometry) == pytest.approx((y * (height - 48), x * (width - 56)))


@pytest.mark.parametrize("augmentation", [RESNET, INCEPTION, Augmentation(0.5, max_zoom=2.0)])
def test_depth_is_divided_by_the_magnification_beyond_the_covering_image(augmentation):
    # facts 3.1: a plain resize does not change depth, an enlarged crop does; sqrt(|det M|) measures both.
    for index in range(6):
        geometry = draw(index, (300, 400), (224, 224), augmentation)
        height, width = covering_size((300, 400), (224, 224))
        magnified = math.sqrt(abs(np.linalg.det(geometry.matrix())) * 300 * 400 / (height * width))
        assert geometry.zoom == pytest.approx(magnified, rel=1e-6)
        moved = Depth().transform(np.full((300, 400), 3, np.float32), geometry)
        np.testing.assert_allclose(moved, 3 / geometry.zoom, rtol=1e-5)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(0.5, 8, resize_short_side=(50, 70), crop_padding=3),
        Augmentation(0.5, 8, crop_area=(0.3, 1)),
        Augmentation(0.5, 8, 1.2, "stretch"),
    ],
)
@pytest.mark.parametrize("index", range(6))
def test_blob_and_keypoint_move_together(augmentation, index):
    source = np.zeros((60, 80, 3), np.float32)
    x, y = np.meshgrid(np.arange(80), np.arange(60))
    source += np.exp(-((x - 41) ** 2 + (y - 28) ** 2) / (2 * 3.0**2))[..., None].astype(np.float32)
    geometry = draw(index, (60, 80), (48, 48), augmentation)
    moved = cv2.GaussianBlur(Image().transform(source, geometry)[..., 0], (0, 0), 1)
    joint = Keypoints(skeleton=Skeleton(("it",), (), ())).transform(np.array([[41, 28, 2]], np.float32), geometry)[0]
    if 10 < joint[0] < 38 and 10 < joint[1] < 38:
        columns, rows = np.meshgrid(np.arange(48), np.arange(48))
        peak = moved > 0.5 * moved.max()
        center = [(axis * moved)[peak].sum() / moved[peak].sum() for axis in (columns, rows)]
        np.testing.assert_allclose(joint[:2], center, atol=0.3)
