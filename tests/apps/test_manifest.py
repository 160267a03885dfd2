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


def named(folder: Path, stem: str, *files: str) -> InferenceRequest:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return InferenceRequest(list, " ".join(files), Path(stem), tuple(folder / file for file in files))


def predict(out: Path, *requests: InferenceRequest) -> list[str]:
    """Record predictions as a run does, and return their stems."""
    manifest, stems = Manifest(out, "depth", CONFIG), []
    for request in manifest.with_own_outputs(requests):
        if not manifest.existing(request):
            file = out / f"{request.stem}_depth.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(os.fsencode(request.name))
            manifest.add(request, [file])
        stems.append(request.stem.as_posix())
    return stems


COLLISIONS = {
    "folders": (("a", "one/a.png"), ("a", "two/a.png"), "two/a"),
    "folders of the same name": (("in/a", "x/in/a.png"), ("in/a", "y/in/a.png"), "y/in/a"),
    "suffixes": (("a", "a.png"), ("a", "a.jpg"), "a_jpg"),
    "case": (("A", "A.png"), ("a", "a.jpg"), "a_jpg"),
    "Unicode forms": (("\u00e9", "\u00e9.png"), ("e\u0301", "e\u0301.jpg"), "e\u0301_jpg"),
    "image and frame": (("clip-000001", "clip-000001.png"), ("clip-000001", "clip.mp4"), "clip-000001_mp4"),
    "frames": (("clip-000001", "clip.avi"), ("clip-000001", "clip.mov"), "clip-000001_mov"),
    "folders of videos": (("clip-000001", "x/clip.mp4"), ("clip-000001", "y/clip.mp4"), "y/clip-000001"),
    "pairs": (("a", "a.png", "b.png"), ("a", "a.png", "c.png"), "a_png_c_png"),
    "pairs and folders": (("a", "x/a.png", "x/b.png"), ("a", "y/a.png", "y/b.png"), "y/a"),
}


@pytest.mark.parametrize("kind", COLLISIONS)
def test_two_inputs_never_have_the_same_output(out, tmp_path, kind):
    (*one,), (*other,), expected = COLLISIONS[kind]
    first, second = named(tmp_path, *one), named(tmp_path, *other)
    assert predict(out, first, second) == [one[0], expected]
    # In separate runs, in any order, and again: the first one keeps its name.
    for runs in ((first, second, first, second), (second, first, second, first)):
        folder = out / runs[0].name.replace("/", "-")
        names = [predict(folder, request)[0] for request in runs]
        assert names[0] == runs[0].stem.as_posix() and names[:2] == names[2:]
        written = {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*.npy")}
        assert written == {f"{name}_depth.npy": request.name for name, request in zip(names, runs[:2], strict=False)}


def test_three_inputs_of_one_name_get_as_many_folders_as_needed(out, tmp_path):
    requests = [named(tmp_path, "a", name) for name in ("p/x/a.png", "q/x/a.png", "r/x/a.png", "r/x/a.jpg")]
    assert predict(out, *requests) == ["a", "x/a", "r/x/a", "a_jpg"]


def test_a_repeated_request_is_omitted(out, tmp_path):
    assert predict(out, named(tmp_path, "a", "a.png"), named(tmp_path, "a", "a.png")) == ["a"]


def test_the_name_of_a_deleted_prediction_is_free(out, tmp_path):
    predict(out, named(tmp_path, "a", "one/a.png"))
    (out / "a_depth.npy").unlink()
    assert predict(out, named(tmp_path, "a", "two/a.png")) == ["a"]


def test_a_link_with_another_target_is_the_same_input(out, tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "first")
    request = InferenceRequest(list, "a.png", Path("a"), (tmp_path / "a.png",))
    predict(out, request)
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").symlink_to(tmp_path / "second")
    assert predict(out, request) == ["a"]


def test_file_names_that_are_not_utf8_are_recorded(out, tmp_path):
    request = named(tmp_path, os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xe9.png"))
    assert predict(out, request) == predict(out, request) == [os.fsdecode(b"caf\xe9")]
    manifest = Manifest(out, "depth", CONFIG)
    assert all(manifest.existing(each) for each in manifest.with_own_outputs([request]))


def predicted(
    out: Path, photo: InferenceRequest, config: dict[str, Any] = CONFIG, task: str = "depth", **group: int
) -> Manifest:
    file = out / "in" / f"photo_{task}.npy"
    file.write_text(f"a prediction with {config}")
    manifest = Manifest(out, task, config, **group)
    manifest.add(photo, [file])
    return manifest


def test_a_prediction_is_reused_by_the_next_run_of_the_same_task(out, photo):
    assert not Manifest(out, "depth", CONFIG).existing(photo)
    predicted(out, photo)
    assert Manifest(out, "depth", CONFIG).existing(photo)
    assert not Manifest(out, "flow", CONFIG).existing(photo)


def test_nothing_is_written_before_the_first_prediction(out):
    Manifest(out, "depth", CONFIG)
    Manifest(out / "not there", "depth", CONFIG)
    assert list(out.glob("*.jsonl")) == [] and not (out / "not there").exists()


def test_a_prediction_with_another_checkpoint_or_option_is_outdated(out, photo):
    predicted(out, photo)
    other = Manifest(out, "depth", {**CONFIG, "tta_flip": True})
    assert not other.existing(photo) and other.outdated == 1
    predicted(out, photo, {**CONFIG, "tta_flip": True})
    # The file of the first prediction was overwritten.
    assert not Manifest(out, "depth", CONFIG).existing(photo)
    assert Manifest(out, "depth", {**CONFIG, "tta_flip": True}).existing(photo)


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
    assert not manifest.existing(photo) and manifest.outdated == 0


def test_an_incomplete_line_after_a_crash_loses_only_its_prediction(out, photo, tmp_path):
    manifest = predicted(out, photo)
    content = manifest.path.read_bytes()
    manifest.path.write_bytes(content + content.splitlines()[-1][:40])
    assert Manifest(out, "depth", CONFIG).existing(photo)
    second = InferenceRequest(list, "b", Path("b"), ())
    Manifest(out, "depth", CONFIG).add(second, [])
    assert Manifest(out, "depth", CONFIG).existing(second)
    assert Manifest(out, "depth", CONFIG).existing(photo)


def test_each_process_writes_its_own_file_and_reads_those_of_all(out, photo):
    predicted(out, photo, rank=1, processes=2)
    assert [file.name for file in out.glob("*.jsonl")] == ["predictions-1.jsonl"]
    for rank, processes in ((0, 1), (0, 3)):
        assert Manifest(out, "depth", CONFIG, rank, processes).existing(photo)


def test_the_manifest_contains_the_configuration(out, photo):
    path = predicted(out, photo).path
    header, line = (json.loads(text) for text in path.read_text().split("\n") if text)
    assert header["options"] == CONFIG and header["config"] == line["config"]
    assert line["output"] == "in/photo" and list(line["files"]) == ["in/photo_depth.npy"]
    assert list(line["inputs"]) == [str(photo.files[0].resolve())]
