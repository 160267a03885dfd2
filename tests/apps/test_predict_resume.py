"""`densevision predict`: interrupted runs are resumed, and processes share a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from densevision.errors import UserError
from densevision.tasks.distributed import ProcessGroup

ON_CPU = ("--device", "cpu", "--amp", "off")
MANY = 40


@pytest.fixture
def photos(tmp_path, image) -> Path:
    for number in range(4):
        image(tmp_path / "photos" / f"{number}.png", seed=number)
    return tmp_path / "photos"


@pytest.fixture
def many(tmp_path, image) -> Path:
    """Enough images for a run that takes a while."""
    first = image(tmp_path / "many" / "0.png", 300, 400)
    for number in range(1, MANY):
        shutil.copy(first, tmp_path / "many" / f"{number}.png")
    return tmp_path / "many"


def manifest_lines(out: Path) -> list[dict[str, Any]]:
    """The predictions in the manifest, in the order in which they were made."""
    texts = [text for file in out.glob("*.jsonl") for text in file.read_text().split("\n") if text]
    return [line for line in map(json.loads, texts) if "output" in line]


def stamps(out: Path) -> dict[str, int]:
    """Modification times of the arrays, without temporary files of killed processes."""
    files = (file for file in out.rglob("*.npy") if ".part-" not in file.name)
    return {file.relative_to(out).as_posix(): file.stat().st_mtime_ns for file in files}


def test_the_second_run_predicts_only_new_images(run, tmp_path, checkpoint, photos, image):
    assert run("predict", checkpoint, "photos", *ON_CPU).code == 0
    before = stamps(tmp_path / "predictions")
    image(photos / "9.png")
    result = run("predict", checkpoint, "photos", *ON_CPU)
    assert result.code == 0 and result.out.count("_depth.npy") == 1 and "9_depth.npy" in result.out
    assert result.err.splitlines()[-1] == "5 of 5 image(s) predicted (4 in an earlier run); results in predictions."
    after = stamps(tmp_path / "predictions")
    assert before.items() < after.items() and len(after) == 5


@pytest.mark.parametrize("option", [("--tta-flip",), ("--input-mode", "native")])
def test_other_options_replace_the_predictions_with_a_message(run, checkpoint, photos, option):
    run("predict", checkpoint, "photos", *ON_CPU)
    result = run("predict", checkpoint, "photos", *option, *ON_CPU)
    assert result.out.count("_depth.npy") == 4
    assert "4 prediction(s) of another checkpoint or other options were replaced." in result.err.splitlines()
    # Stating the default is not another option.
    assert run("predict", checkpoint, "photos", "--input-mode", "fit", *ON_CPU).out.count("_depth.npy") == 4
    assert run("predict", checkpoint, "photos", *ON_CPU).out == ""


def test_a_damaged_image_is_tried_again_in_the_next_run(run, checkpoint, photos, image):
    content = (photos / "2.png").read_bytes()
    (photos / "2.png").write_bytes(content[:100])
    for _ in range(2):
        result = run("predict", checkpoint, "photos", *ON_CPU)
        assert result.code == 1 and "photos/2.png cannot be read" in result.err
    (photos / "2.png").write_bytes(content)
    result = run("predict", checkpoint, "photos", *ON_CPU)
    assert result.code == 0 and result.out.count("_depth.npy") == 1


def test_an_unknown_input_mode_is_an_error(run, checkpoint, photos):
    result = run("predict", checkpoint, "photos", "--input-mode", "natve", *ON_CPU)
    assert "no input mode of the task depth named 'natve'; did you mean 'native'" in result.error


def start_predict(many: Path, out: Path, checkpoint: Path, count: int) -> subprocess.Popen[str]:
    """Start the command in a process, and wait until it has made `count` predictions."""
    words = [sys.executable, "-m", "densevision", "predict", checkpoint, many, "--out", out, *ON_CPU]
    # A background job of a shell ignores SIGINT, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=many.parent
        )
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 120
    while len(manifest_text(out)) < count:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    return process


def manifest_text(out: Path, files: str = "*.jsonl") -> list[str]:
    """Like `manifest_lines`, while another process writes."""
    return [line for file in out.glob(files) for line in file.read_text().split("\n") if '"output"' in line]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_after_a_kill_the_next_run_makes_each_missing_prediction_once(run, tmp_path, checkpoint, many):
    out = tmp_path / "out"
    process = start_predict(many, out, checkpoint, 3)
    process.kill()
    process.communicate()
    before = manifest_lines(out)
    assert 3 <= len(before) < MANY
    written = {name: (out / name).stat().st_mtime_ns for line in before for name in line["files"]}
    result = run("predict", checkpoint, "many", "--out", "out", *ON_CPU)
    assert result.code == 0
    assert (
        result.err.splitlines()[-1]
        == f"{MANY} of {MANY} image(s) predicted ({len(before)} in an earlier run); results in out."
    )
    assert {name: (out / name).stat().st_mtime_ns for name in written} == written
    assert Counter(line["output"] for line in manifest_lines(out)) == Counter(
        {str(number): 1 for number in range(MANY)}
    )
    assert len(stamps(out)) == MANY


def test_ctrl_c_stops_soon_and_leaves_only_complete_files(tmp_path, checkpoint, many):
    out = tmp_path / "out"
    process = start_predict(many, out, checkpoint, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    lines = err.splitlines()
    done = manifest_lines(out)
    assert lines[-2:] == [
        f"{len(done)} images are done; run the same command again to resume.",
        "densevision: interrupted.",
    ]
    assert list(out.rglob("*.part-*")) == []
    names = {name for line in done for name in line["files"]}
    assert names == {file.name for file in out.iterdir()} - {"predictions.jsonl"}


def test_processes_of_torchrun_share_a_folder_and_report_together(tmp_path, checkpoint, photos):
    (photos / "1.png").write_text("no image")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [*launch, "-m", "densevision", "predict", checkpoint, photos, "--out", tmp_path / "out", *ON_CPU]
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    result = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, cwd=tmp_path, timeout=240, env=environment
    )
    assert result.returncode == 1
    assert result.stderr.count(f"3 of 4 image(s) predicted; results in {tmp_path / 'out'}.") == 1
    assert result.stderr.count("skipped: ") == 1 and result.stderr.count("non-commercial") == 1
    out = tmp_path / "out"
    shares = {
        # A process records predictions in the order in which its workers finish.
        file.name: sorted(line["output"] for line in map(json.loads, filter(None, file.read_text().split("\n")[2:])))
        for file in out.glob("*.jsonl")
    }
    assert shares == {"predictions-0.jsonl": ["0", "2"], "predictions-1.jsonl": ["3"]}
    assert len(stamps(out)) == 3


def process_of(agent: int, rank: int) -> int:
    """The process of a rank, among the children of torchrun."""
    for child in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise ProcessLookupError(f"torchrun has no process of rank {rank}")


@pytest.mark.slow
@pytest.mark.parametrize("restarts", [0, 1])
@pytest.mark.parametrize("killed", [0, 1])
def test_with_a_killed_process_of_torchrun_all_predictions_are_those_of_one_process(
    run, tmp_path, checkpoint, image, killed, restarts
):
    names = {str(number) for number in range(MANY)}
    for name in names:
        image(tmp_path / "many" / f"{name}.png", 300, 400, seed=int(name))
    assert run("predict", checkpoint, "many", "--out", "one", *ON_CPU).code == 0
    out = tmp_path / "out"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launch += ["--max-restarts", restarts, "-m", "densevision"]
    words = list(map(str, [*launch, "predict", checkpoint, "many", "--out", out, *ON_CPU]))
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 300
        while any(len(manifest_text(out, f"*-{rank}.jsonl")) < 3 for rank in (0, 1)):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.005)
        os.kill(process_of(process.pid, killed), signal.SIGKILL)
        _, err = process.communicate(timeout=300)
    if not restarts:
        assert process.returncode != 0 and len(manifest_lines(out)) < MANY
        again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert again.returncode == 0, again.stderr
        err = again.stderr
    assert process.returncode == 0 or not restarts, err
    assert f"{MANY} of {MANY} image(s) predicted (" in err and " in an earlier run); results in" in err
    assert Counter(line["output"] for line in manifest_lines(out)) == Counter(names)
    predictions = {file.relative_to(out).as_posix() for file in out.rglob("*")}
    records = {"predictions-0.jsonl", "predictions-1.jsonl"}
    assert predictions - records == {file.name for file in (tmp_path / "one").iterdir()} - {"predictions.jsonl"}
    assert all((out / name).read_bytes() == (tmp_path / "one" / name).read_bytes() for name in predictions - records)


def test_a_process_takes_every_nth_item(monkeypatch):
    assert ProcessGroup.from_environment() == ProcessGroup(0, 1, False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    group = ProcessGroup.from_environment()
    assert list(group.share(iter(range(8)))) == [1, 4, 7]
    assert group.all_gather("mine") == ["mine"]
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(UserError, match="RANK is '3' and WORLD_SIZE is '3'; launch with torchrun"):
        ProcessGroup.from_environment()
