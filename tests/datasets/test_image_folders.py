"""Image folders: splits by lists, by folders, or by a hash."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.core.augmentation import Augmentation, sample_geometry
from densevision.datasets.core.geometry import transform_image
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.core.splits import is_test_sample
from densevision.datasets.formats.image import write_image
from densevision.datasets.image_folders import ImageFolders

from .test_scaled_decoding import record_decoded

GRAY = np.full((6, 8, 3), 90, np.uint8)


def write(root: Path, *names: str) -> None:
    for name in names:
        write_image(root / name, GRAY)


def labels(root: Path, split: str) -> list[str]:
    photos = ImageFolders(root, split)
    return [photos.sample_name(index) for index in range(len(photos))]


def test_bsds500_has_the_documented_layout(shared_data):
    # shared/data/README.md: 200 train, 40 val, 160 test of 481x321 or 321x481.
    for split, count in (("train", 200), ("val", 40), ("test", 160)):
        photos = open_dataset("image-folders", shared_data / "bsds500", split)
        assert len(photos) == count
        assert sorted(photos.read(count - 1)["image"].shape) == [3, 321, 481]
        assert photos.sample_name(0).startswith(f"images/{split}/")
        assert photos.fields.keys() == photos.read(0).keys() == {"image"}


def test_without_lists_or_folders_one_in_ten_is_for_testing(tmp_path):
    names = [f"{folder}/{number:03}.png" for folder in ("summer", "winter") for number in range(40)]
    write(tmp_path, *names, "top.jpg", ".hidden/secret.png", ".trash.png")
    train, test = labels(tmp_path, "train"), labels(tmp_path, "test")
    assert sorted([*train, *test]) == sorted([*names, "top.jpg"])
    assert test == labels(tmp_path, "val") and test
    assert all(is_test_sample(name.rpartition(".")[0]) for name in test)
    write(tmp_path, "summer/another.png")
    assert set(train) <= set(labels(tmp_path, "train")) and set(test) <= set(labels(tmp_path, "test"))


def test_split_folders_define_the_splits_with_fallbacks(tmp_path):
    write(tmp_path, "train/a/1.png", "train/2.PNG", "val/3.png")
    assert labels(tmp_path, "train") == ["train/2.PNG", "train/a/1.png"]
    assert labels(tmp_path, "val") == labels(tmp_path, "test") == ["val/3.png"]


def test_lists_contain_stems_or_paths_and_override_folders(tmp_path):
    write(tmp_path, "train/a/1.png", "train/b/1.png", "train/2.png", "train/3.jpg")
    (tmp_path / "train.txt").write_text("2\n")
    (tmp_path / "test.txt").write_text("train/a/1\n3\ntrain/b/1.png\n")
    assert labels(tmp_path, "train") == ["train/2.png"]
    assert labels(tmp_path, "test") == labels(tmp_path, "val") == ["train/a/1.png", "train/3.jpg", "train/b/1.png"]


def test_list_entry_without_match_or_with_two_matches_is_reported(tmp_path):
    write(tmp_path, "a/1.png", "b/1.png", "2.png")
    (tmp_path / "train.txt").write_text("1\n2\n7\n")
    with pytest.raises(DatasetError, match=r"one image named '1', found a/1\.png, b/1\.png") as damaged:
        ImageFolders(tmp_path)
    assert len(damaged.value.problems) == 2
    assert "7: expected the image that train.txt lists" in str(damaged.value.problems[1])
    assert len(damaged.value.dataset) == 1


def test_folder_without_images_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DatasetError, match="images for 'train', found none"):
        ImageFolders(tmp_path)


def test_jpeg_is_decoded_no_larger_than_needed(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    write_image(tmp_path / "train" / "a.jpg", cv2.resize(noise, (1000, 800), interpolation=cv2.INTER_CUBIC))
    photos = ImageFolders(tmp_path)
    geometry = sample_geometry(np.random.default_rng(1), photos.image_size(0), (48, 48), Augmentation(hflip=1.0))
    wanted = transform_image(photos.read(0)["image"], geometry)
    decoded = record_decoded(monkeypatch)
    sample = photos.read_transformed(0, geometry)
    assert decoded[0].shape[0] <= 400 and sample.keys() == {"image"}
    assert np.abs(sample["image"].astype(int) - wanted).mean() < 3


def test_terms_file_in_the_root_sets_the_terms(tmp_path):
    ImageFolders.write_example(tmp_path)
    assert ImageFolders(tmp_path).terms == ImageFolders.terms
    (tmp_path / "terms.txt").write_text("research\nonly\n")
    assert ImageFolders(tmp_path).terms == "research only"
    assert ImageFolders.terms == "license of your files"
