"""Boxes per image in COCO's format, and COCO's results for own skeletons."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from densevision.datasets import open_dataset
from densevision.datasets.field_types import Skeleton, fields_from_json, fields_to_json
from densevision.datasets.formats.image import write_image
from densevision.datasets.pose.skeletons import COCO as COCO_SKELETON
from densevision.datasets.pose.skeletons import LSP, MPII, category_of
from densevision.errors import UserError
from densevision.tasks.pose import HumanPose
from densevision.tasks.pose.boxes import BoxFile
from densevision.tasks.pose.pose_prediction import PeoplePrediction, PosePrediction, write_results

CAT = Skeleton(("nose", "left_paw", "right_paw"), ((0, 1), (0, 2)), ((1, 2),), "cat")
BOX = (10, 20, 30, 40)


def box_file(folder: Path, names: dict[Any, str], annotations: list[dict[str, Any]], **others: Any) -> Path:
    """A file with images (id to name), annotations and other keys."""
    images = [{"id": image_id, "file_name": name} for image_id, name in names.items()]
    path = folder / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, **others}))
    return path


def annotation(image_id: Any, **values: Any) -> dict[str, Any]:
    return {"image_id": image_id, "bbox": list(BOX), **values}


def cat_at(x: float) -> PosePrediction:
    return PosePrediction(np.array([(x, 5, 0.9), (x + 4, 9, 0.2), (x + 8, 9, 0.8)], np.float32), CAT)


# --- skeletons -------------------------------------------------------------------------------------------------


def people_csv(root: Path) -> Path:
    (root / "train.csv").write_text(
        "file,Left_Paw_x,Left_Paw_y,Left_Paw_flag,tail_x,tail_y,tail_flag\na.png,1,2,2,3,4,2\n"
    )
    write_image(root / "a.png", np.zeros((20, 20, 3), np.uint8))
    return root


def people_json(root: Path) -> Path:
    category = {"id": 7, "name": "zebra", "keypoints": ["left_hoof", "mane"], "skeleton": [[1, 2]]}
    people = [{"id": 1, "image_id": 5, "category_id": 7, "bbox": [0, 0, 9, 9], "keypoints": [1, 2, 2, 3, 4, 2]}]
    stored = {"images": [{"id": 5, "file_name": "a.png"}], "annotations": people, "categories": [category]}
    (root / "train.json").write_text(json.dumps(stored))
    write_image(root / "a.png", np.zeros((20, 20, 3), np.uint8))
    return root


def with_category(root: Path) -> Path:
    (people_csv(root) / "skeleton.json").write_text('{"category": "lynx", "edges": [["left paw", "tail"]]}')
    return root


@pytest.mark.parametrize(
    ("write", "names", "category"),
    [
        (people_csv, ("Left_Paw", "tail"), "object"),
        (people_json, ("left_hoof", "mane"), "zebra"),
        (with_category, ("Left_Paw", "tail"), "lynx"),
    ],
)
def test_own_skeleton_keeps_its_names_and_category(tmp_path, write, names, category):
    fields = open_dataset("pose-folders", write(tmp_path)).fields
    # Through the header of a checkpoint.
    skeleton: Any = fields_from_json(json.loads(json.dumps(fields_to_json(fields))))["joints"].skeleton  # type: ignore[attr-defined]
    entry = PosePrediction(np.ones((2, 3), np.float32), skeleton).as_json()
    assert (entry["category"]["name"], tuple(entry["category"]["keypoints"])) == (category, names)
    note = f"no person detection for joints of the category '{category}'"
    assert HumanPose().inference.find_box({"image": np.zeros((9, 9, 3), np.uint8)}, fields) == (None, note)


def test_joints_of_the_official_datasets_are_those_of_people():
    for skeleton in (LSP, MPII, COCO_SKELETON):
        respelled = Skeleton(tuple(name.title().replace(" ", "_") for name in skeleton.names), (), ())
        assert category_of(skeleton) == category_of(respelled) == "person"
    face = Skeleton(("nose", "left eye", "right eye"), (), ())
    assert category_of(face) == "object" and category_of(Skeleton(face.names, (), (), "person")) == "person"


def test_header_without_a_category_is_read():
    stored = {"joints": {"kind": "Keypoints", "frame": 0, "skeleton": {"names": ["a"], "edges": [], "pairs": []}}}
    assert fields_from_json(stored)["joints"].skeleton == Skeleton(("a",), (), ())  # type: ignore[attr-defined]


# --- boxes -----------------------------------------------------------------------------------------------------


def test_boxes_are_grouped_by_image_without_crowds_and_other_categories(tmp_path):
    categories = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
    annotations = [annotation(9, category_id=3), annotation(9, category_id=8), annotation(4, category_id=3, iscrowd=1)]
    boxes = BoxFile.read(box_file(tmp_path, {9: "a.png", 4: "b.png"}, annotations, categories=categories), "cat")
    assert boxes.boxes == {9: [BOX], 4: []} and boxes.category_id == 3


@pytest.mark.parametrize(
    ("categories", "ids", "expected"),
    [
        ([{"id": 8, "name": "dog"}], [8], 8),
        ([{"id": 8, "name": "dog", "keypoints": ["a"]}, {"id": 2, "name": "car"}], [2, 8], 8),
        ([], [], 1),
        ([], [6], 6),
    ],
)
def test_category_of_the_boxes(tmp_path, categories, ids, expected):
    annotations = [annotation(1, category_id=number) for number in ids] or [annotation(1)]
    boxes = BoxFile.read(box_file(tmp_path, {1: "a.png"}, annotations, categories=categories), "cat")
    assert boxes.category_id == expected and boxes.boxes == {1: [BOX]}


def test_images_are_found_by_the_longest_common_end_of_their_paths(tmp_path):
    names = {1: "a/x.png", 2: "b/x.png", "three": "val2017\\y.png", 4: unicodedata.normalize("NFD", "caf\u00e9.png")}
    boxes = BoxFile.read(box_file(tmp_path, names, []), "cat")
    assert boxes.image_id(tmp_path / "b" / "x.png") == 2
    assert boxes.image_id(tmp_path / "elsewhere" / "y.png") == "three"
    assert boxes.image_id(tmp_path / unicodedata.normalize("NFC", "caf\u00e9.png")) == 4
    with pytest.raises(UserError, match=r"x.png is the 'file_name' of 2 images in .*boxes.json"):
        boxes.image_id(tmp_path / "c" / "x.png")
    with pytest.raises(UserError, match=r"z.png is the 'file_name' of no images"):
        boxes.image_id(tmp_path / "z.png")


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([{"id": 17, "image_id": 1}], "annotation 17: expected a 'bbox' .*, found None"),
        ([annotation(1, id=5) | {"bbox": [1, 2, 0, 4]}], "annotation 5: expected a 'bbox' of x, y, and a width"),
        ([annotation(1) | {"bbox": [1, 2, float("nan"), 4]}], "annotation: expected a 'bbox'"),
        ([annotation(1) | {"bbox": [1, 2, 3]}], "expected a 'bbox'"),
        ([annotation(2)], "an image's 'image_id', found others"),
        ([annotation(1, category_id=1), annotation(1, category_id=2)], "one category, or one named 'cat'"),
        ({"a": 1}, "found others"),
    ],
)
def test_damaged_boxes_are_an_error_with_the_file(tmp_path, annotations, message):
    with pytest.raises(UserError, match=rf"boxes.json.*{message}"):
        BoxFile.read(box_file(tmp_path, {1: "a.png"}, annotations), "cat")


@pytest.mark.parametrize("text", ["[]", "{", "{}", '{"images": 3}'])
def test_other_json_is_an_error(tmp_path, text):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(UserError, match=r"boxes.json: expected"):
        BoxFile.read(tmp_path / "boxes.json", "cat")


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"boxes.json"):
        BoxFile.read(tmp_path / "boxes.json", "cat")


# --- results ---------------------------------------------------------------------------------------------------


def test_results_of_a_folder_are_read_by_pycocotools(tmp_path):
    image = np.zeros((60, 90, 3), np.uint8)
    PeoplePrediction((cat_at(10), cat_at(50)), image, 42, 3).save(tmp_path, "a")
    PeoplePrediction((), image, 43, 3).save(tmp_path, "b")
    PeoplePrediction((cat_at(20),), image, "c/d", 3).save(tmp_path, "c/d")
    file = write_results(tmp_path, ["a", "b", "c/d"])
    reference: Any = COCO()
    reference.dataset = {
        "images": [{"id": each} for each in (42, 43, "c/d")],
        "categories": [{"id": 3}],
        "annotations": [],
    }
    reference.createIndex()
    for path, count in ((file, 3), (tmp_path / "a_pose.json", 2)):
        results = reference.loadRes(str(path))
        assert len(results.getAnnIds(catIds=[3])) == count
        (first, _) = results.loadAnns(results.getAnnIds(imgIds=[42]))
        np.testing.assert_allclose(np.reshape(first["keypoints"], (3, 3)), [(10, 5, 2), (14, 9, 1), (18, 9, 2)])
        assert first["score"] == pytest.approx(1.9 / 3, abs=1e-4)
    assert all(
        set(entry) == {"image_id", "category_id", "keypoints", "score"} for entry in json.loads(file.read_text())
    )


def test_ids_without_a_file_of_boxes_are_those_of_coco_or_paths(tmp_path):
    for stem, image_id in (("000000000139", 139), ("139", "139"), ("in/b", "in/b")):
        cat_at(5).save(tmp_path, stem)
        assert json.loads(write_results(tmp_path, [stem]).read_text())[0]["image_id"] == image_id


def test_all_people_are_drawn_on_the_complete_image():
    image = np.full((60, 90, 3), 90, np.uint8)
    drawn = PeoplePrediction((cat_at(10), cat_at(50)), image, 1).to_image()
    assert drawn.shape == image.shape
    assert (drawn[:, :40] != 90).any() and (drawn[:, 45:] != 90).any() and (drawn[30:] == 90).all()
    assert (PeoplePrediction((), image, 1).to_image() == 90).all()
    assert PeoplePrediction((), image, 1).summary() == "no boxes"
    both = PeoplePrediction((cat_at(10), cat_at(50)), image, 1).summary()
    assert both == "4 of 6 joints confident, mean confidence 0.63, in 2 box(es)"
