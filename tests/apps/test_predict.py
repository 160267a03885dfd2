"""`densevision predict`: answers for pictures and folders of pictures, of any size and mode."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from densevision.apps.predict import pictures_among
from densevision.errors import UserError

ON_CPU = ("--device", "cpu", "--amp", "off")


def test_a_picture_gets_metres_millimetres_and_colours_of_its_own_size(run, tmp_path, checkpoint, picture):
    said = run("predict", checkpoint, picture(tmp_path / "a.png", 37, 53), "--out", "answers", *ON_CPU)
    assert said.code == 0, said.err
    assert "in metres" in said.out
    answers = tmp_path / "answers"
    assert sorted(file.name for file in answers.iterdir()) == ["a_depth.npy", "a_depth.png", "a_depth_mm.png"]
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
    for _ in range(2):  # the second time the first answers lie inside the folder, and are no pictures to answer for
        said = run("predict", checkpoint, "photos", "--out", "photos/answers", *ON_CPU)
        assert said.code == 0, said.err
        found = (tmp_path / "photos" / "answers").rglob("*_depth.npy")
        stems = sorted(
            file.relative_to(tmp_path / "photos" / "answers").as_posix().removesuffix("_depth.npy") for file in found
        )
        assert stems == expected
        assert said.err.splitlines()[-1] == "5 of 5 picture(s) answered, in photos/answers."


def test_answers_never_land_among_the_pictures_they_answer(tmp_path, picture):
    picture(tmp_path / "a.png")
    with pytest.raises(UserError, match="give another, so that both keep apart"):
        pictures_among((tmp_path,), tmp_path)


def test_two_pictures_that_would_share_their_answer_are_refused(tmp_path, picture):
    one, two = picture(tmp_path / "one" / "a.png"), picture(tmp_path / "two" / "a.png")
    with pytest.raises(UserError, match="written to the same files"):
        pictures_among((one, two), tmp_path / "out")


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
