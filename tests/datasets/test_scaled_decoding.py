"""Scaled decoding of JPEG, and antialiased resize as in Pillow."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from densevision.datasets.classification.class_folders import ClassFolders
from densevision.datasets.core.augmentation import Augmentation, sample_geometry
from densevision.datasets.core.geometry import resize_antialiased, transform_image
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.formats.image import EncodedImage, read_image, reduction, write_image


def image_of(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2)
    return cv2.normalize(blurred, np.empty_like(blurred), 0, 255, cv2.NORM_MINMAX)


def record_decoded(monkeypatch) -> list[np.ndarray]:
    """The images that are decoded from now on."""
    decoded, decode = [], EncodedImage.decode
    monkeypatch.setattr(
        EncodedImage, "decode", lambda self, size=None: decoded.append(decode(self, size)) or decoded[-1]
    )
    return decoded


def rng(number: int = 0) -> np.random.Generator:
    return np.random.default_rng((0, 0, number, 2))


@pytest.mark.parametrize("size", [(20, 20), (33, 57), (80, 70), (60, 90)])
def test_resize_agrees_with_pillow_to_one_gray_level(size):
    image = image_of(60, 90)
    theirs = np.asarray(Pillow.fromarray(image).resize(size[::-1], Pillow.Resampling.BILINEAR)).astype(int)
    ours = resize_antialiased(image, size)
    assert ours.dtype == np.uint8
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_transformed_sample_is_about_the_transform_of_the_full_image(tmp_path, monkeypatch, suffix):
    decoded = record_decoded(monkeypatch)
    size, crops = (48, 48), Augmentation(hflip=0.5, crop_area=(0.08, 1.0))
    (tmp_path / "train" / "thing").mkdir(parents=True)
    path = tmp_path / "train" / "thing" / f"a.{suffix}"
    write_image(path, cv2.resize(image_of(40, 50), (1003, 801), interpolation=cv2.INTER_CUBIC))
    write_image(tmp_path / "train" / "zebra" / "b.png", image_of(8, 8))
    images = ClassFolders(tmp_path)
    whole = images.read(0)["image"]
    for number in range(20):
        assert images.image_size(0) == (801, 1003)
        geometry = sample_geometry(rng(number), (801, 1003), size, crops)
        decoded.clear()
        sample = images.read_transformed(0, geometry)
        assert int(sample["category"]) == 0
        assert (decoded[0].shape[0] < 801 / 1.9) == (suffix == "jpg")
        moved = sample["image"].astype(int)
        wanted = transform_image(whole, geometry)
        assert np.abs(moved - wanted).mean() < (3 if suffix == "jpg" else 1e-6)
        assert np.abs(moved - wanted[:, ::-1]).mean() > 10


def test_min_size_is_respected_and_other_formats_are_decoded_fully(tmp_path):
    write_image(tmp_path / "a.jpg", image_of(101, 203))
    for at_least, found in [
        ((101, 203), (101, 203)),
        ((52, 100), (101, 203)),
        ((51, 102), (51, 102)),
        ((20, 30), (26, 51)),
        ((1, 1), (13, 26)),
        ((300, 1), (101, 203)),
    ]:
        assert read_image(tmp_path / "a.jpg", at_least).shape == (*found, 3)
    write_image(tmp_path / "a.png", image_of(101, 203))
    assert read_image(tmp_path / "a.png", (1, 1)).shape == (101, 203, 3)


def test_reduced_decoding_is_the_area_average(tmp_path):
    image = image_of(96, 128)
    write_image(tmp_path / "a.jpg", image, quality=98)
    small = read_image(tmp_path / "a.jpg", (48, 64)).astype(int)
    assert np.abs(small - cv2.resize(image, (64, 48), interpolation=cv2.INTER_AREA)).mean() < 3


def test_size_is_read_from_the_header_of_every_kind_of_jpeg(tmp_path):
    field_types: list[dict[str, Any]] = [
        {},
        {"progressive": True},
        {"comment": b"\xff\xc0 no frame"},
        {"subsampling": 0},
    ]
    for number, options in enumerate(field_types):
        path = tmp_path / f"{number}.jpg"
        Pillow.fromarray(image_of(37, 53)).save(path, **options)
        assert EncodedImage(path.read_bytes(), path).size == (37, 53)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(image_of(37, 53)).save(tmp_path / "turned.jpg", exif=exif)
    assert EncodedImage((tmp_path / "turned.jpg").read_bytes(), "turned.jpg").size == (53, 37)
    assert read_image(tmp_path / "turned.jpg", (1, 1)).shape == (7, 5, 3)


def test_reduction_never_goes_below_the_minimum_size():
    for height in range(1, 70):
        factor = reduction((height, 64), (5, 5))
        assert factor == 1 or -(-height // factor) >= 5


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_a_damaged_file_is_refused_with_its_name(tmp_path, share):
    path = tmp_path / "a.jpg"
    write_image(path, image_of(60, 80))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DatasetError, match="expected"):
        read_image(path, (16, 16))
