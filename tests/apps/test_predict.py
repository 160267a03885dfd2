"""`densevision predict`: answers for pictures, pairs, folders and videos, of any size and mode."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from densevision.datasets.fields import Image as Picture
from densevision.datasets.fields import Keypoints, Kind
from densevision.datasets.formats.flo import read_flo
from densevision.datasets.skeletons import LSP
from densevision.tasks.blueprint import Blueprint
from densevision.tasks.flow import Flow
from densevision.tasks.inference import Predictor, Prepared
from densevision.tasks.pose import HumanPose
from densevision.tasks.training.checkpoint import save_checkpoint

from .clips import write_video

ON_CPU = ("--device", "cpu", "--amp", "off")


def test_a_picture_gets_metres_millimetres_and_colours_of_its_own_size(run, tmp_path, checkpoint, picture):
    said = run("predict", checkpoint, picture(tmp_path / "a.png", 37, 53), "--out", "answers", *ON_CPU)
    assert said.code == 0, said.err
    assert re.search(r"\bm(etres)?\b", said.out)
    answers = tmp_path / "answers"
    names = ["a_depth.npy", "a_depth.png", "a_depth_mm.png", "predictions.jsonl"]
    assert sorted(file.name for file in answers.iterdir()) == names
    metres = np.load(answers / "a_depth.npy")
    assert metres.dtype == np.float32 and metres.shape == (37, 53) and np.isfinite(metres).all()
    with Image.open(answers / "a_depth_mm.png") as stored:
        assert stored.mode.startswith("I;16") and stored.size == (53, 37)
        assert np.array_equal(np.asarray(stored), np.round(metres.clip(0, 65.535) * 1000).astype(np.uint16))
    with Image.open(answers / "a_depth.png") as coloured:
        assert (coloured.mode, coloured.size) == ("RGB", (53, 37))


def test_what_the_training_data_asks_of_users_is_said_once(run, tmp_path, checkpoint, picture):
    pictures = [picture(tmp_path / f"{name}.png") for name in "ab"]
    said = run("predict", checkpoint, *pictures, *ON_CPU)
    assert said.err.count("non-commercial") == 1


def test_a_folder_keeps_its_folders_and_pictures_of_one_name_apart_and_can_be_asked_twice(
    run, tmp_path, checkpoint, picture
):
    for name in ("a.png", "a.jpg", "b.png", "in/a.png", "in/side/c.bmp"):
        picture(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    (tmp_path / "photos" / "folder.png").mkdir()
    expected = ["a_jpg", "a_png", "b", "in/a", "in/side/c"]
    # The second time the first answers lie inside the folder: they are no pictures to answer for, and not made again.
    for earlier in ("", ", 5 of them before"):
        said = run("predict", checkpoint, "photos", "--out", "photos/answers", *ON_CPU)
        assert said.code == 0, said.err
        found = (tmp_path / "photos" / "answers").rglob("*_depth.npy")
        stems = sorted(
            file.relative_to(tmp_path / "photos" / "answers").as_posix().removesuffix("_depth.npy") for file in found
        )
        assert stems == expected
        assert said.err.splitlines()[-1] == f"5 of 5 picture(s) answered{earlier}, in photos/answers."


def test_an_empty_folder_is_named(run, tmp_path, checkpoint):
    (tmp_path / "empty").mkdir()
    assert "The folder 'empty' holds no picture (.jpg," in run("predict", checkpoint, "empty").mistake


def test_damaged_pictures_are_skipped_and_listed_and_the_exit_code_is_1(run, tmp_path, checkpoint, picture):
    photos = tmp_path / "photos"
    whole = picture(photos / "whole.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").touch()
    (photos / "text.png").write_text("no picture")
    said = run("predict", checkpoint, "photos", *ON_CPU)
    assert said.code == 1
    assert (tmp_path / "predictions" / "whole_depth.npy").is_file()
    skipped = [line for line in said.err.splitlines() if line.startswith("skipped: ")]
    assert [re.search(r"(\w+)\.\w+ cannot be read", line).group(1) for line in skipped] == ["cut", "empty", "text"]  # type: ignore[union-attr]
    assert "1 of 4 picture(s) answered" in said.err


def test_a_picture_that_claims_to_be_enormous_is_damaged_too(run, tmp_path, checkpoint, monkeypatch, picture):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    said = run("predict", checkpoint, picture(tmp_path / "a.png"), *ON_CPU)
    assert said.code == 1
    assert "skipped: " in said.err and "exceeds limit" in said.err


def test_a_turned_photograph_is_answered_upright(run, tmp_path, checkpoint, picture):
    turn = Image.Exif()
    turn[0x0112] = 6  # "the 0th row is the right-hand side": turn clockwise to see it upright (EXIF 2.32, table 4)
    lying = Image.open(picture(tmp_path / "source.png", 40, 64))
    lying.save(tmp_path / "turned.png", exif=turn)
    lying.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "upright.png")
    assert run("predict", checkpoint, "turned.png", "upright.png", *ON_CPU).code == 0
    turned, upright = (np.load(tmp_path / "predictions" / f"{name}_depth.npy") for name in ("turned", "upright"))
    assert turned.shape == (64, 40)
    np.testing.assert_array_equal(turned, upright)


@pytest.mark.parametrize("view", ["fit", "native"])
def test_both_views_answer_at_the_pictures_size(run, tmp_path, checkpoint, view, picture):
    here = picture(tmp_path / "a.png", 75, 41)
    said = run("predict", checkpoint, here, "--view", view, "--flip", *ON_CPU)
    assert said.code == 0, said.err
    assert np.load(tmp_path / "predictions" / "a_depth.npy").shape == (75, 41)


def test_asking_a_task_without_a_shipped_checkpoint_says_how_to_get_one(run, tmp_path, monkeypatch, picture):
    monkeypatch.setattr("densevision.tasks.inference.SHIPPED", tmp_path)
    for words in (
        ("predict", "depth", picture(tmp_path / "a.png")),
        ("evaluate", "depth"),
        ("weights", "show", "depth"),
    ):
        assert "train one (densevision train depth) and give its path" in run(*words).mistake


class TwoPictures(Predictor):
    """Stands for a network of two pictures: its motion says by how much red and green differ between them."""

    def __init__(self) -> None:
        fields: dict[str, Kind] = {"first": Picture(), "second": Picture(frame=1)}
        super().__init__(Flow(), nn.Identity(), fields, (24, 32))  # type: ignore[arg-type]

    def output(self, prepared: Prepared) -> torch.Tensor:
        first, second = (torch.from_numpy(prepared.shown[0][name].astype(np.float32)) for name in ("first", "second"))
        return (second - first)[..., :2].movedim(-1, 0)[None]


@pytest.fixture
def two_pictures(monkeypatch) -> None:
    monkeypatch.setattr("densevision.tasks.inference.load", lambda *given: TwoPictures())


@pytest.fixture
def shade(tmp_path):
    """Writes a picture of one grey value and says where."""

    def write(name: str, value: int, height: int = 24, width: int = 32) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)
        return path

    return write


def differences(folder: Path) -> dict[str, float]:
    """What each saved motion says, by the stem of its file."""
    return {
        file.relative_to(folder).as_posix().removesuffix("_flow.flo"): float(read_flo(file)[0, 0, 0])
        for file in folder.rglob("*.flo")
    }


def test_two_pictures_are_a_pair_named_after_its_first(run, tmp_path, two_pictures, shade):
    said = run("predict", "flow", shade("a.png", 10), shade("b.png", 13))
    assert said.code == 0, said.err
    assert sorted(file.name for file in (tmp_path / "predictions").iterdir()) == [
        "a_flow.flo",
        "a_flow.png",
        "a_flow_arrows.png",
        "predictions.jsonl",
    ]
    assert differences(tmp_path / "predictions") == {"a": 3}
    assert "a_flow.flo, a_flow.png, a_flow_arrows.png mean 4.2 px, largest 4.2 px" in said.out  # 3 right, 3 down
    assert said.err.splitlines()[-1] == "1 of 1 pair(s) answered, in predictions."


def test_a_folder_of_frames_is_asked_about_every_two_that_follow_each_other(run, tmp_path, two_pictures, shade):
    for number in (1, 2, 9, 10, 11):
        shade(f"clip/frame{number}.png", number**2)
    said = run("predict", "flow", "clip")
    assert said.code == 0, said.err
    assert differences(tmp_path / "predictions") == {"frame1": 3, "frame2": 77, "frame9": 19, "frame10": 21}
    assert "4 of 4 pair(s) answered" in said.err


@pytest.mark.parametrize("named", [1, 3])
def test_an_odd_number_of_pictures_is_no_number_of_pairs(run, two_pictures, shade, named):
    pictures = [shade(f"{number}.png", number) for number in range(named)]
    assert run("predict", "flow", *pictures).mistake == (
        f"The task takes 2 pictures at a time (first, second), and {named} were named: name a multiple of 2, a folder"
        " of frames or a video."
    )


def test_a_damaged_frame_costs_both_of_its_pairs_and_no_other(run, tmp_path, two_pictures, shade):
    for number in range(1, 6):
        shade(f"clip/{number}.png", number)
    (tmp_path / "clip" / "3.png").write_text("no picture")
    said = run("predict", "flow", "clip")
    assert said.code == 1
    assert differences(tmp_path / "predictions") == {"1": 1, "4": 1}
    skipped = [line for line in said.err.splitlines() if line.startswith("skipped: ")]
    assert [line.split(":")[1].split() for line in skipped] == [
        ["clip/2.png", "clip/3.png"],
        ["clip/3.png", "clip/4.png"],
    ]
    assert all("clip/3.png cannot be read as a picture" in line for line in skipped)
    assert "2 of 4 pair(s) answered" in said.err


def test_pictures_of_two_sizes_are_no_pair(run, two_pictures, shade):
    said = run("predict", "flow", shade("a.png", 1), shade("b.png", 1, height=25))
    assert said.code == 1
    assert "The inputs differ in size: 24x32, 25x32." in said.err


def test_a_video_is_answered_frame_by_frame(run, tmp_path, two_pictures):
    write_video(tmp_path / "clip.avi", [np.full((24, 32, 3), number**2, np.uint8) for number in range(4)])
    said = run("predict", "flow", "clip.avi", "--out", "answers")
    assert said.code == 0, said.err
    assert differences(tmp_path / "answers") == {"clip-000001": 1, "clip-000002": 3, "clip-000003": 5}
    assert "clip.avi frame 3: clip-000003_flow.flo" in said.out


def test_a_video_that_breaks_off_is_answered_as_far_as_it_goes(run, tmp_path, two_pictures):
    whole = write_video(
        tmp_path / "clip.avi", [np.full((24, 32, 3), number, np.uint8) for number in range(9)]
    ).read_bytes()
    (tmp_path / "clip.avi").write_bytes(whole[: whole.rindex(b"00dc") - 400])
    said = run("predict", "flow", "clip.avi")
    assert said.code == 1
    assert "The video 'clip.avi' breaks off after frame" in said.err
    assert differences(tmp_path / "predictions")["clip-000001"] == 1


def test_what_is_no_video_is_said_in_a_sentence(run, tmp_path, two_pictures):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.webm").touch()
    said = run("predict", "flow", "text.mp4", "empty.webm")
    assert said.code == 1 and "Traceback" not in said.err
    for name in ("text.mp4", "empty.webm"):
        assert f"The video '{name}' cannot be read: Invalid data" in said.err
    assert "0 of 2 pair(s) answered" in said.err


def test_a_task_of_one_picture_answers_every_frame_of_a_video(run, tmp_path, checkpoint):
    write_video(tmp_path / "clip.avi", [np.full((24, 32, 3), number, np.uint8) for number in range(2)])
    said = run("predict", checkpoint, "clip.avi", *ON_CPU)
    assert said.code == 0, said.err
    found = sorted(file.name for file in (tmp_path / "predictions").glob("*.npy"))
    assert found == ["clip-000001_depth.npy", "clip-000002_depth.npy"]
    assert "2 of 2 picture(s) answered" in said.err


# --- where somebody's joints are --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_people(tmp_path_factory) -> Path:
    """A checkpoint that nobody trained: it looks about the middle for every joint, a little elsewhere in each."""
    torch.manual_seed(0)
    blueprint = Blueprint(
        HumanPose(), {"image": Picture(), "joints": Keypoints(LSP)}, "resnet20_cifar", {}, "regression"
    )
    model: Any = blueprint.build()
    torch.nn.init.uniform_(model.head.predict.bias, 0.2, 0.8)
    path = tmp_path_factory.mktemp("people") / "pose.safetensors"
    save_checkpoint(path, model, blueprint.settled(model), {"size": [64, 48]})
    return path


def answered(folder: Path, stem: str) -> tuple[dict[str, Any], np.ndarray]:
    """The file for programs, and its places (14, 3)."""
    stored = json.loads((folder / f"{stem}_pose.json").read_text())
    return stored, np.reshape(stored["keypoints"], (14, 3))


@pytest.mark.parametrize(
    ("box", "corner", "seen"),
    [
        # A picture of 240 x 160. Seen with an eighth of the longer side more, within the picture: x, y, width, height.
        (("60", "80", "80", "120"), (45, 65), (45, 65, 110, 150)),
        (("10", "20", "100", "200"), (0, 0), (0, 0, 135, 240)),
        (("-20", "-20.5", "60", "60.5"), (0, 0), (0, 0, 48, 48)),
    ],
)
def test_asked_about_a_box_joints_lie_in_the_whole_pictures_pixels(
    run, tmp_path, of_people, picture, box, corner, seen
):
    whole = picture(tmp_path / "photo.png", 240, 160)
    said = run("predict", of_people, whole, "--box=" + ",".join(map(str, box)), *ON_CPU)
    assert said.code == 0, said.err
    x, y, width, height = seen
    assert (
        f"photo_pose.json, photo_pose.png 14 of 14 joints confident, mean confidence 1.00, in the box {x},{y},"
        in said.out
    )
    with Image.open(whole) as everything:
        everything.crop((x, y, x + width, y + height)).save(tmp_path / "part.png")
    assert "in the whole picture" in run("predict", of_people, "part.png", *ON_CPU).out
    stored, places = answered(tmp_path / "predictions", "photo")
    of_part, places_of_part = answered(tmp_path / "predictions", "part")
    np.testing.assert_allclose(places, places_of_part + np.array([*corner, 0]), atol=0.011)  # written to hundredths
    assert stored["bbox"] == list(seen) and of_part["bbox"] == [0, 0, width, height]
    assert np.ptp(places[:, 0]) > 0.3 * width  # the joints are not one point
    with Image.open(tmp_path / "predictions" / "photo_pose.png") as drawn:
        assert (drawn.mode, drawn.size) == ("RGB", (width, height))


def test_pictures_that_the_box_lies_beside_are_skipped_by_name(run, tmp_path, of_people, picture):
    for name, height, width in (("large", 120, 90), ("small", 40, 30), ("wide", 60, 200)):
        picture(tmp_path / "people" / f"{name}.png", height, width)
    said = run("predict", of_people, "people", "--box", "35,45,30,30", *ON_CPU)
    assert said.code == 1
    assert sorted(file.name for file in (tmp_path / "predictions").glob("*.json")) == [
        "large_pose.json",
        "wide_pose.json",
    ]
    assert (
        "skipped: people/small.png: The box 35 45 30 30 (x, y, width, height) holds no pixel of the picture, which is"
        " 30 wide and 40 high." in said.err.splitlines()
    )
    assert "2 of 3 picture(s) answered" in said.err


def test_people_are_looked_for_in_a_pixel_a_strip_and_pictures_of_every_mode(run, tmp_path, of_people, picture):
    photos = tmp_path / "photos"
    for name, height, width in (("dot", 1, 1), ("strip", 5, 400), ("tower", 400, 5)):
        picture(photos / f"{name}.png", height, width)
    with Image.open(picture(tmp_path / "colours.png", 50, 40)) as colours:
        grey = colours.convert("L")
        grey.save(photos / "grey.png")
        grey.convert("RGB").save(photos / "grey-in-three.png")
        colours.save(photos / "three.png")
        colours.convert("RGBA").save(photos / "four.png")
    said = run("predict", of_people, "photos", "--flip", *ON_CPU)
    assert said.code == 0, said.err
    places = {stem: answered(tmp_path / "predictions", stem)[1] for stem in (file.stem for file in photos.iterdir())}
    assert len(places) == 7 and all(np.isfinite(found).all() for found in places.values())
    np.testing.assert_array_equal(places["grey"], places["grey-in-three"])
    np.testing.assert_array_equal(places["four"], places["three"])
    assert not np.array_equal(places["grey"], places["three"])
