"""What is asked: groups of loose pictures, and runs of consecutive frames of folders and videos."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from densevision.apps.sources import Question, frames_of, natural, pictures_among, questions_about, runs
from densevision.errors import UserError

from .clips import write_video

ONE, TWO, THREE = ("image",), ("first", "second"), ("before", "now", "after")


def touched(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return [folder / name for name in names]


def asked(found, root: Path) -> dict[str, list[str]]:
    """The names of the pictures of each question, by its stem."""

    def names(question: Question) -> list[str]:
        return [Path(picture).relative_to(root).as_posix() for picture in question.pictures()]

    return {question.stem.as_posix(): names(question) for question in found}


def noise(count: int, height: int = 24, width: int = 32) -> list[np.ndarray]:
    rng = np.random.default_rng((0, 0, 0, 1))
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def test_a_folder_comes_before_its_subfolders_and_numbers_count_by_their_value():
    expected = ["9.png", "10.png", "frame.png", "frame2.png", "frame10.png", "b2/x1.png", "b10/x0.png"]
    assert sorted(sorted(expected), key=lambda name: natural(Path(name))) == expected


def test_loose_pictures_are_grouped_in_the_order_in_which_they_are_named(tmp_path):
    named = pictures_among(touched(tmp_path, "d.png", "c.png", "b.png", "a.png"), tmp_path / "out")
    assert asked(questions_about(named, TWO), tmp_path) == {"d": ["d.png", "c.png"], "b": ["b.png", "a.png"]}
    assert len(list(questions_about(named, ONE))) == 4
    with pytest.raises(UserError, match=r"takes 3 pictures at a time \(before, now, after\), and 4 were named"):
        questions_about(named, THREE)


def test_no_run_of_frames_crosses_from_one_folder_to_another(tmp_path):
    touched(tmp_path, "in/a/1.png", "in/a/2.png", "in/b/1.png", "in/b/2.png", "in/b/3.png", "in/8.png", "in/9.png")
    found = asked(questions_about(pictures_among([tmp_path / "in"], tmp_path / "out"), TWO), tmp_path / "in")
    assert found == {
        "8": ["8.png", "9.png"],
        "a/1": ["a/1.png", "a/2.png"],
        "b/1": ["b/1.png", "b/2.png"],
        "b/2": ["b/2.png", "b/3.png"],
    }


def test_a_folder_of_too_few_frames_is_named(tmp_path):
    touched(tmp_path, "in/a/1.png", "in/a/2.png", "in/b/1.png")
    with pytest.raises(UserError, match=r"in/b' holds 1 picture\(s\), and the task takes 2 at a time"):
        questions_about(pictures_among([tmp_path / "in"], tmp_path / "out"), TWO)
    assert len(list(questions_about(pictures_among([tmp_path / "in"], tmp_path / "out"), ONE))) == 3


def test_loose_pictures_make_their_pairs_whatever_is_named_between_them(tmp_path):
    touched(tmp_path, "x/1.png", "x/2.png", "y/3.png", "y/4.png", "a.png", "b.png")
    inputs = [tmp_path / name for name in ("x", "a.png", "y", "b.png")]
    found = asked(questions_about(pictures_among(inputs, tmp_path / "out"), TWO), tmp_path)
    assert list(found.items()) == [
        ("a", ["a.png", "b.png"]),
        ("1", ["x/1.png", "x/2.png"]),
        ("3", ["y/3.png", "y/4.png"]),
    ]


def test_answers_never_land_among_the_pictures_they_answer(tmp_path):
    touched(tmp_path, "a.png")
    with pytest.raises(UserError, match="give another, so that both keep apart"):
        questions_about(pictures_among([tmp_path], tmp_path), ONE)


@pytest.mark.parametrize("names", [("one/a.png", "two/a.png"), ("one/a.mp4", "two/a.mp4")])
def test_two_answers_that_would_share_their_files_are_refused(tmp_path, names):
    with pytest.raises(UserError, match="written to the same files"):
        questions_about(pictures_among(touched(tmp_path, *names), tmp_path / "out"), ONE)


def test_pairs_whose_first_pictures_share_a_name_keep_apart(tmp_path):
    pictures = touched(tmp_path, "a.png", "b.png", "a.jpg", "b.jpg")
    assert list(asked(questions_about(pictures_among(pictures, tmp_path / "out"), TWO), tmp_path)) == ["a_png", "a_jpg"]


def test_what_is_missing_or_unsaid_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="name pictures or folders of them, or videos"):
        pictures_among([], tmp_path)
    for name, what in (("a.png", "picture or folder"), ("a", "picture or folder"), ("a.mp4", "video")):
        with pytest.raises(UserError, match=f"There is no {what} '.*{name}'"):
            pictures_among([tmp_path / name], tmp_path)


def test_videos_in_a_folder_are_left_alone(tmp_path):
    touched(tmp_path, "in/1.png", "in/clip.mp4")
    (source,) = pictures_among([tmp_path / "in"], tmp_path / "out")
    assert source.files == (tmp_path / "in" / "1.png",)


def test_of_a_long_video_no_more_frames_are_read_than_were_asked_about():
    read = []

    def frames():
        for number in range(10**9):
            read.append(number)
            yield number

    pairs = runs(frames(), 2)
    assert [next(pairs) for _ in range(3)] == [(0, 1), (1, 2), (2, 3)]
    assert len(read) == 4


@pytest.mark.parametrize("ending", [".avi", ".mov"])
def test_the_frames_of_a_lossless_video_are_its_pictures_to_the_bit(tmp_path, ending):
    frames = noise(5)
    found = list(frames_of(write_video(tmp_path / f"clip{ending}", frames)))
    assert all(frame.dtype == np.uint8 and frame.flags.c_contiguous for frame in found)
    np.testing.assert_array_equal(found, frames)


def test_a_turned_video_is_shown_upright(tmp_path):
    # The track says: turn by 90 degrees counter-clockwise, so that the right edge of what is stored comes to the top.
    (frame,) = noise(1)
    (found,) = frames_of(write_video(tmp_path / "clip.mov", [frame], turned=90))
    np.testing.assert_array_equal(found, np.rot90(frame))


def test_videos_of_one_name_keep_apart(tmp_path):
    paths = [write_video(tmp_path / name, noise(2)) for name in ("clip.avi", "clip.mov")]
    found = [question.stem.name for question in questions_about(pictures_among(paths, tmp_path / "out"), TWO)]
    assert found == ["clip_avi-000001", "clip_mov-000001"]


def test_a_video_of_too_few_frames_and_one_without_pictures_are_said_in_a_sentence(tmp_path):
    (question,) = questions_about(pictures_among([write_video(tmp_path / "one.avi", noise(1))], tmp_path / "out"), TWO)
    with pytest.raises(UserError, match=r"one\.avi' ends before it has 2 frames"):
        question.pictures()
    with wave.open(str(tmp_path / "sound.avi"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(1600))
    with pytest.raises(UserError, match=r"sound\.avi' holds no pictures"):
        list(frames_of(tmp_path / "sound.avi"))
