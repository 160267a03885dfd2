"""Manifest of predictions: existing ones are reused, outdated ones are not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from densevision.apps.inputs import InferenceRequest
from densevision.apps.manifest import Manifest

CONFIG: dict[str, Any] = {"weights": "abc", "tta_flip": False}


@pytest.fixture
def photo(tmp_path) -> InferenceRequest:
    (tmp_path / "photo.jpg").write_text("an image")
    return InferenceRequest(lambda: [tmp_path / "photo.jpg"], "photo.jpg", Path("in/photo"), (tmp_path / "photo.jpg",))


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out" / "in").mkdir(parents=True)
    return tmp_path / "out"


def predicted(
    out: Path, photo: InferenceRequest, config: dict[str, Any] = CONFIG, task: str = "depth", **group: int
) -> Manifest:
    file = out / "in" / f"photo_{task}.npy"
    file.write_text(f"a prediction with {config}")
    manifest = Manifest(out, task, config, **group)
    manifest.add(photo, [file])
    return manifest


def test_a_prediction_is_reused_by_the_next_run_of_the_same_task(out, photo):
    assert not Manifest(out, "depth", CONFIG).is_done(photo)
    predicted(out, photo)
    assert Manifest(out, "depth", CONFIG).is_done(photo)
    assert not Manifest(out, "flow", CONFIG).is_done(photo)


def test_nothing_is_written_before_the_first_prediction(out):
    Manifest(out, "depth", CONFIG)
    Manifest(out / "not there", "depth", CONFIG)
    assert list(out.glob("*.jsonl")) == [] and not (out / "not there").exists()


def test_a_prediction_with_another_checkpoint_or_option_is_outdated(out, photo):
    predicted(out, photo)
    other = Manifest(out, "depth", {**CONFIG, "tta_flip": True})
    assert not other.is_done(photo) and other.outdated == 1
    predicted(out, photo, {**CONFIG, "tta_flip": True})
    # The file of the first prediction was overwritten.
    assert not Manifest(out, "depth", CONFIG).is_done(photo)
    assert Manifest(out, "depth", {**CONFIG, "tta_flip": True}).is_done(photo)


@pytest.mark.parametrize("what", ["image", "time", "output", "lost"])
def test_a_changed_input_and_a_changed_or_lost_output_are_predicted_again(out, photo, what):
    predicted(out, photo)
    image, output = photo.files[0], out / "in" / "photo_depth.npy"
    if what == "image":
        image.write_text("another image")
    elif what == "time":
        os.utime(image, ns=(0, 10**18))
    elif what == "output":
        output.write_text("half a pre")
    else:
        output.unlink()
    manifest = Manifest(out, "depth", CONFIG)
    assert not manifest.is_done(photo) and manifest.outdated == 0


def test_an_incomplete_line_after_a_crash_loses_only_its_prediction(out, photo, tmp_path):
    manifest = predicted(out, photo)
    content = manifest.path.read_bytes()
    manifest.path.write_bytes(content + content.splitlines()[-1][:40])
    assert Manifest(out, "depth", CONFIG).is_done(photo)
    second = InferenceRequest(list, "b", Path("b"), ())
    Manifest(out, "depth", CONFIG).add(second, [])
    assert Manifest(out, "depth", CONFIG).is_done(second)
    assert Manifest(out, "depth", CONFIG).is_done(photo)


def test_each_process_writes_its_own_file_and_reads_those_of_all(out, photo):
    predicted(out, photo, rank=1, processes=2)
    assert [file.name for file in out.glob("*.jsonl")] == ["predictions-1.jsonl"]
    for rank, processes in ((0, 1), (0, 3)):
        assert Manifest(out, "depth", CONFIG, rank, processes).is_done(photo)


def test_the_manifest_contains_the_configuration(out, photo):
    path = predicted(out, photo).path
    header, line = (json.loads(text) for text in path.read_text().split("\n") if text)
    assert header["options"] == CONFIG and header["config"] == line["config"]
    assert line["output"] == "in/photo" and list(line["files"]) == ["in/photo_depth.npy"]
    assert list(line["inputs"]) == [str(photo.files[0].resolve())]
