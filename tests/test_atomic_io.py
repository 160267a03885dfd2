"""A reader meets the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from densevision import atomic_io
from densevision.atomic_io import atomic_path, json_text, write_json, write_text


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_path(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        assert aside.parent == path.parent, "a rename across file systems would copy, and could be seen half done"
        aside.write_text("whole")
    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_exception_inside_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), atomic_path(path) as aside:
        aside.write_text("half")
        raise RuntimeError("in the middle")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_process_leaves_the_old_file_and_one_that_says_it_is_a_part(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("old")
    code = (
        "import os, signal, sys\n"
        "from densevision.atomic_io import atomic_path\n"
        "with atomic_path(sys.argv[1]) as aside:\n"
        "    aside.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    (left,) = [file for file in tmp_path.iterdir() if file != path]
    assert left.match("a.part-*.safetensors")


def test_the_suffix_stays_last_because_writers_choose_their_format_by_it(tmp_path):
    with atomic_path(tmp_path / "a.tar.png") as aside:
        assert aside.suffix == ".png"
        aside.touch()


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "deep" / "er" / "a.txt", "x")
    assert (tmp_path / "deep" / "er" / "a.txt").read_text() == "x"


def test_a_writer_that_wrote_nothing_is_an_error_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    assert path.read_text() == "old"


def test_text_is_utf_8_and_its_line_ends_are_kept(tmp_path):
    text = "Größe 5 × 3\nσ\n"
    write_text(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_bytes() == text.encode("utf-8")


def test_a_written_file_may_be_read_by_whoever_may_read_its_neighbors(tmp_path):
    neighbor = tmp_path / "neighbor.txt"
    neighbor.touch()
    write_text(tmp_path / "a.txt", "x")
    assert Path(tmp_path / "a.txt").stat().st_mode == neighbor.stat().st_mode


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": float("nan"), "b": [1.5, float("inf")], "c": (float("-inf"), {"d": float("nan")})},
         '{"a": null, "b": [1.5, null], "c": [null, {"d": null}]}'),
        ([np.float64("nan"), np.float64(0.25)], "[null, 0.25]"),
        ({"a": None, "b": True, "c": "NaN", "d": 3}, '{"a": null, "b": true, "c": "NaN", "d": 3}'),
    ],
)  # fmt: skip
def test_json_is_strict_with_null_for_nan_and_infinity(tmp_path, value, text):
    assert json_text(value) == text
    write_json(tmp_path / "a.json", value, indent=2)
    json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda constant: pytest.fail(constant))


def test_all_json_of_the_package_is_strict():
    root = Path(atomic_io.__file__).parent
    files = [file for folder in ("apps", "backbones", "datasets", "tasks") for file in (root / folder).rglob("*.py")]
    assert len(files) > 100
    assert [str(file) for file in files if "json.dump" in file.read_text(encoding="utf-8")] == []


LONG_NAMES = {
    "ascii": "a" * 251 + ".png",
    "multi-byte": "\u5199" * 83 + ".png",
    "not UTF-8": os.fsdecode(b"caf\xe9" * 60),
}


@pytest.mark.parametrize("name", LONG_NAMES.values(), ids=LONG_NAMES)
def test_every_name_that_the_file_system_allows_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "new")
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "new"


def test_long_names_with_the_same_beginning_have_different_temporary_files(tmp_path):
    with atomic_path(tmp_path / f"{'a' * 100}1.txt") as one, atomic_path(tmp_path / f"{'a' * 100}2.txt") as other:
        one.touch()
        other.touch()
        assert one != other
