"""Tables of joints: COCO JSON and CSV, with official and custom skeletons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.conformance import check_samples
from densevision.datasets.core.problems import DatasetError
from densevision.datasets.core.splits import is_test_sample
from densevision.datasets.formats.coco import KeypointTable, read_keypoints, write_keypoints
from densevision.datasets.formats.image import read_image, write_image
from densevision.datasets.pose import skeletons

GRAY = np.full((60, 80, 3), 90, np.uint8)


def example_of(name: str, root: Path) -> Path:
    dataset_class(name).write_example(root)
    return root


def labels(name: str, root: Path, split: str = "train") -> list[str]:
    dataset = open_dataset(name, root, split)
    return [dataset.sample_name(index) for index in range(len(dataset))]


# --- COCO -------------------------------------------------------------------------------------------------------


def coco_json(root: Path, split: str = "train") -> Path:
    return root / f"annotations/person_keypoints_{split}2017.json"


def changed(file: Path, change) -> None:
    stored = json.loads(file.read_text())
    change(stored)
    file.write_text(json.dumps(stored))


def test_coco_train_has_labeled_joints_and_no_crowds(tmp_path):
    # The third of the six people of the example is a crowd without joints.
    example_of("coco-people", tmp_path)
    changed(coco_json(tmp_path), lambda stored: stored["annotations"][5].update(keypoints=[0] * 51, num_keypoints=0))
    changed(coco_json(tmp_path), lambda stored: stored["annotations"][0].update(iscrowd=1))
    expected = ["000000000009.jpg person 2", "000000000030.jpg", "000000000074.jpg"]
    found = labels("coco-people", tmp_path)
    assert [label.removeprefix("train2017/") for label in found] == ["000000000009.jpg", *expected[1:]]


def test_coco_val_contains_everyone(tmp_path):
    example_of("coco-people", tmp_path)
    dataset = open_dataset("coco-people", tmp_path, "val")
    samples = [dataset.read(index) for index in range(len(dataset))]
    assert [int(sample["crowd"]) for sample in samples] == [0, 0, 1, 0, 0, 0]
    assert [int((sample["joints"][:, 2] > 0).sum()) for sample in samples] == [16, 16, 0, 16, 16, 16]
    assert [int(sample["image_id"]) for sample in samples] == [109, 109, 130, 130, 174, 174]


def test_coco_flags_are_those_of_samples(tmp_path):
    # facts 3.5: v 0 unlabeled, 1 occluded, 2 visible; the example's fourth joint is unlabeled, the sixth occluded.
    sample = open_dataset("coco-people", example_of("coco-people", tmp_path)).read(0)
    np.testing.assert_array_equal(sample["joints"][:, 2], [2, 2, 2, 0, 2, 1] + [2] * 11)


def test_coco_sample_has_the_position_of_its_crop(tmp_path):
    example_of("coco-people", tmp_path)
    stored = json.loads(coco_json(tmp_path).read_text())["annotations"]
    dataset = open_dataset("coco-people", tmp_path)
    for index, annotation in ((0, stored[0]), (1, stored[1])):
        sample = dataset.read(index)
        left, top = int(sample["left"]), int(sample["top"])
        height, width = sample["image"].shape[:2]
        whole = read_image(tmp_path / dataset.sample_name(index).split()[0])
        np.testing.assert_array_equal(sample["image"], whole[top : top + height, left : left + width])
        joints = sample["joints"] + (left, top, 0)
        labeled = joints[:, 2] > 0
        np.testing.assert_array_equal(joints[labeled], np.reshape(annotation["keypoints"], (17, 3))[labeled])
        x, y, w, h = annotation["bbox"]
        np.testing.assert_array_equal(sample["box"] + (left, top, left, top), [x, y, x + w - 1, y + h - 1])
        assert sample["area"] == annotation["area"] and (left > 60) == (index == 1)


def test_people_of_one_image_are_adjacent_whatever_the_order_of_the_file(tmp_path):
    example_of("coco-people", tmp_path)
    expected = labels("coco-people", tmp_path)
    changed(coco_json(tmp_path), lambda stored: stored["annotations"].reverse())
    found = labels("coco-people", tmp_path)
    assert found == expected and len(set(found)) == len(found)


def test_coco_images_may_be_in_the_folder_images(tmp_path):
    example_of("coco-people", tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "train2017").rename(tmp_path / "images/train2017")
    assert labels("coco-people", tmp_path)[0] == "images/train2017/000000000009.jpg"
    assert dataset_class("coco-people").validate(tmp_path) == []


def test_damaged_annotations_of_coco_are_reported_one_by_one(tmp_path):
    example_of("coco-people", tmp_path)

    def damage(stored):
        people = stored["annotations"]
        people[0]["keypoints"] = people[0]["keypoints"][:-1]
        people[1]["image_id"] = 5
        people[3]["keypoints"][2] = 3
        del people[4]["keypoints"]

    changed(coco_json(tmp_path), damage)
    problems = dataset_class("coco-people").validate(tmp_path)
    assert [(problem.file.split()[-1], problem.found) for problem in problems] == [
        ("1", "50 numbers"),
        ("2", "image_id 5, which no image has"),
        ("4", "flag 3"),
        ("5", "no 'keypoints'"),
    ]


def test_another_skeleton_under_cocos_name_is_refused(tmp_path):
    example_of("coco-people", tmp_path)
    changed(coco_json(tmp_path), lambda stored: stored["categories"][0]["keypoints"].reverse())
    with pytest.raises(
        DatasetError, match=r"expected the 17 joints of COCO from 'nose' to 'right_ankle', found right_an"
    ):
        open_dataset("coco-people", tmp_path)


@pytest.mark.parametrize(
    "text, found",
    [
        ("[1]", "a JSON object, found list"),
        ('{"images": [], "annotations": []}', "names of its 'keypoints', found 0"),
        ('{"categories": [{"id": 1, "keypoints": ["a"]}], "images": [{}], "annotations": []}', "found no 'id'"),
        ('{"categories": [{"id": 1, "keypoints": ["a"]}, {"id": 2, "keypoints": ["b"]}]}', "'keypoints', found 2"),
    ],
)
def test_json_file_of_another_format_is_refused(tmp_path, text, found):
    (tmp_path / "people.json").write_text(text)
    with pytest.raises(DatasetError, match=found):
        open_dataset("pose-folders", tmp_path)


def test_coco_table_round_trip(tmp_path):
    places = np.array([0, 0, 1])
    joints = np.random.default_rng(0).integers(0, 3, (3, 2, 3)).astype(np.float32)
    boxes = np.random.default_rng(1).uniform((-9, -9, 18, 18), (0, 0, 27, 27))[None].repeat(3, axis=0)
    crowds = np.array([False, True, False])
    table = KeypointTable(("a", "b"), ((0, 1),), ["x", "y"], places, places + 7, joints, boxes, boxes[:, 0], crowds)
    write_keypoints(tmp_path / "table.json", table)
    for expected, found in zip(table, read_keypoints(tmp_path / "table.json", [], []), strict=True):
        np.testing.assert_array_equal(expected, found)


# --- Own images ----------------------------------------------------------------------------------------------

CATS = """file,left_paw_x,left_paw_y,left_paw_flag,right_paw_x,right_paw_y,right_paw_flag,tail_x,tail_y,tail_flag
{0}.png,20,21,2,30,31,1,40,41.5,2
{1}.png,20,21,2,,,0,40,41,2
{0}.png,50,21,2,55,31,2,,,0
{2}.png,20,21,0,,,0,40,41,0
"""


def cats(root: Path, text: str = CATS) -> Path:
    """Three images; the second is for testing by its name."""
    expected_values = [f"cat-{number}" for number in range(100) if not is_test_sample(f"cat-{number}")]
    names = [
        expected_values[0],
        next(f"cat-{number}" for number in range(100) if is_test_sample(f"cat-{number}")),
        expected_values[1],
    ]
    (root / "people.csv").write_text(text.format(*names))
    for name in names:
        write_image(root / f"{name}.png", GRAY)
    return root


def test_csv_has_its_own_skeleton(tmp_path):
    dataset = open_dataset("pose-folders", cats(tmp_path))
    skeleton = dataset.fields["joints"].skeleton  # type: ignore[attr-defined]
    assert skeleton == skeletons.Skeleton(("left_paw", "right_paw", "tail"), (), ((0, 1),))
    assert len(dataset) == 2 and len(open_dataset("pose-folders", tmp_path, "test")) == 1
    first, second = dataset.read(0), dataset.read(1)
    np.testing.assert_array_equal(first["joints"][:, 2], [2, 1, 2])
    np.testing.assert_array_equal(second["joints"][:, 2], [2, 2, 0])
    np.testing.assert_allclose(np.diff(first["joints"][:, :2], axis=0), [[10, 10], [10, 10.5]])
    check_samples(dataset, [0, 1])


def test_skeleton_file_sets_edges_and_pairs_by_name(tmp_path):
    cats(tmp_path)
    (tmp_path / "skeleton.json").write_text('{"edges": [["tail", "left paw"]], "pairs": []}')
    skeleton = open_dataset("pose-folders", tmp_path).fields["joints"].skeleton  # type: ignore[attr-defined]
    assert (skeleton.edges, skeleton.pairs) == (((2, 0),), ())
    (tmp_path / "skeleton.json").write_text('{"edges": [["tail", "nose"]]}')
    with pytest.raises(
        DatasetError, match=r"skeleton.json: expected 'edges' as pairs of the names left_paw, right_paw"
    ):
        open_dataset("pose-folders", tmp_path)


@pytest.mark.parametrize(
    "header", ["file", "file,a_x,a_y", "file,a_x,a_y,b_flag", "image,a_x,a_y,a_flag", "file,a_x,a_y,a_flag,b"]
)
def test_a_csv_with_another_first_line_is_refused(tmp_path, header):
    (tmp_path / "people.csv").write_text(f"{header}\nx.png,1,1,1\n")
    with pytest.raises(
        DatasetError, match=r"people.csv line 1: expected 'file,NAME_x,NAME_y,NAME_flag,...', found 'f|p"
    ):
        open_dataset("pose-folders", tmp_path)


def test_damaged_lines_of_a_csv_are_reported_one_by_one(tmp_path):
    cats(tmp_path, CATS + "{0}.png,1,2,3,1,1,1,1,1,1\n{0}.png,1,2\n{0}.png,,2,1,1,1,1,1,1,1\n")
    problems = dataset_class("pose-folders").validate(tmp_path)
    assert [problem.file.split()[-1] for problem in problems[:3]] == ["6", "7", "8"]
    assert len(problems) == 4 and problems[3].found == "1 without, who are omitted"
    assert "the flag '3' of 'left_paw'" in problems[0].found and "2 cells" in problems[1].found


def test_tables_named_after_the_splits_define_them(tmp_path):
    cats(tmp_path)
    lines = (tmp_path / "people.csv").read_text().splitlines(keepends=True)
    (tmp_path / "train.csv").write_text("".join(lines[:2]))
    (tmp_path / "test.csv").write_text("".join([lines[0], lines[3]]))
    assert [len(open_dataset("pose-folders", tmp_path, split)) for split in ("train", "test")] == [1, 1]
    (tmp_path / "test.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"expected one table 'test', found also 'test.csv'"):
        open_dataset("pose-folders", tmp_path, "test")


def test_empty_test_split_by_hash_is_an_error_with_a_hint(tmp_path):
    cats(tmp_path, "\n".join(CATS.splitlines()[:2]))
    with pytest.raises(DatasetError, match=r"people for 'test', or separate train and test tables, found none"):
        open_dataset("pose-folders", tmp_path, "test")


def test_box_of_the_table_is_the_crop(tmp_path):
    example_of("pose-folders", tmp_path)
    file = tmp_path / "people.json"
    without = open_dataset("pose-folders", tmp_path).read(0)["box"]
    changed(file, lambda stored: stored["annotations"][0].update(bbox=[30, 30, 24, 24]))
    sample = open_dataset("pose-folders", tmp_path).read(0)
    assert sample["image"].shape == (30, 30, 3) and not np.array_equal(sample["box"], without)
    np.testing.assert_array_equal(sample["box"], [3, 3, 26, 26])


def test_crowds_of_the_table_are_omitted(tmp_path):
    example_of("pose-folders", tmp_path)
    expected = labels("pose-folders", tmp_path)
    assert expected[:2] == ["images/cat-00.png", "images/cat-00.png person 2"]
    changed(tmp_path / "people.json", lambda stored: stored["annotations"][1].update(iscrowd=1))
    assert labels("pose-folders", tmp_path) == [expected[0], *expected[2:]]


def test_people_of_coco_without_a_box_are_refused_and_the_others_open(tmp_path):
    example_of("coco-people", tmp_path)
    changed(coco_json(tmp_path), lambda stored: stored["annotations"][1].pop("bbox"))
    with pytest.raises(DatasetError, match=r"expected a 'bbox' for every person, found 1 without") as error_info:
        open_dataset("coco-people", tmp_path)
    assert len(error_info.value.dataset) == 4


def test_real_hands_open_with_their_own_skeleton(tmp_path, shared_data):
    source = shared_data / "hand_pose_rgb" / "freihand"
    shutil.copytree(source, tmp_path / "images")
    (tmp_path / "images/test_freihand.json").rename(tmp_path / "test.json")
    dataset = open_dataset("pose-folders", tmp_path, "test")
    skeleton = dataset.fields["joints"].skeleton  # type: ignore[attr-defined]
    # Its readme: 8 images, 21 joints.
    assert len(dataset) == 8 and len(skeleton.names) == 21 and skeleton.names[0] == "wrist"
    assert len(skeleton.edges) == 20 and skeleton.pairs == ()
    check_samples(dataset, list(range(8)))
