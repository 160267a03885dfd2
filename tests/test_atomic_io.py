"""A reader meets the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

from densevision import atomic_io
from densevision.atomic_io import (
    HOST,
    FolderLock,
    append,
    atomic_path,
    json_text,
    remove_abandoned_parts,
    write_json,
    write_text,
)
from densevision.errors import UserError


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


NOISE = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
WRITERS: dict[str, Callable[[Path], object]] = {
    "a.txt": lambda path: path.write_text("a" * 5000),
    "a.npy": lambda path: np.save(path, NOISE),
    "a.pt": lambda path: torch.save(torch.from_numpy(NOISE), path),
    "a.safetensors": lambda path: safetensors.numpy.save_file({"a": NOISE}, path),
    "pillow.png": lambda path: Image.fromarray(NOISE).save(path),
    "opencv.png": lambda path: cv2.imwrite(str(path), NOISE),
}


@pytest.fixture
def full_disk():
    """Files of at most 1,000 bytes: unlike a full file system, it needs no privileges."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_error_whatever_the_writer_raises(tmp_path, name, full_disk):
    (tmp_path / name).write_text("old")
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / name) as aside:
        WRITERS[name](aside)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / name))
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_text() == "old"


def test_a_full_disk_while_appending_names_the_file(tmp_path, full_disk):
    with pytest.raises(OSError) as caught:
        append(tmp_path / "log", b"a" * 2000)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(tmp_path / "log"))


def test_parts_of_ended_processes_are_removed_and_those_of_living_ones_kept(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    hosts = {HOST: "here", "00000000": "there"}
    living = [f"a.part-{os.getppid()}-{HOST}-0a1b2c3d.pt", f"young.part-{ended.pid}-00000000-0a1b2c3d.pt"]
    others = ["a.part-1.pt", "my.part-two.txt", "state.pt"]
    dead = [f"{name}.part-{ended.pid}-{host}-0a1b2c3d.png" for host, name in hosts.items()]
    dead += [f"a.part-{os.getpid()}-{HOST}-0a1b2c3d"]
    for name in (*living, *others, *dead):
        (tmp_path / name).touch()
    os.utime(tmp_path / dead[1], (0, time.time() - 2 * 24 * 3600))
    remove_abandoned_parts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*living, *others])
    remove_abandoned_parts(tmp_path / "nowhere")


HOLDER = """
import os, sys, time
from pathlib import Path
from densevision.atomic_io import FolderLock

lock = FolderLock(Path(sys.argv[1]))
if os.fork() == 0:
    time.sleep(60)
print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_a_locked_folder_is_refused_until_its_process_is_killed(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert holder.stdout is not None
        owner = int(holder.stdout.readline())
        for _ in range(2):
            with pytest.raises(UserError, match=rf"in use by process {owner} on .*: wait .* --out, or .* --force"):
                FolderLock(tmp_path)
        holder.kill()
        holder.wait()
        # Its child, which lives on as a worker does for a moment, does not hold the lock.
        lock = FolderLock(tmp_path)
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
        lock.close()
        lock.close()
        assert os.listdir(tmp_path) == []
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
