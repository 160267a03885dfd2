"""A reader meets the old file or the new one, never half of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from densevision.atomic_io import atomic_path, write_text


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
