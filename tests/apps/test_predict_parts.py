"""`densevision predict --engine ray`: parts, their records, and actors that are killed."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

from densevision.apps.predict_parts import PartOptions, PartPredictor, list_requests
from densevision.datasets.core.storage import Storage

from ..tasks.processes import free_port

ON_CPU = ("--device", "cpu", "--amp", "off")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture
def photos(tmp_path, image) -> Path:
    for number in range(3):
        image(tmp_path / "photos" / f"{number}.png", seed=number)
    return tmp_path / "photos"


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def remote(request) -> Iterator[str]:
    """An empty bucket: in the memory of this process, or at a server that stands in for S3."""
    if request.param == "s3":
        yield request.getfixturevalue("bucket_of_s3")
        return
    files = fsspec.filesystem("memory")
    yield "memory://bucket"
    files.rm("/", recursive=True)


@pytest.fixture
def bucket_of_s3(monkeypatch) -> Iterator[str]:
    server = shutil.which("moto_server")
    needed = "needs s3fs, and moto_server in the PATH (its own environment: both pin botocore)"
    if server is None:
        pytest.skip(needed)
    try:
        fsspec.get_filesystem_class("s3")
    except ImportError:
        pytest.skip(needed)
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    settings = {"ENDPOINT_URL": endpoint, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}
    for name, value in {**settings, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with subprocess.Popen([server, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                with suppress(ConnectionError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.1)
            fsspec.filesystem("s3").mkdir("bucket")
            yield "s3://bucket"
        finally:
            process.kill()


def options(checkpoint: Path, source: str | Path, target: str | Path, **changes: Any) -> PartOptions:
    values: dict[str, Any] = {"mode": None, "tta_flip": False, "box": None, "seed": 0, "batch_size": 1, "form": "tar"}
    values |= {"task_options": {}, "max_megapixels": 100.0, **changes}
    return PartOptions(str(checkpoint), "cpu", "off", source=Storage(source), target=Storage(target), **values)


def row(source: str | Path) -> dict[str, Any]:
    requests = [
        (request.stem.as_posix(), [file.as_posix() for file in request.files])
        for request in list_requests(Storage(source), 1, ("image",))
    ]
    return {"part": 7, "requests": json.dumps(requests)}


def hashes(folder: Path) -> dict[str, str]:
    """Hash of every prediction, by name."""
    files = [file for file in folder.rglob("*") if file.is_file() and "parts" not in file.parts]
    files = [file for file in files if not file.name.endswith((".jsonl", ".lock"))]
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_part_has_the_predictions_of_a_run_on_one_machine(run, tmp_path, checkpoint, photos):
    assert run("predict", checkpoint, "photos", "--out", "one", *ON_CPU).code == 0
    result = PartPredictor(options(checkpoint, photos, tmp_path / "files", form="files"))(row(photos))
    assert result == {"part": 7, "done": 3, "existing": 0, "skipped": "[]"}
    assert hashes(tmp_path / "files") == hashes(tmp_path / "one")
    PartPredictor(options(checkpoint, photos, tmp_path / "tars"))(row(photos))
    with tarfile.open(tmp_path / "tars" / "parts" / "00007.tar") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert hashes(tmp_path / "unpacked") == hashes(tmp_path / "one")


def test_a_part_that_is_written_twice_has_the_same_bytes_and_one_record(tmp_path, checkpoint, photos, remote):
    for photo in photos.iterdir():
        Storage(f"{remote}/in").copy_from(photo.name, photo)
    out, stored = Storage(f"{remote}/out"), []
    for _ in range(2):
        predictor = PartPredictor(options(checkpoint, f"{remote}/in", f"{remote}/out"))
        # As if the actor had been killed after it had written, and before Ray knew.
        predictor._is_done = lambda *_: False  # type: ignore[method-assign]
        predictor(row(f"{remote}/in"))
        stored.append({name: out.read(name, "a file of a part") for name in out.list((".jsonl", ".tar"))})
    assert stored[0] == stored[1]
    assert list(stored[0]) == ["parts/00007.jsonl", "parts/00007.tar"]
    records = [json.loads(line) for line in stored[0]["parts/00007.jsonl"].splitlines()[1:]]
    assert [record["output"] for record in records] == ["0", "1", "2"]
    with tarfile.open(fileobj=io.BytesIO(stored[0]["parts/00007.tar"])) as archive:
        assert sorted(name for record in records for name in record["files"]) == archive.getnames()
    again = PartPredictor(options(checkpoint, f"{remote}/in", f"{remote}/out"))(row(f"{remote}/in"))
    assert again["existing"] == 3


def test_a_part_is_done_until_an_input_an_option_or_its_files_change(tmp_path, checkpoint, photos, image):
    def existing(**changes: Any) -> int:
        return PartPredictor(options(checkpoint, photos, tmp_path / "out", **changes))(row(photos))["existing"]

    assert [existing(), existing()] == [0, 3]
    assert [existing(tta_flip=True), existing(tta_flip=True)] == [0, 3]
    image(photos / "1.png", 30, 40, seed=9)
    assert [existing(tta_flip=True), existing(tta_flip=True)] == [0, 3]
    image(photos / "9.png", seed=9)
    assert [existing(tta_flip=True), existing(tta_flip=True)] == [0, 4]
    (tmp_path / "out" / "parts" / "00007.tar").unlink()
    assert [existing(tta_flip=True), existing(tta_flip=True)] == [0, 4]


def test_a_damaged_image_is_named_and_tried_again(tmp_path, checkpoint, photos):
    (photos / "1.png").write_bytes(b"no image")
    for _ in range(2):
        result = PartPredictor(options(checkpoint, photos, tmp_path / "out"))(row(photos))
        assert (result["done"], result["existing"]) == (2, 0)
        assert "1.png cannot be read" in json.loads(result["skipped"])[0]


def test_what_ray_cannot_predict_is_one_sentence(run, checkpoint, photos):
    result = run("predict", checkpoint, "photos", "photos", "--engine", "ray", *ON_CPU)
    assert "one folder or address of images" in result.error
    inside = run("predict", checkpoint, "photos", "--out", "photos/out", "--engine", "ray", *ON_CPU)
    assert f"in '{photos}': give another place" in inside.error
    assert "--part is 0" in run("predict", checkpoint, "photos", "--engine", "ray", "--part", "0", *ON_CPU).error


def test_without_ray_the_error_names_the_extra(run, checkpoint, photos, monkeypatch):
    monkeypatch.setattr("densevision.apps.ray_cluster.is_installed", lambda: False)
    assert "pip install 'densevision[ray]'" in run("predict", checkpoint, "photos", "--engine", "ray", *ON_CPU).error


@needs_ray
@pytest.mark.slow
def test_with_a_killed_actor_all_predictions_are_those_of_one_process(run, tmp_path, checkpoint, image):
    for number in range(60):
        image(tmp_path / "many" / f"{number}.png", 120, 160, seed=number)
    assert run("predict", checkpoint, "many", "--out", "one", *ON_CPU).code == 0
    words = [sys.executable, "-m", "densevision", "predict", checkpoint, tmp_path / "many", "--out", tmp_path / "out"]
    words += ["--engine", "ray", "--part", 4, "--form", "files", *ON_CPU]
    with subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        deadline = time.monotonic() + 600
        while len(list((tmp_path / "out").glob("parts/*.jsonl"))) < 3:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.05)
        (actor,) = actors_of(process.pid)
        os.kill(actor, signal.SIGKILL)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "60 of 60 image(s) predicted" in err
    assert hashes(tmp_path / "out") == hashes(tmp_path / "one")
    assert len(list((tmp_path / "out").glob("parts/*.jsonl"))) == 15
    assert not list((tmp_path / "out").rglob("*.part-*"))


def actors_of(process: int) -> list[int]:
    """The actors that predict, among the descendants of a process."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            names[int(folder.name)] = (folder / "cmdline").read_text()
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue

    def descends(number: int) -> bool:
        return number == process or (number in parents and number > 1 and descends(parents[number]))

    return [
        number for number, name in names.items() if "ray::" in name and "PartPredictor" in name and descends(number)
    ]
