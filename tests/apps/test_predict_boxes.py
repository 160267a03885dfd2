"""`densevision predict pose --boxes FILE`: several boxes per image, and one file of COCO's results for a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from densevision.datasets.field_types import Image as ImageField
from densevision.datasets.field_types import Keypoints, Skeleton
from densevision.tasks.checkpoint import provenance, write_model
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.pose import HumanPose

ON_CPU = ("--device", "cpu", "--amp", "off")
DATA = {"name": "people", "title": "People", "terms": "no terms"}
CAT = Skeleton(("nose", "left_paw", "right_paw"), ((0, 1), (0, 2)), ((1, 2),), "cat")


@pytest.fixture(scope="module")
def cats(tmp_path_factory) -> Path:
    """An untrained checkpoint for the joints of a cat."""
    torch.manual_seed(0)
    spec = ModelSpec(HumanPose(), {"image": ImageField(), "joints": Keypoints(CAT)}, "resnet20_cifar", {}, "regression")
    model: Any = spec.build()
    torch.nn.init.uniform_(model.head.predict.bias, 0.2, 0.8)
    path = tmp_path_factory.mktemp("cats") / "cats.safetensors"
    write_model(
        path, model, spec.with_weights_options(model), {"size": [64, 48], "data": DATA, **provenance(None, None)}
    )
    return path


@pytest.fixture
def photos(tmp_path, image) -> Path:
    """Three photos, two of one name, and the boxes of a third animal each in the left and the right half."""
    names = {70: "a/x.png", 30: "b/x.png", 50: "y.png"}
    for name in names.values():
        image(tmp_path / "photos" / name, 80, 120)
    boxes = {70: [(0, 0, 50, 70), (60, 10, 50, 60)], 30: [(20.5, 10, 30, 40)], 50: []}
    stored = {
        "images": [{"id": number, "file_name": name, "height": 80, "width": 120} for number, name in names.items()],
        "annotations": [
            {"id": 10 * number + row, "image_id": number, "category_id": 4, "bbox": box, "area": 1, "iscrowd": 0}
            for number, rows in boxes.items()
            for row, box in enumerate(rows)
        ],
        "categories": [{"id": 4, "name": "cat", "keypoints": list(CAT.names), "skeleton": [[1, 2]]}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(stored))
    return tmp_path / "photos"


def test_every_box_is_predicted_and_pycocotools_reads_the_results(run, tmp_path, cats, photos):
    result = run("predict", cats, photos, "--boxes", "boxes.json", *ON_CPU)
    assert result.code == 0, result.err
    assert "in 2 box(es)" in result.out and "no boxes" in result.out and "3 of 3 image(s) predicted" in result.err
    out = tmp_path / "predictions"
    results = COCO(str(tmp_path / "boxes.json")).loadRes(str(out / "keypoints.json"))
    assert [len(results.getAnnIds(imgIds=[number], catIds=[4])) for number in (70, 30, 50)] == [2, 1, 0]
    left, right = json.loads((out / "a" / "x_pose.json").read_text())
    assert left["category"]["name"] == "cat" and tuple(left["category"]["keypoints"]) == CAT.names
    assert np.mean(left["keypoints"][::3]) < 60 < np.mean(right["keypoints"][::3])
    with Image.open(out / "a" / "x_pose.png") as drawn:
        assert drawn.size == (120, 80)
    # Each box of the file gives what --box does.
    run("predict", cats, photos / "a" / "x.png", "--box", "60,10,50,60", "--out", "one", *ON_CPU)
    (one,) = json.loads((tmp_path / "one" / "x_pose.json").read_text())
    assert one["keypoints"] == right["keypoints"]


def test_a_second_run_predicts_nothing_again_until_the_boxes_change(run, tmp_path, cats, photos):
    words = ("predict", cats, photos, "--boxes", "boxes.json", *ON_CPU)
    run(*words)
    results = tmp_path / "predictions" / "keypoints.json"
    first = json.loads(results.read_text())
    results.unlink()
    assert "3 in an earlier run" in run(*words).err
    assert json.loads(results.read_text()) == first and len(first) == 3
    stored = json.loads((tmp_path / "boxes.json").read_text())
    stored["annotations"].pop()
    (tmp_path / "boxes.json").write_text(json.dumps(stored))
    assert "earlier run" not in run(*words).err
    assert len(json.loads(results.read_text())) == 2


def test_images_that_the_file_lacks_are_skipped_with_the_reason(run, tmp_path, cats, photos, image):
    image(photos / "stray.png", 40, 40)
    result = run("predict", cats, photos, "--boxes", "boxes.json", *ON_CPU)
    assert result.code == 1 and "3 of 4 image(s) predicted" in result.err
    assert "stray.png is the 'file_name' of no images in boxes.json" in result.err
    assert len(json.loads((tmp_path / "predictions" / "keypoints.json").read_text())) == 3


def test_two_files_of_one_image_are_not_mixed_up(run, tmp_path, cats, photos):
    (photos / "other").mkdir()
    (photos / "y.png").rename(photos / "other" / "x.png")
    stored = json.loads((tmp_path / "boxes.json").read_text())
    stored["images"] = [{"id": 70, "file_name": "x.png"}]
    stored["annotations"] = stored["annotations"][:2]
    (tmp_path / "boxes.json").write_text(json.dumps(stored))
    result = run("predict", cats, photos, "--boxes", "boxes.json", *ON_CPU)
    assert result.code == 1 and result.err.count("both are the image 70 of boxes.json") == 2
    assert len(json.loads((tmp_path / "predictions" / "keypoints.json").read_text())) == 2


def test_videos_are_refused(run, cats, photos):
    (photos / "clip.mp4").write_bytes(b"")
    message = run("predict", cats, "photos/clip.mp4", "--boxes", "boxes.json", *ON_CPU).error
    assert "'photos/clip.mp4' is a video" in message


def test_a_run_without_boxes_has_one_file_of_results_too(run, tmp_path, cats, photos):
    result = run("predict", cats, photos, *ON_CPU)
    assert "(no person detection for joints of the category 'cat')" in result.out
    entries = json.loads((tmp_path / "predictions" / "keypoints.json").read_text())
    assert sorted(entry["image_id"] for entry in entries) == ["a/x", "b/x", "y"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--boxes", "boxes.json", "--box", "1,2,3,4"), "give one of them"),
        (("--boxes", "missing.json"), "missing.json"),
        (("--boxes", "photos/y.png"), "photos/y.png: expected a complete JSON file"),
    ],
)
def test_unusable_boxes_are_one_line(run, cats, photos, words, message):
    assert message in run("predict", cats, photos, *words, *ON_CPU).error


def test_boxes_are_refused_by_tasks_of_complete_images(run, checkpoint, photos):
    result = run("predict", checkpoint, photos, "--boxes", "boxes.json", *ON_CPU)
    assert "The model does not predict objects one by one: use --box" in result.error
