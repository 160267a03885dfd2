"""Folders of photographs: lists, folders, or a hash say which belongs where."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.augmentation import Augmentation, sample_geometry
from densevision.datasets.folders import held_back
from densevision.datasets.formats.picture import write_picture
from densevision.datasets.geometry import move_picture
from densevision.datasets.photographs import Photographs
from densevision.datasets.problems import DamagedData

GREY = np.full((6, 8, 3), 90, np.uint8)


def write(root: Path, *names: str) -> None:
    for name in names:
        write_picture(root / name, GREY)


def labels(root: Path, split: str) -> list[str]:
    photographs = Photographs(root, split)
    return [photographs.label(index) for index in range(len(photographs))]


def test_bsds500_lies_as_its_readme_says(shared_data):
    # shared/data/README.md: 200 train, 40 val, 160 test of 481x321 or 321x481.
    for split, count in (("train", 200), ("val", 40), ("test", 160)):
        photographs = open_dataset("photographs", shared_data / "bsds500", split)
        assert len(photographs) == count
        assert sorted(photographs.read(count - 1)["image"].shape) == [3, 321, 481]
        assert photographs.label(0).startswith(f"images/{split}/")
        assert photographs.fields.keys() == photographs.read(0).keys() == {"image"}


def test_without_lists_or_folders_one_in_ten_is_held_back_by_its_name(tmp_path):
    names = [f"{folder}/{number:03}.png" for folder in ("summer", "winter") for number in range(40)]
    write(tmp_path, *names, "top.jpg", ".hidden/secret.png", ".trash.png")
    train, test = labels(tmp_path, "train"), labels(tmp_path, "test")
    assert sorted([*train, *test]) == sorted([*names, "top.jpg"])
    assert test == labels(tmp_path, "val") and test
    assert all(held_back(name.rpartition(".")[0]) for name in test)
    write(tmp_path, "summer/another.png")
    assert set(train) <= set(labels(tmp_path, "train")) and set(test) <= set(labels(tmp_path, "test"))


def test_folders_named_for_splits_are_the_splits_and_one_stands_in_for_another(tmp_path):
    write(tmp_path, "train/a/1.png", "train/2.PNG", "val/3.png")
    assert labels(tmp_path, "train") == ["train/2.PNG", "train/a/1.png"]
    assert labels(tmp_path, "val") == labels(tmp_path, "test") == ["val/3.png"]


def test_lists_name_stems_or_paths_and_overrule_folders(tmp_path):
    write(tmp_path, "train/a/1.png", "train/b/1.png", "train/2.png", "train/3.jpg")
    (tmp_path / "train.txt").write_text("2\n")
    (tmp_path / "test.txt").write_text("train/a/1\n3\ntrain/b/1.png\n")
    assert labels(tmp_path, "train") == ["train/2.png"]
    assert labels(tmp_path, "test") == labels(tmp_path, "val") == ["train/a/1.png", "train/3.jpg", "train/b/1.png"]


def test_a_list_that_names_nothing_or_two_photographs_is_refused_with_the_line(tmp_path):
    write(tmp_path, "a/1.png", "b/1.png", "2.png")
    (tmp_path / "train.txt").write_text("1\n2\n7\n")
    with pytest.raises(DamagedData, match=r"one photograph of the name '1', found a/1\.png, b/1\.png") as damaged:
        Photographs(tmp_path)
    assert len(damaged.value.problems) == 2
    assert "7: expected the photograph that train.txt names" in str(damaged.value.problems[1])
    assert len(damaged.value.opened) == 1


def test_a_folder_without_photographs_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(DamagedData, match="photographs for 'train', found none"):
        Photographs(tmp_path)


def test_a_jpeg_is_decoded_no_larger_than_its_crop_needs(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    write_picture(tmp_path / "train" / "a.jpg", cv2.resize(noise, (1000, 800), interpolation=cv2.INTER_CUBIC))
    photographs = Photographs(tmp_path)

    def draw(source):
        return sample_geometry(np.random.default_rng(1), source, (48, 48), Augmentation(flip=1.0))

    sample, geometry = photographs.read_for(0, draw)
    assert sample["image"].shape[0] <= 400 and sample.keys() == {"image"}
    moved = move_picture(sample["image"], geometry).astype(int)
    wanted = move_picture(photographs.read(0)["image"], draw((800, 1000)))
    assert np.abs(moved - wanted).mean() < 3


def test_a_file_in_the_root_says_what_may_be_done_with_the_photographs(tmp_path):
    Photographs.write_miniature(tmp_path)
    assert Photographs(tmp_path).terms == Photographs.terms
    (tmp_path / "terms.txt").write_text("research\nonly\n")
    assert Photographs(tmp_path).terms == "research only"
    assert Photographs.terms == "whatever holds for your files"
