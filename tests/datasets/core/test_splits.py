"""Splits of your own files: small folders, lists, and roots at the wrong level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.core.problems import DatasetError, Problem
from densevision.datasets.core.splits import in_split, is_test_sample, read_split_list
from densevision.datasets.formats.arrays import write_npy
from densevision.datasets.formats.flow import write_flow
from densevision.datasets.formats.image import write_image

IMAGE = np.full((24, 32, 3), 90, np.uint8)


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, IMAGE)


def fill(dataset: str, root: Path, stems: list[str]) -> None:
    """Write a sample of each name, without split folders."""
    for stem in stems:
        match dataset:
            case "class-folders":
                write(root / "cat" / f"{stem}.png")
                write(root / "dog" / f"{stem}.png")
            case "image-folders" | "side-by-side":
                write(root / f"{stem}.png")
            case "depth-folders":
                write(root / "images" / f"{stem}.png")
                write_npy(root / "depths" / f"{stem}.npy", np.full((24, 32), 2, np.float32))
            case "flow-folders":
                write(root / stem / "1.png")
                write(root / stem / "2.png")
                write_flow(root / stem / "1.flo", np.ones((24, 32, 2), np.float32))
            case "pose-folders":
                write(root / f"{stem}.png")
                table = root / "people.csv"
                before = table.read_text() if table.exists() else "file,a_x,a_y,a_flag\n"
                table.write_text(f"{before}{stem}.png,4,5,2\n")
            case "paired-folders":
                for folder in ("input", "target"):
                    write(root / folder / f"{stem}.png")


@pytest.mark.parametrize("count", [2, 4, 15])
@pytest.mark.parametrize(
    "dataset",
    [
        *("class-folders", "image-folders", "depth-folders", "flow-folders", "pose-folders", "paired-folders"),
        "side-by-side",
    ],
)
def test_small_folders_have_a_sample_in_each_part(tmp_path, dataset, count):
    stems = [name for name in map(str, range(100)) if not is_test_sample(name)][:count]
    fill(dataset, tmp_path, stems)
    assert dataset_class(dataset).validate(tmp_path) == []
    training, test = (open_dataset(dataset, tmp_path, split) for split in ("train", "test"))
    samples = count * 2 if dataset == "class-folders" else count
    assert len(training) + len(test) == samples and min(len(training), len(test)) >= 1
    if dataset == "class-folders":
        for part in (training, test):
            assert {int(part.read(index)["category"]) for index in range(len(part))} == {0, 1}


def test_the_hash_alone_decides_where_it_fills_both_parts():
    names = [f"cat-{number}" for number in range(200)]
    assert in_split(names, "test") == [is_test_sample(name) for name in names]
    assert in_split(names, "train") == [not is_test_sample(name) for name in names]


def test_a_part_that_the_hash_leaves_empty_gets_one_name_and_equal_names_stay_together():
    everything_in_test = [name for name in map(str, range(200)) if is_test_sample(name)][:3]
    assert sum(in_split(everything_in_test, "train")) == 1
    everything_in_training = [name for name in map(str, range(200)) if not is_test_sample(name)][:3]
    assert sum(in_split(everything_in_training, "val")) == 1
    doubled = in_split(everything_in_training * 2, "test")
    assert sum(doubled) == 2 and doubled[:3] == doubled[3:]
    assert in_split([], "test") == [] and in_split(["a"], "train") == in_split(["0"], "train") == [True]


@pytest.mark.parametrize("dataset", ["image-folders", "depth-folders", "paired-folders", "side-by-side"])
def test_a_single_sample_is_refused_with_the_way_out(tmp_path, dataset):
    fill(dataset, tmp_path, ["0"])
    split = dataset_class(dataset).splits[-1]
    with pytest.raises(DatasetError, match=f"for '{split}', found 1, all for training: add others, or state the split"):
        open_dataset(dataset, tmp_path, split)


@pytest.mark.parametrize("dataset", ["class-folders", "image-folders", "depth-folders"])
def test_a_list_for_training_alone_does_not_leave_the_test_split_to_the_hash(tmp_path, dataset):
    fill(dataset, tmp_path, ["0", "1", "2"])
    (tmp_path / "train.txt").write_text("cat/0.png\n" if dataset == "class-folders" else "0\n")
    with pytest.raises(DatasetError, match=r"(test|val)\.txt: expected .*, found no file"):
        open_dataset(dataset, tmp_path, "test")


def test_repeated_lines_and_lines_of_two_lists_are_reported(tmp_path):
    (tmp_path / "train.txt").write_text("a\nb\na\n")
    (tmp_path / "test.txt").write_text("b\nc\n")
    skipped: list[Problem] = []
    stated = read_split_list(tmp_path, "train", "names", skipped)
    assert stated and stated[1] == ["a", "b"] and "1 repeated" in skipped[0].found
    stated = read_split_list(tmp_path, "val", "names", skipped)
    assert stated and stated[1] == ["b", "c"] and "'b'" in skipped[1].found


@pytest.mark.parametrize(
    ("folders", "found"),
    [
        (["train/images/cat", "train/images/dog", "val/images/cat", "val/images/dog"], "with cat, dog in it"),
        (["animals/cat", "animals/dog"], "only animals, with cat, dog in it"),
        (["Train/cat", "Train/dog", "Test/cat", "Test/dog"], "only Test, Train, with cat, dog in it"),
        (["val/cat", "test/cat"], "only test, val, with cat in it"),
        (["cat"], "only cat"),
    ],
)
def test_roots_at_another_level_than_the_classes_are_refused(tmp_path, folders, found):
    for folder in folders:
        for number in range(3):
            write(tmp_path / folder / f"{number}.png")
    assert any(found in problem.found for problem in dataset_class("class-folders").validate(tmp_path))
    with pytest.raises(DatasetError, match="one folder for each of at least two classes"):
        open_dataset("class-folders", tmp_path)


def test_images_beside_the_class_folders_are_reported(tmp_path):
    fill("class-folders", tmp_path, ["0", "1", "2"])
    write(tmp_path / "lost.png")
    assert len(open_dataset("class-folders", tmp_path).skipped) == 1
    assert ["lost.png" in problem.file for problem in dataset_class("class-folders").validate(tmp_path)] == [True]
