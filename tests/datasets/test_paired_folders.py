"""Two folders matched by name: layouts, splits, fields, problems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.core.splits import is_test_sample
from densevision.datasets.examples import write_pair
from densevision.datasets.field_types import Image

from .test_translation_loaders import GRAY, assert_found, labels_of, write


@pytest.mark.parametrize("layout", ["{split}/{side}", "{side}/{split}", "{side}"])
@pytest.mark.parametrize("sides", ["ab", "AB"])
def test_two_folders_are_matched_in_every_layout(tmp_path, layout, sides):
    names = [f"{number:02}" for number in range(40)]
    for split, some in (("train", names[4:]), ("test", names[:4])):
        for side, suffix in zip(sides, ("png", "jpg"), strict=True):
            for number, name in enumerate(some):
                folder = tmp_path / layout.format(split=split, side=side)
                write(folder / "street" / f"{name}.{suffix}", GRAY + np.uint8(number + 50 * (side in "bB")))
    write(tmp_path / ".hidden.png")
    train, test = (open_dataset("paired-folders", tmp_path, split) for split in ("train", "test"))
    assert list(train.fields.items()) == [("a", Image(3)), ("b", Image(3))]
    assert labels_of(open_dataset("paired-folders", tmp_path, "val")) == labels_of(test)
    if layout == "{side}":
        assert len(train) + len(test) == 40 and 0 < len(test) < 12
        assert all(is_test_sample(f"street/{Path(label).stem}") for label in labels_of(test))
    else:
        assert (len(train), len(test)) == (36, 4)
        assert labels_of(test)[0] == layout.format(split="test", side=sides[0]) + "/street/00.png"
    for dataset in (train, test):
        for index in range(len(dataset)):
            sample = dataset.read(index)
            assert np.array_equal(sample["b"].astype(int) - 50, sample["a"]), dataset.sample_name(index)


def test_the_names_of_the_folders_decide_the_fields(tmp_path):
    for layout in ("{side}", "{split}/{side}", "{side}/{split}"):
        for sides, fields in ((("Input", "target"), ["degraded", "image"]), (("a", "B"), ["a", "b"])):
            root = tmp_path / layout.replace("/", "-") / sides[0]
            for split in ("train", "test"):
                for number, side in enumerate(sides):
                    for name in range(4):
                        write(root / layout.format(side=side, split=split) / f"{name}.png", GRAY + np.uint8(number))
            dataset = open_dataset("paired-folders", root, "test")
            assert list(dataset.fields) == fields and [int(dataset.read(0)[name][0, 0, 0]) for name in fields] == [
                GRAY[0, 0, 0],
                GRAY[0, 0, 0] + 1,
            ]


def test_folders_without_a_common_name_are_refused(tmp_path):
    for name in ("a/001_left.png", "a/002_left.png", "b/001_right.png"):
        write(tmp_path / name)
    with pytest.raises(DatasetError) as error_info:
        open_dataset("paired-folders", tmp_path)
    assert str(error_info.value) == (
        f"{tmp_path}: expected files of one name in 'a' and 'b', "
        "found no pair: 2 in 'a' such as a/001_left.png and 1 in 'b' such as b/001_right.png."
    )
    with pytest.raises(DatasetError, match="none in 'a' and none in 'b'"):
        open_dataset("paired-folders", tmp_path / "b")


def test_unmatched_and_double_names_are_all_reported_at_once(tmp_path):
    for name in ("train/a/1.png", "train/b/1.jpg", "train/a/2.png", "train/b/3.png", "train/b/1.png", "test/a/9.png"):
        write(tmp_path / name)
    write(tmp_path / "test/b/9.png", GRAY[:, :-1])
    problems = dataset_class("paired-folders").validate(tmp_path)
    assert_found(
        problems,
        {
            "train/a/2.png": "expected a file of the same name in 'train/b', found none",
            "train/b/3.png": "expected a file of the same name in 'train/a', found none",
            "train/b/1.png": "expected one file of each name, found also 'train/b/1.jpg'",
            "test/b/9.png": "expected the size of test/a/9.png, 8x6, found 7x6",
        },
    )
    with pytest.raises(DatasetError, match=r"2 more: 'densevision data validate' lists them"):
        open_dataset("paired-folders", tmp_path)


def test_empty_split_by_hash_is_an_error_with_a_hint(tmp_path):
    name = next(str(number) for number in range(9) if not is_test_sample(str(number)))
    write(tmp_path / "a" / f"{name}.png")
    write(tmp_path / "b" / f"{name}.png")
    assert len(open_dataset("paired-folders", tmp_path)) == 1
    with pytest.raises(
        DatasetError, match=r"pairs for 'test', found 1, all for training: add others, or state the split"
    ):
        open_dataset("paired-folders", tmp_path, "test")


def test_gray_and_16_bit_images_are_read_as_8_bit_rgb(tmp_path):
    deep = np.arange(0, 48 * 1000, 1000, dtype=np.uint16).reshape(6, 8)
    write(tmp_path / "train" / "a" / "1.png", deep)
    write(tmp_path / "train" / "b" / "1.png", (deep >> 8).astype(np.uint8))
    sample = open_dataset("paired-folders", tmp_path).read(0)
    assert np.array_equal(sample["a"], np.repeat((deep >> 8)[..., None], 3, axis=2))
    assert np.array_equal(sample["a"], sample["b"]) and sample["a"].dtype == np.uint8


def test_folders_match_images_by_name_whatever_their_suffix(tmp_path):
    write_pair(tmp_path / "train/input/a/1.jpg", tmp_path / "train/target/a/1.png", 1)
    write_pair(tmp_path / "test/input/2.png", tmp_path / "test/target/2.png", 2)
    train = open_dataset("paired-folders", tmp_path)
    assert len(train) == 1 and train.sample_name(0) == "train/input/a/1.jpg"
    assert train.read(0)["image"].shape == train.read(0)["degraded"].shape


def test_folders_without_splits_use_one_name_in_ten_for_testing(tmp_path):
    for number in range(60):
        for folder in ("input", "target"):
            write(tmp_path / folder / f"{number}.png")
    train, test = (open_dataset("paired-folders", tmp_path, split) for split in ("train", "test"))
    assert len(train) + len(test) == 60 and 1 <= len(test) <= 14
    held = {test.sample_name(index) for index in range(len(test))}
    for folder in ("input", "target"):
        write(tmp_path / folder / "new.png")
    again = open_dataset("paired-folders", tmp_path, "test")
    assert held <= {again.sample_name(index) for index in range(len(again))}


@pytest.mark.parametrize("side", ["input", "target"])
def test_image_without_partner_is_reported(tmp_path, side):
    dataset_class("paired-folders").write_example(tmp_path)
    (tmp_path / side / "train" / "1.png").unlink()
    (problem,) = dataset_class("paired-folders").validate(tmp_path)
    other = {"input": "target", "target": "input"}[side]
    assert problem.file == str(tmp_path / other / "train" / "1.png")
    assert problem.expected == f"a file of the same name in '{side}/train'"
