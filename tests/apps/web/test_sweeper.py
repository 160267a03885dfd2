"""The sweeper of uploads: what it deletes and keeps, its end, and threads that write and delete while it runs."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from densevision.apps.web import sweeper as module
from densevision.apps.web.sweeper import Sweeper


def write(path: Path, age: float = 0, size: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    written = time.time() - age
    os.utime(path, (written, written))
    return path


@pytest.fixture(autouse=True)
def ages_by_modification(monkeypatch):
    """Tests cannot set the time at which a file was changed, but that at which it was modified."""

    def status(path) -> SimpleNamespace:
        found = os.lstat(path)
        return SimpleNamespace(st_mtime=found.st_mtime, st_ctime=found.st_mtime, st_size=found.st_size)

    monkeypatch.setattr(module, "os", SimpleNamespace(**{**vars(os), "lstat": status}))


def test_old_files_are_deleted_and_the_page_s_own_and_new_ones_kept(tmp_path):
    own = write(tmp_path / "examples" / "0.png", 9999)
    deleted = []
    sweeper = Sweeper(tmp_path, lifetime=100, on_delete=deleted.append)
    old, new = write(tmp_path / "a" / "old.png", 101), write(tmp_path / "b" / "new.png", 50)
    sweeper.sweep()
    assert own.exists() and new.exists() and not old.exists() and deleted == [str(old)]
    os.utime(old.parent, (0, 0))
    sweeper.sweep()
    assert not old.parent.exists() and new.parent.exists()


def test_aborted_uploads_are_deleted_earlier(tmp_path):
    sweeper = Sweeper(tmp_path, lifetime=900)
    aborted, running = write(tmp_path / "tmp1", 200), write(tmp_path / "tmp2", 20)
    finished = write(tmp_path / "hash" / "a.png", 200)
    sweeper.sweep()
    assert not aborted.exists() and running.exists() and finished.exists()


def test_the_oldest_files_beyond_the_size_are_deleted(tmp_path):
    sweeper = Sweeper(tmp_path, lifetime=900, max_bytes=400)
    files = [write(tmp_path / str(age) / "a.png", age, 100) for age in (50, 40, 30, 20, 10)]
    sweeper.sweep()
    assert [file.exists() for file in files] == [False, False, True, True, True], "a quarter stays free"
    with sweeper.room(100) as first, sweeper.room(1) as second:
        assert first and not second
    with sweeper.room(100) as again:
        assert again


def test_files_are_deleted_while_others_write_and_delete(tmp_path, monkeypatch, capsys):
    stopped, errors = threading.Event(), []

    def churn(number: int) -> None:
        try:
            for index in range(10**9):
                if stopped.is_set():
                    return
                folder = tmp_path / "results" / f"{number}-{index}"
                folder.mkdir(parents=True)
                for name in "abc":
                    (folder / name).write_bytes(bytes(10))
                if index % 3 == 0:
                    shutil.rmtree(folder, ignore_errors=True)
        except Exception as error:
            errors.append(error)

    with Sweeper(tmp_path, lifetime=0.2) as sweeper:
        threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.6)
        stopped.set()
        for thread in threads:
            thread.join()
        time.sleep(0.5)
        sweeper.sweep()
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert errors == [] and not tmp_path.exists() and "failed" not in capsys.readouterr().err


def test_an_error_is_reported_and_the_next_sweep_works(tmp_path, monkeypatch, capsys):
    failures = [PermissionError("not now")]

    def fail_once(path) -> None:
        if failures:
            raise failures.pop()
        os.unlink(path)

    monkeypatch.setattr(module.os, "unlink", fail_once)
    with Sweeper(tmp_path, lifetime=0.1):
        file = write(tmp_path / "a" / "a.png", 1)
        deadline = time.monotonic() + 5
        while file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not file.exists()
    assert "The sweeper of uploads failed: PermissionError: not now" in capsys.readouterr().err
