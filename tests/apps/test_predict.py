"""`densevision predict` on images, pairs, folders and videos, of any size and color mode."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from densevision.datasets.field_types import FieldType, Keypoints
from densevision.datasets.field_types import Image as ImageField
from densevision.datasets.formats.flow import read_flo
from densevision.datasets.pose.skeletons import LSP
from densevision.tasks.checkpoint import provenance, write_model
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.flow import Flow
from densevision.tasks.inference import Predictor
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.network import Network
from densevision.tasks.pose import HumanPose
from densevision.tasks.preprocessing import ModelInput

from .clips import write_video

ON_CPU = ("--device", "cpu", "--amp", "off")
DATA = {"name": "people", "title": "People", "terms": "no terms"}


def test_an_image_gets_meters_millimeters_and_colors_of_its_own_size(run, tmp_path, checkpoint, image):
    result = run("predict", checkpoint, image(tmp_path / "a.png", 37, 53), "--out", "results", *ON_CPU)
    assert result.code == 0, result.err
    assert re.search(r"\bm(eters)?\b", result.out)
    out = tmp_path / "results"
    names = ["a_depth.npy", "a_depth.png", "a_depth_mm.png", "predictions.jsonl"]
    assert sorted(file.name for file in out.iterdir()) == names
    meters = np.load(out / "a_depth.npy")
    assert meters.dtype == np.float32 and meters.shape == (37, 53) and np.isfinite(meters).all()
    with Image.open(out / "a_depth_mm.png") as stored:
        assert stored.mode.startswith("I;16") and stored.size == (53, 37)
        assert np.array_equal(np.asarray(stored), np.round(meters.clip(0, 65.535) * 1000).astype(np.uint16))
    with Image.open(out / "a_depth.png") as colored:
        # A palette of the 256 colors.
        assert (colored.mode, colored.size) == ("P", (53, 37))
        np.testing.assert_array_equal(np.asarray(colored.convert("RGB")), DepthMap(meters).to_image())


def test_the_license_terms_of_the_training_data_are_printed_once(run, tmp_path, checkpoint, image):
    images = [image(tmp_path / f"{name}.png") for name in "ab"]
    result = run("predict", checkpoint, *images, *ON_CPU)
    assert result.err.count("non-commercial") == 1


def test_a_folder_keeps_its_structure_and_can_be_predicted_twice(run, tmp_path, checkpoint, image):
    for name in ("a.png", "a.jpg", "b.png", "in/a.png", "in/deep/c.bmp"):
        image(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / "folder.png").mkdir()
    expected = ["a", "a_png", "b", "in/a", "in/deep/c"]
    # The second time, the results inside the folder are not inputs, and are not made again.
    for earlier in ("", " (5 in an earlier run)"):
        result = run("predict", checkpoint, "photos", "--out", "photos/results", *ON_CPU)
        assert result.code == 0, result.err
        files = (tmp_path / "photos" / "results").rglob("*_depth.npy")
        stems = sorted(
            file.relative_to(tmp_path / "photos" / "results").as_posix().removesuffix("_depth.npy") for file in files
        )
        assert stems == expected
        assert result.err.splitlines()[-1] == f"5 of 5 image(s) predicted{earlier}; results in photos/results."


def test_an_empty_folder_is_an_error(run, tmp_path, checkpoint):
    (tmp_path / "empty").mkdir()
    assert "The folder 'empty' contains no image (.jpg," in run("predict", checkpoint, "empty").error


def test_damaged_images_are_skipped_and_listed_and_the_exit_code_is_1(run, tmp_path, checkpoint, image):
    photos = tmp_path / "photos"
    content = image(photos / "good.png").read_bytes()
    (photos / "cut.png").write_bytes(content[: len(content) // 2])
    (photos / "empty.jpg").touch()
    (photos / "text.png").write_text("no image")
    result = run("predict", checkpoint, "photos", *ON_CPU)
    assert result.code == 1
    assert (tmp_path / "predictions" / "good_depth.npy").is_file()
    skipped = [line for line in result.err.splitlines() if line.startswith("skipped: ")]
    assert [re.search(r"(\w+)\.\w+ cannot be read", line).group(1) for line in skipped] == ["cut", "empty", "text"]  # type: ignore[union-attr]
    assert "1 of 4 image(s) predicted" in result.err


def test_an_image_with_an_enormous_size_in_its_header_is_skipped(run, tmp_path, checkpoint, image):
    result = run("predict", checkpoint, image(tmp_path / "a.png"), "--max-megapixels", 0.0015, *ON_CPU)
    assert result.code == 1
    assert "skipped: " in result.err and "more than 0.0015 megapixels" in result.err


def test_a_rotated_photo_is_predicted_upright(run, tmp_path, checkpoint, image):
    exif = Image.Exif()
    exif[0x0112] = 6  # "the 0th row is the right-hand side": rotate clockwise to view it upright (EXIF 2.32, table 4)
    sideways = Image.open(image(tmp_path / "source.png", 40, 64))
    sideways.save(tmp_path / "rotated.png", exif=exif)
    sideways.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    assert run("predict", checkpoint, "rotated.png", "upright.png", *ON_CPU).code == 0
    rotated, upright = (np.load(tmp_path / "predictions" / f"{name}_depth.npy") for name in ("rotated", "upright"))
    assert rotated.shape == (64, 40)
    np.testing.assert_array_equal(rotated, upright)


@pytest.mark.parametrize("mode", ["fit", "native"])
def test_both_input_modes_predict_at_the_images_size(run, tmp_path, checkpoint, mode, image):
    path = image(tmp_path / "a.png", 75, 41)
    result = run("predict", checkpoint, path, "--input-mode", mode, "--tta-flip", *ON_CPU)
    assert result.code == 0, result.err
    assert np.load(tmp_path / "predictions" / "a_depth.npy").shape == (75, 41)


def test_a_task_without_a_packaged_checkpoint_is_an_error_with_a_hint(run, tmp_path, monkeypatch, image):
    monkeypatch.setattr("densevision.tasks.inference.PACKAGED_CHECKPOINTS", tmp_path)
    for words in (
        ("predict", "depth", image(tmp_path / "a.png")),
        ("evaluate", "depth"),
        ("weights", "show", "depth"),
    ):
        assert "train one (densevision train depth) and give its path" in run(*words).error


class NoNetwork(Network):
    input_policy = "whole"
    stride = 1


class TwoImages(Predictor):
    """Fake flow model: the flow is the difference of red and green between two images."""

    def __init__(self) -> None:
        fields: dict[str, FieldType] = {"first": ImageField(), "second": ImageField(frame=1)}
        super().__init__(Flow(), NoNetwork(), fields, (24, 32))

    def forward(self, inputs: Sequence[ModelInput], batch_size: int = 1) -> list[torch.Tensor]:
        pairs = [
            [torch.from_numpy(one.samples[0][name].astype(np.float32)) for name in ("first", "second")]
            for one in inputs
        ]
        return [(second - first)[..., :2].movedim(-1, 0)[None] for first, second in pairs]


@pytest.fixture
def two_images(monkeypatch) -> None:
    monkeypatch.setattr("densevision.tasks.inference.load", lambda *_: TwoImages())


@pytest.fixture
def shade(tmp_path):
    """Writes an image of one gray value and returns its path."""

    def write(name: str, value: int, height: int = 24, width: int = 32) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)
        return path

    return write


def differences(folder: Path) -> dict[str, float]:
    """First value of each saved flow, by the stem of its file."""
    return {
        file.relative_to(folder).as_posix().removesuffix("_flow.flo"): float(read_flo(file)[0, 0, 0])
        for file in folder.rglob("*.flo")
    }


def test_two_images_are_a_pair_named_after_the_first(run, tmp_path, two_images, shade):
    result = run("predict", "flow", shade("a.png", 10), shade("b.png", 13))
    assert result.code == 0, result.err
    assert sorted(file.name for file in (tmp_path / "predictions").iterdir()) == [
        "a_flow.flo",
        "a_flow.png",
        "a_flow_arrows.png",
        "predictions.jsonl",
    ]
    assert differences(tmp_path / "predictions") == {"a": 3}
    assert "a_flow.flo, a_flow.png, a_flow_arrows.png mean 4.2 px, max 4.2 px" in result.out  # 3 right, 3 down
    assert result.err.splitlines()[-1] == "1 of 1 pair(s) predicted; results in predictions."


def test_all_pairs_of_consecutive_frames_of_a_folder_are_predicted(run, tmp_path, two_images, shade):
    for number in (1, 2, 9, 10, 11):
        shade(f"clip/frame{number}.png", number**2)
    result = run("predict", "flow", "clip")
    assert result.code == 0, result.err
    assert differences(tmp_path / "predictions") == {"frame1": 3, "frame2": 77, "frame9": 19, "frame10": 21}
    assert "4 of 4 pair(s) predicted" in result.err


@pytest.mark.parametrize("count", [1, 3])
def test_an_odd_number_of_images_is_an_error_for_pairs(run, two_images, shade, count):
    images = [shade(f"{number}.png", number) for number in range(count)]
    assert run("predict", "flow", *images).error == (
        f"The task takes 2 images at a time (first, second), but {count} were named; name a multiple of 2, a folder"
        " of frames or a video."
    )


def test_a_damaged_frame_skips_its_two_pairs_only(run, tmp_path, two_images, shade):
    for number in range(1, 6):
        shade(f"clip/{number}.png", number)
    (tmp_path / "clip" / "3.png").write_text("no image")
    result = run("predict", "flow", "clip")
    assert result.code == 1
    assert differences(tmp_path / "predictions") == {"1": 1, "4": 1}
    skipped = [line for line in result.err.splitlines() if line.startswith("skipped: ")]
    assert [line.split(":")[1].split() for line in skipped] == [
        ["clip/2.png", "clip/3.png"],
        ["clip/3.png", "clip/4.png"],
    ]
    assert all("clip/3.png cannot be read as an image" in line for line in skipped)
    assert "2 of 4 pair(s) predicted" in result.err


def test_images_of_two_sizes_are_not_a_pair(run, two_images, shade):
    result = run("predict", "flow", shade("a.png", 1), shade("b.png", 1, height=25))
    assert result.code == 1
    assert "The inputs differ in size: 24x32, 25x32." in result.err


def test_a_video_is_predicted_frame_by_frame(run, tmp_path, two_images):
    write_video(tmp_path / "clip.avi", [np.full((24, 32, 3), number**2, np.uint8) for number in range(4)])
    result = run("predict", "flow", "clip.avi", "--out", "results")
    assert result.code == 0, result.err
    assert differences(tmp_path / "results") == {"clip-000001": 1, "clip-000002": 3, "clip-000003": 5}
    assert "clip.avi frame 3: clip-000003_flow.flo" in result.out


def test_a_video_that_breaks_off_is_predicted_up_to_there(run, tmp_path, two_images):
    content = write_video(
        tmp_path / "clip.avi", [np.full((24, 32, 3), number, np.uint8) for number in range(9)]
    ).read_bytes()
    (tmp_path / "clip.avi").write_bytes(content[: content.rindex(b"00dc") - 400])
    result = run("predict", "flow", "clip.avi")
    assert result.code == 1
    assert "The video 'clip.avi' breaks off after frame" in result.err
    assert differences(tmp_path / "predictions")["clip-000001"] == 1


def test_a_file_that_is_not_a_video_is_skipped(run, tmp_path, two_images):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.webm").touch()
    result = run("predict", "flow", "text.mp4", "empty.webm")
    assert result.code == 1 and "Traceback" not in result.err
    for name in ("text.mp4", "empty.webm"):
        assert f"The video '{name}' cannot be read: Invalid data" in result.err
    assert "0 of 2 pair(s) predicted" in result.err


def test_a_task_with_one_input_predicts_every_frame_of_a_video(run, tmp_path, checkpoint):
    write_video(tmp_path / "clip.avi", [np.full((24, 32, 3), number, np.uint8) for number in range(2)])
    result = run("predict", checkpoint, "clip.avi", *ON_CPU)
    assert result.code == 0, result.err
    names = sorted(file.name for file in (tmp_path / "predictions").glob("*.npy"))
    assert names == ["clip-000001_depth.npy", "clip-000002_depth.npy"]
    assert "2 of 2 image(s) predicted" in result.err


# --- human pose --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pose_checkpoint(tmp_path_factory) -> Path:
    """An untrained checkpoint, whose joints are near the center of the image, at a different position for each."""
    torch.manual_seed(0)
    spec = ModelSpec(HumanPose(), {"image": ImageField(), "joints": Keypoints(LSP)}, "resnet20_cifar", {}, "regression")
    model: Any = spec.build()
    torch.nn.init.uniform_(model.head.predict.bias, 0.2, 0.8)
    path = tmp_path_factory.mktemp("people") / "pose.safetensors"
    write_model(
        path, model, spec.with_weights_options(model), {"size": [64, 48], "data": DATA, **provenance(None, None)}
    )
    return path


def read_pose(folder: Path, stem: str) -> tuple[dict[str, Any], np.ndarray]:
    """The JSON file, and its keypoints (14, 3)."""
    (data,) = json.loads((folder / f"{stem}_pose.json").read_text())
    return data, np.reshape(data["keypoints"], (14, 3))


@pytest.mark.parametrize(
    ("box", "offset", "region"),
    [
        # An image of 240 x 160. The region (x, y, width, height) is larger by an eighth of the longer side.
        (("60", "80", "80", "120"), (45, 65), (45, 65, 110, 150)),
        (("10", "20", "100", "200"), (0, 0), (0, 0, 135, 240)),
        (("-20", "-20.5", "60", "60.5"), (0, 0), (0, 0, 48, 48)),
    ],
)
def test_joints_of_a_box_are_in_image_coordinates(run, tmp_path, pose_checkpoint, image, box, offset, region):
    photo = image(tmp_path / "photo.png", 240, 160)
    result = run("predict", pose_checkpoint, photo, "--box=" + ",".join(map(str, box)), *ON_CPU)
    assert result.code == 0, result.err
    x, y, width, height = region
    assert (
        f"photo_pose.json, photo_pose.png 14 of 14 joints confident, mean confidence 1.00, in the box {x},{y},"
        in result.out
    )
    with Image.open(photo) as complete:
        complete.crop((x, y, x + width, y + height)).save(tmp_path / "part.png")
    assert "in the whole image" in run("predict", pose_checkpoint, "part.png", "--input-mode", "fit", *ON_CPU).out
    data, keypoints = read_pose(tmp_path / "predictions", "photo")
    part_data, part_keypoints = read_pose(tmp_path / "predictions", "part")
    np.testing.assert_allclose(keypoints, part_keypoints + np.array([*offset, 0]), atol=0.011)  # written to hundredths
    assert data["bbox"] == list(region) and part_data["bbox"] == [0, 0, width, height]
    assert np.ptp(keypoints[:, 0]) > 0.3 * width  # the joints are not one point
    with Image.open(tmp_path / "predictions" / "photo_pose.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGB", (width, height))


def test_images_outside_the_box_are_skipped(run, tmp_path, pose_checkpoint, image):
    for name, height, width in (("large", 120, 90), ("small", 40, 30), ("wide", 60, 200)):
        image(tmp_path / "people" / f"{name}.png", height, width)
    result = run("predict", pose_checkpoint, "people", "--box", "35,45,30,30", *ON_CPU)
    assert result.code == 1
    assert sorted(file.name for file in (tmp_path / "predictions").glob("*.json")) == [
        "keypoints.json",
        "large_pose.json",
        "wide_pose.json",
    ]
    assert "skipped: people/small.png: The box 35 45 30 30 (x, y, width, height) contains no pixel" in result.err
    assert "2 of 3 image(s) predicted" in result.err


def test_pose_of_tiny_images_and_images_of_every_color_mode(run, tmp_path, pose_checkpoint, image):
    photos = tmp_path / "photos"
    for name, height, width in (("dot", 1, 1), ("strip", 5, 400), ("tower", 400, 5)):
        image(photos / f"{name}.png", height, width)
    with Image.open(image(tmp_path / "colors.png", 50, 40)) as colors:
        gray = colors.convert("L")
        gray.save(photos / "gray.png")
        gray.convert("RGB").save(photos / "gray-in-three.png")
        colors.save(photos / "three.png")
        colors.convert("RGBA").save(photos / "four.png")
    result = run("predict", pose_checkpoint, "photos", "--tta-flip", *ON_CPU)
    assert result.code == 0, result.err
    keypoints = {
        stem: read_pose(tmp_path / "predictions", stem)[1] for stem in (file.stem for file in photos.iterdir())
    }
    assert len(keypoints) == 7 and all(np.isfinite(array).all() for array in keypoints.values())
    np.testing.assert_array_equal(keypoints["gray"], keypoints["gray-in-three"])
    np.testing.assert_array_equal(keypoints["four"], keypoints["three"])
    assert not np.array_equal(keypoints["gray"], keypoints["three"])
