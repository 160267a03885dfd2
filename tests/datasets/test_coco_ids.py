"""COCO files as they occur: ids of any type, boxes without area or beside the image, annotations of no image."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.core.problems import DatasetError, Problem
from densevision.datasets.dataset import Dataset
from densevision.datasets.formats.coco import KeypointTable, parse_id, read_keypoints
from densevision.datasets.formats.image import write_image

Stored = dict[str, Any]


def cats(root: Path, change: Callable[[Stored], object] = lambda stored: None, images: int = 4) -> Path:
    """Write images of 80x80 with one cat each, whose four joints are in the box from 10 to 60."""
    category = {"id": 1, "name": "cat", "keypoints": ["nose", "left paw", "right paw", "tail"], "skeleton": [[1, 2]]}
    stored: Stored = {"images": [], "annotations": [], "categories": [category]}
    for number in range(1, images + 1):
        (root / "images").mkdir(parents=True, exist_ok=True)
        write_image(root / "images" / f"p{number}.png", np.full((80, 80, 3), 20 * number, np.uint8))
        stored["images"].append({"id": number, "file_name": f"p{number}.png", "width": 80, "height": 80})
        joints = [20, 20, 2, 40, 20, 2, 20, 40, 1, 40, 40 + number, 2]
        annotation = {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 10, 50, 50], "keypoints": joints}
        stored["annotations"].append(annotation)
    change(stored)
    for split in ("train", "test"):
        (root / f"{split}.json").write_text(json.dumps(stored))
    return root


def renumbered(ids: list[Any]) -> Callable[[Stored], None]:
    def change(stored: Stored) -> None:
        for image, annotation, number in zip(stored["images"], stored["annotations"], ids, strict=True):
            image["id"] = annotation["image_id"] = number

    return change


def pairs(dataset: Dataset) -> dict[str, int]:
    """Name of the image to the gray value that identifies it, checked against the tail of the cat."""
    found = {}
    for index in range(len(dataset)):
        sample = dataset.read(index)
        found[dataset.sample_name(index)] = int(sample["image"][0, 0, 0])
    return found


EXPECTED = {f"images/p{number}.png": 20 * number for number in range(1, 5)}


@pytest.mark.parametrize(
    "ids",
    [
        [0.1, 0.2, 0.3, 0.4],
        [-1, 0, -3, 7],
        [10**18, 10**18 + 1, 10**30, 10**30 + 1],
        ["a", "b", "img/1.png", "é"],
        ["001", "01", "1", 10],
        [2.0, 1e300, 3, "2.5"],
    ],
)
def test_ids_of_any_type_keep_people_and_images_together(tmp_path, ids):
    cats(tmp_path, renumbered(ids))
    assert dataset_class("pose-folders").validate(tmp_path) == []
    assert pairs(open_dataset("pose-folders", tmp_path)) == EXPECTED
    problems: list[Problem] = []
    table = read_keypoints(tmp_path / "train.json", problems, [])
    tails = dict(zip(table.files, table.joints[:, 3, 1].tolist(), strict=True))
    assert tails == {f"p{number}.png": 40 + number for number in range(1, 5)} and problems == []
    assert len(set(table.ids.tolist())) == 4


def test_ids_are_compared_by_value():
    assert parse_id("7") == parse_id(7) == parse_id(7.0) == 7
    assert len({parse_id(value) for value in (0.1, 0.2, "01", "1", "-0", 0, "1 ")}) == 7
    for value in (True, None, [], {}, float("nan")):
        with pytest.raises(ValueError, match="the id"):
            parse_id(value)


def found_problems(root: Path) -> list[str]:
    problems = dataset_class("pose-folders").validate(root)
    return [f"{Path(problem.file).name}: {problem.found}" for problem in problems if "train.json" in problem.file]


@pytest.mark.parametrize("number", [2, 2.0, "2"])
def test_repeated_image_ids_of_two_images_are_refused(tmp_path, number):
    cats(tmp_path, lambda stored: stored["images"].append({"id": number, "file_name": "p4.png"}))
    assert found_problems(tmp_path) == ["train.json image 2: 'p2.png' and 'p4.png' with this id"]
    with pytest.raises(DatasetError, match="an 'id' of its own for every image"):
        open_dataset("pose-folders", tmp_path)


def test_merged_files_are_read_once_and_the_copies_are_reported(tmp_path):
    def merge(stored: Stored) -> None:
        stored["images"].append(dict(stored["images"][0]))
        stored["annotations"].append(dict(stored["annotations"][0]))

    dataset = open_dataset("pose-folders", cats(tmp_path, merge))
    assert pairs(dataset) == EXPECTED and len(dataset.skipped) == 3
    assert found_problems(tmp_path) == [
        "train.json image 1: a repetition, which is omitted",
        "train.json annotation 1: annotations 1 and 5 with this id",
        "train.json annotation 1: a copy of annotation 1, which is omitted",
    ]


@pytest.mark.parametrize(
    "box",
    [
        [10, 10, 0, 50],
        [10, 10, 50, 0],
        [60, 60, -50, -50],
        [500, 500, 50, 50],
        [-90, 10, 50, 50],
        [70, 70, 5, 5],
        [10, 10, 50],
        ["a", 1, 2, 3],
        [float("nan"), 0, 9, 9],
        [1e300, 1, 1e300, 1],
        [10**400, 1, 2, 3],
        "none",
        7,
    ],
)
def test_unusable_boxes_are_replaced_by_that_of_the_joints_and_reported(tmp_path, box):
    cats(tmp_path, lambda stored: stored["annotations"][1].update(bbox=box))
    dataset = open_dataset("pose-folders", tmp_path)
    sample = dataset.read(1)
    assert (sample["joints"][:, 2] > 0).all() and sample["image"].shape[0] > 20
    left, top, right, bottom = sample["box"]
    assert (right - left, bottom - top) == (20, 22)
    assert len(dataset.skipped) == 1 and "annotation 2" in dataset.skipped[0].file
    assert "the box of the joints is used instead" in found_problems(tmp_path)[0]


def test_joints_beside_the_image_are_refused_when_read(tmp_path):
    def move(stored: Stored) -> None:
        stored["annotations"][2].update(bbox=[300, 300, 50, 50], keypoints=[310, 310, 2] * 4)

    cats(tmp_path, move)
    with pytest.raises(DatasetError, match="a labeled joint in the box, within the image of 80x80, found none"):
        open_dataset("pose-folders", tmp_path).read(2)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"image_id": 9}, "image_id 9, which no image has"),
        ({"image_id": "one"}, "image_id one, which no image has"),
        ({"image_id": None}, "the id None"),
        ({"category_id": 8}, "category_id 8, which no category has"),
        ({"keypoints": [1e300, 1, 2, *[0] * 9]}, "labeled joints that are not finite"),
        ({"keypoints": {"nose": 1}}, "float"),
        ({"area": "big"}, "could not convert"),
        ({"keypoints": [10**400] * 12}, "too large"),
    ],
)
def test_annotations_of_nothing_known_are_reported_with_their_number(tmp_path, change, found):
    cats(tmp_path, lambda stored: stored["annotations"][2].update(change))
    (problem,) = found_problems(tmp_path)
    assert problem.startswith("train.json annotation 3: ") and found in problem


def test_entries_that_are_not_objects_are_reported_one_by_one(tmp_path):
    def damage(stored: Stored) -> None:
        stored["images"] += ["p9.png", {"id": 9}, {"file_name": "p9.png"}, {"id": 9, "file_name": 9}]
        stored["annotations"] += [None, [1]]

    cats(tmp_path, damage)
    assert found_problems(tmp_path) == [
        'train.json image 5: "p9.png", which is not an object',
        "train.json image 6: no 'file_name'",
        "train.json image 7: no 'id'",
        "train.json image 8: the file name 9",
        "train.json annotation 5: null, which is not an object",
        "train.json annotation 6: [1], which is not an object",
    ]


def test_people_without_joints_and_crowds_are_counted(tmp_path):
    def change(stored: Stored) -> None:
        stored["annotations"][0].update(keypoints=[0] * 12)
        stored["annotations"][1].update(iscrowd=1)
        stored["annotations"][2].update(iscrowd="0")

    dataset = open_dataset("pose-folders", cats(tmp_path, change))
    assert len(dataset) == 2
    assert [note.found for note in dataset.skipped] == ["1 without, who are omitted", "1 crowds, which are omitted"]


def test_repeated_lines_of_a_csv_are_omitted_and_reported(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((40, 40, 3), np.uint8))
    (tmp_path / "train.csv").write_text("file,a_x,a_y,a_flag\na.png,4,5,2\na.png,9,9,2\na.png,4,5,2\n")
    dataset = open_dataset("pose-folders", tmp_path)
    assert len(dataset) == 2 and dataset.skipped[0].found == "a copy of line 2, which is omitted"


def test_people_without_labeled_joints_keep_a_box_without_area_for_the_scores(tmp_path):
    dataset_class("coco-people").write_example(tmp_path)
    file = tmp_path / "annotations/person_keypoints_val2017.json"
    stored = json.loads(file.read_text())
    stored["annotations"][2]["bbox"] = [80, 8, 0, 0]
    file.write_text(json.dumps(stored))
    assert dataset_class("coco-people").validate(tmp_path) == []
    table: KeypointTable = read_keypoints(file, [], [])
    assert table.boxes[2].tolist() == [80, 8, 0, 0]
