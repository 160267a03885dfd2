"""Random resized crops: drawn within the picture, read as Pillow would make them, decoded no larger than needed."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from densevision.datasets.crops import AREA, ASPECT, Crop, random_crop, read_random_crop
from densevision.datasets.formats.jpeg import jpeg_size, scale_down
from densevision.datasets.formats.picture import read_picture, write_picture
from densevision.datasets.geometry import resize_antialiased
from densevision.datasets.problems import DamagedData


def picture_of(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2)
    return cv2.normalize(blurred, np.empty_like(blurred), 0, 255, cv2.NORM_MINMAX)


def rng(number: int = 0) -> np.random.Generator:
    return np.random.default_rng((0, 0, number, 2))


@pytest.mark.parametrize("source", [(375, 500), (500, 375), (33, 41), (224, 224)])
def test_crops_lie_inside_with_the_area_and_aspect_asked_for(source):
    crops = [random_crop(rng(number), source) for number in range(300)]
    areas = np.array([crop.height * crop.width for crop in crops]) / math.prod(source)
    aspects = np.array([crop.width / crop.height for crop in crops])
    for crop in crops:
        assert 0 <= crop.top <= crop.top + crop.height <= source[0]
        assert 0 <= crop.left <= crop.left + crop.width <= source[1]
    rounding = 1.5 / math.sqrt(AREA[0] * math.prod(source))
    assert areas.min() > AREA[0] * (1 - 2 * rounding) and areas.max() <= 1
    assert aspects.min() > ASPECT[0] * (1 - 2 * rounding) and aspects.max() < ASPECT[1] * (1 + 2 * rounding)
    assert areas.max() > 0.85 and areas.min() < 0.15
    assert 0.35 < np.mean([crop.mirrored for crop in crops]) < 0.65


def test_a_picture_too_long_for_any_draw_gives_its_middle():
    # torchvision's fallback: the largest central crop of the nearest allowed aspect.
    assert random_crop(rng(), (30, 300), area=(0.9, 1.0), flip=0) == Crop(0, 130, 30, 40)
    assert random_crop(rng(), (300, 30), area=(0.9, 1.0), flip=1) == Crop(130, 0, 40, 30, mirrored=True)
    assert random_crop(rng(), (1, 1)) in (Crop(0, 0, 1, 1, mirrored) for mirrored in (True, False))


@pytest.mark.parametrize("size", [(20, 20), (33, 57), (80, 70), (60, 90)])
def test_resizing_is_pillows_antialiased_bilinear_to_one_grey_level(size):
    picture = picture_of(60, 90)
    theirs = np.asarray(Pillow.fromarray(picture).resize(size[::-1], Pillow.Resampling.BILINEAR)).astype(int)
    ours = resize_antialiased(picture, size)
    assert ours.dtype == np.uint8
    assert np.abs(ours - theirs).max() <= 1


def test_a_crop_is_taken_from_its_place_and_mirrored_last():
    picture = picture_of(40, 50)
    crop = Crop(3, 7, 16, 24)
    np.testing.assert_array_equal(crop.take(picture, (16, 24)), picture[3:19, 7:31])
    mirrored = Crop(3, 7, 16, 24, mirrored=True)
    np.testing.assert_array_equal(mirrored.take(picture, (12, 10)), crop.take(picture, (12, 10))[:, ::-1])
    grey = picture[..., :1]
    assert crop.take(grey, (8, 8)).shape == mirrored.take(grey, (8, 8)).shape == (8, 8, 1)
    frozen = picture.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(crop.take(frozen, (8, 8)), crop.take(picture, (8, 8)))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_the_same_generator_gives_the_same_crop_of_any_format(tmp_path, suffix):
    path, source = tmp_path / f"a.{suffix}", (60, 80)
    write_picture(path, picture_of(*source))
    read = read_random_crop(path, rng(4), (24, 24), area=(0.1, 0.2))
    expected = random_crop(rng(4), source, area=(0.1, 0.2)).take(read_picture(path), (24, 24))
    np.testing.assert_array_equal(read, expected)
    assert read.shape == (24, 24, 3)


def test_a_crop_of_a_large_jpeg_is_decoded_smaller_and_looks_the_same(tmp_path):
    path, source, size = tmp_path / "a.jpg", (801, 1003), (48, 48)
    write_picture(path, cv2.resize(picture_of(40, 50), source[::-1], interpolation=cv2.INTER_CUBIC))
    for number in range(20):
        crop = random_crop(rng(number), source)
        decoded = read_picture(path, at_least=crop.whole(source, size))
        there = crop.reduced(round(source[1] / decoded.shape[1]))
        assert decoded.shape[0] < source[0] / 1.9
        assert there.height >= size[0] - 1 and there.width >= size[1] - 1  # its sides are rounded to whole pixels
        assert there.top + there.height <= decoded.shape[0] and there.left + there.width <= decoded.shape[1]
        read = read_random_crop(path, rng(number), size).astype(int)
        assert np.abs(read - crop.take(read_picture(path), size)).mean() < 3
        assert np.abs(read - crop.take(read_picture(path), size)[:, ::-1]).mean() > 10


def test_a_crop_on_a_smaller_decoding_keeps_its_place():
    crop = Crop(100, 200, 40, 60, mirrored=True)
    assert crop.reduced(2) == Crop(50, 100, 20, 30, mirrored=True)
    assert crop.reduced(1) is crop
    assert Crop(0, 0, 1, 1).reduced(8) == Crop(0, 0, 1, 1)


def test_at_least_is_kept_and_a_picture_that_is_no_jpeg_stays_whole(tmp_path):
    write_picture(tmp_path / "a.jpg", picture_of(101, 203))
    for at_least, found in [
        ((101, 203), (101, 203)),
        ((52, 100), (101, 203)),
        ((51, 102), (51, 102)),
        ((20, 30), (26, 51)),
        ((1, 1), (13, 26)),
        ((300, 1), (101, 203)),
    ]:
        assert read_picture(tmp_path / "a.jpg", at_least).shape == (*found, 3)
    write_picture(tmp_path / "a.png", picture_of(101, 203))
    assert read_picture(tmp_path / "a.png", (1, 1)).shape == (101, 203, 3)


def test_a_picture_decoded_smaller_is_its_area_average(tmp_path):
    picture = picture_of(96, 128)
    write_picture(tmp_path / "a.jpg", picture, quality=98)
    small = read_picture(tmp_path / "a.jpg", (48, 64)).astype(int)
    assert np.abs(small - cv2.resize(picture, (64, 48), interpolation=cv2.INTER_AREA)).mean() < 3


def test_the_header_states_the_size_of_every_kind_of_jpeg(tmp_path):
    kinds: list[dict[str, Any]] = [{}, {"progressive": True}, {"comment": b"\xff\xc0 no frame"}, {"subsampling": 0}]
    for number, options in enumerate(kinds):
        path = tmp_path / f"{number}.jpg"
        Pillow.fromarray(picture_of(37, 53)).save(path, **options)
        assert jpeg_size(path.read_bytes()) == (37, 53)
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turned on the screen, but not where it is stored
    Pillow.fromarray(picture_of(37, 53)).save(tmp_path / "turned.jpg", exif=exif)
    assert jpeg_size((tmp_path / "turned.jpg").read_bytes()) == (37, 53)
    assert read_picture(tmp_path / "turned.jpg", (1, 1)).shape == (5, 7, 3)


def test_bytes_without_a_frame_state_no_size(tmp_path):
    whole = tmp_path / "a.jpg"
    write_picture(whole, picture_of(37, 53))
    data = whole.read_bytes()
    assert jpeg_size(b"") is jpeg_size(b"\x89PNG") is jpeg_size(data[:2]) is None
    for end in range(200):
        assert jpeg_size(data[:end]) in (None, (37, 53))
    assert jpeg_size(b"\xff\xd8" + b"\xff\x00\x00\x00" * 50) is None


def test_scaling_down_never_goes_below_what_suffices():
    for height in range(1, 70):
        factor = scale_down((height, 64), (5, 5))
        assert factor == 1 or -(-height // factor) >= 5


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_a_damaged_file_is_refused_with_its_name(tmp_path, share):
    path = tmp_path / "a.jpg"
    write_picture(path, picture_of(60, 80))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DamagedData, match="expected"):
        read_random_crop(path, rng(), (16, 16))
