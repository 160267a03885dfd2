"""`densevision predict`: outputs of different inputs are kept apart, and no file name ends a run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .clips import write_video

ON_CPU = ("--device", "cpu", "--amp", "off")
NOT_UTF8 = os.fsdecode(b"caf\xe9")


def depths(folder: Path) -> dict[str, np.ndarray]:
    """Every depth map, by its output stem."""
    return {
        file.relative_to(folder).as_posix().removesuffix("_depth.npy"): np.load(file)
        for file in folder.rglob("*_depth.npy")
    }


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], name)


@pytest.fixture
def inputs(tmp_path, image) -> list[str]:
    """Four inputs with the same stem: of two folders, of another suffix, and the first frame of a video."""
    for number, name in enumerate(("one/clip-000001.png", "two/clip-000001.png", "two/clip-000001.bmp")):
        image(tmp_path / name, 24, 32, seed=number)
    frames = np.random.default_rng(9).integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.avi", list(frames))
    return ["one/clip-000001.png", "two/clip-000001.png", "two/clip-000001.bmp", "clip.avi"]


@pytest.mark.parametrize("reverse", [False, True])
def test_inputs_of_one_name_in_separate_commands_all_keep_their_prediction(run, tmp_path, checkpoint, inputs, reverse):
    alone = []
    for number, name in enumerate(inputs):
        assert run("predict", checkpoint, name, "--out", f"alone{number}", *ON_CPU).code == 0
        alone += depths(tmp_path / f"alone{number}").values()
    order = inputs[::-1] if reverse else inputs
    for _ in range(2):
        for name in order:
            assert run("predict", checkpoint, name, "--out", "out", *ON_CPU).code == 0
    together = list(depths(tmp_path / "out").values())
    assert len(together) == len(alone) == 5
    assert sorted(array.tobytes() for array in together) == sorted(array.tobytes() for array in alone)


def test_inputs_of_one_name_in_one_command_have_the_names_of_separate_commands(run, tmp_path, checkpoint, inputs):
    result = run("predict", checkpoint, *inputs, "--out", "together", *ON_CPU)
    assert result.code == 0 and "5 of 5 image(s) predicted" in result.err
    for name in inputs:
        run("predict", checkpoint, name, "--out", "separate", *ON_CPU)
    assert_same(depths(tmp_path / "together"), depths(tmp_path / "separate"))


def test_an_input_that_is_named_twice_is_predicted_once(run, checkpoint, image, tmp_path):
    image(tmp_path / "photos" / "a.png")
    result = run("predict", checkpoint, "photos", "photos/a.png", "photos/../photos/a.png", *ON_CPU)
    assert result.code == 0 and "1 of 1 image(s) predicted" in result.err


def test_names_that_are_not_utf8_are_predicted(run, tmp_path, checkpoint, image):
    plain = image(tmp_path / "source.png", 24, 32)
    (tmp_path / "photos" / NOT_UTF8).mkdir(parents=True)
    for name in (f"{NOT_UTF8}.png", f"{NOT_UTF8}/a.png", f"{NOT_UTF8}/{NOT_UTF8}.jpg", "z.png"):
        shutil.copy(plain, tmp_path / "photos" / name)
    write_video(tmp_path / "clip.avi", [np.zeros((24, 32, 3), np.uint8)])
    os.rename(tmp_path / "clip.avi", tmp_path / f"{NOT_UTF8}.avi")
    result = run("predict", checkpoint, "photos", f"{NOT_UTF8}.avi", *ON_CPU)
    assert result.code == 0, result.err
    names = {NOT_UTF8, f"{NOT_UTF8}/a", f"{NOT_UTF8}/{NOT_UTF8}", "z", f"{NOT_UTF8}-000001"}
    assert depths(tmp_path / "predictions").keys() == names
    assert "caf\\udce9.png: caf\\udce9_depth.npy" in result.out
    assert (
        "5 of 5 image(s) predicted (5 in an earlier run)"
        in run("predict", checkpoint, "photos", f"{NOT_UTF8}.avi", *ON_CPU).err
    )


@pytest.mark.parametrize(
    ("stem", "fits"),
    [("a" * 251, False), ("\u5199" * 83, False), ("a" * 242, True), ("\u5199" * 80, True)],
    ids=["ascii", "multi-byte", "ascii-fits", "multi-byte-fits"],
)
def test_a_name_that_is_too_long_with_its_suffix_is_skipped(run, tmp_path, checkpoint, image, stem, fits):
    for name in ("a", stem, "z"):
        image(tmp_path / "photos" / f"{name}.png", 24, 32)
    result = run("predict", checkpoint, "photos", *ON_CPU)
    assert result.code == (0 if fits else 1)
    assert depths(tmp_path / "predictions").keys() == ({"a", "z", stem} if fits else {"a", "z"})
    assert result.err.count("File name too long") == (0 if fits else 1)


@pytest.mark.parametrize("occupied", ["a_depth.npy", "a_depth.png"])
def test_an_output_that_cannot_be_written_is_skipped(run, tmp_path, checkpoint, image, occupied):
    for name in "az":
        image(tmp_path / "photos" / f"{name}.png", 24, 32)
    (tmp_path / "predictions" / occupied).mkdir(parents=True)
    result = run("predict", checkpoint, "photos", *ON_CPU)
    assert result.code == 1 and "skipped: photos/a.png: Is a directory: " in result.err
    assert (tmp_path / "predictions" / "z_depth.npy").is_file() and "1 of 2 image(s)" in result.err


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_image_without_permission_is_skipped(run, tmp_path, checkpoint, image):
    for name in "az":
        image(tmp_path / "photos" / f"{name}.png", 24, 32)
    (tmp_path / "photos" / "a.png").chmod(0)
    result = run("predict", checkpoint, "photos", *ON_CPU)
    assert result.code == 1 and "photos/a.png cannot be read" in result.err and "1 of 2 image(s)" in result.err


def test_an_output_folder_without_permission_is_one_error(run, tmp_path, checkpoint, image, monkeypatch):
    image(tmp_path / "a.png", 24, 32)
    monkeypatch.setattr("os.access", lambda *_: False)
    result = run("predict", checkpoint, "a.png", *ON_CPU)
    assert result.code == 2
    assert "The output folder 'predictions' is not writable; give another folder with --out." in result.err


def test_files_that_are_not_inputs_are_listed_at_the_end(run, tmp_path, checkpoint, image):
    image(tmp_path / "photos" / "A.PNG", 24, 32)
    for name in ("._A.PNG", "notes.txt", "clip.mp4"):
        (tmp_path / "photos" / name).touch()
    (tmp_path / "photos" / "gone.jpg").symlink_to("nowhere.jpg")
    result = run("predict", checkpoint, "photos", *ON_CPU)
    assert result.code == 1
    assert result.err.splitlines()[-5:] == [
        "skipped: There is no image file 'photos/gone.jpg'.",
        "left out: photos/clip.mp4 (a video; give its own path to predict it)",
        "left out: photos/notes.txt (the suffix .txt is not that of an image)",
        "left out: photos/._A.PNG (hidden)",
        "1 of 2 image(s) predicted; results in predictions.",
    ]


@pytest.mark.parametrize("encoding", ["cp1252:strict", pytest.param("utf-8:strict", marks=pytest.mark.slow)])
def test_any_file_name_can_be_printed_in_any_encoding(tmp_path, checkpoint, image, encoding):
    for name in ("\u5199\u771f", "\U0001f600", NOT_UTF8):
        shutil.copy(image(tmp_path / "source.png", 24, 32), tmp_path / f"{name}.png")
    (tmp_path / "source.png").unlink()
    words = [sys.executable, "-m", "densevision", "predict", checkpoint, tmp_path, "--out", tmp_path / "out", *ON_CPU]
    result = subprocess.run(
        list(map(str, words)),
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        timeout=240,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert b"3 of 3 image(s) predicted" in result.stderr and b"caf\\udce9_depth.npy" in result.stdout
