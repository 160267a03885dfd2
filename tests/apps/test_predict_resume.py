"""A run that was broken off goes on where it stopped, and processes share one."""

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

from densevision.apps.launch import Launch
from densevision.errors import UserError

ON_CPU = ("--device", "cpu", "--amp", "off")
MANY = 40


@pytest.fixture
def photos(tmp_path, picture) -> Path:
    for number in range(4):
        picture(tmp_path / "photos" / f"{number}.png", seed=number)
    return tmp_path / "photos"


@pytest.fixture
def many(tmp_path, picture) -> Path:
    """Enough pictures that nobody is done at once."""
    first = picture(tmp_path / "many" / "0.png", 300, 400)
    for number in range(1, MANY):
        shutil.copy(first, tmp_path / "many" / f"{number}.png")
    return tmp_path / "many"


def recorded(out: Path) -> list[dict[str, Any]]:
    """The answers that the record names, in the order in which they were made."""
    texts = [text for file in out.glob("*.jsonl") for text in file.read_text().split("\n") if text]
    return [line for line in map(json.loads, texts) if "answer" in line]


def stamps(out: Path) -> dict[str, int]:
    """When the arrays that have their names were written; a process that is killed may leave one aside."""
    whole = (file for file in out.rglob("*.npy") if ".part-" not in file.name)
    return {file.relative_to(out).as_posix(): file.stat().st_mtime_ns for file in whole}


def test_only_what_is_new_is_answered_the_second_time(run, tmp_path, checkpoint, photos, picture):
    assert run("predict", checkpoint, "photos", *ON_CPU).code == 0
    before = stamps(tmp_path / "predictions")
    picture(photos / "9.png")
    said = run("predict", checkpoint, "photos", *ON_CPU)
    assert said.code == 0 and said.out.count("_depth.npy") == 1 and "9_depth.npy" in said.out
    assert said.err.splitlines()[-1] == "5 of 5 picture(s) answered, 4 of them before, in predictions."
    after = stamps(tmp_path / "predictions")
    assert before.items() < after.items() and len(after) == 5


@pytest.mark.parametrize("option", [("--flip",), ("--view", "native")])
def test_other_options_are_asked_anew_with_a_sentence(run, checkpoint, photos, option):
    run("predict", checkpoint, "photos", *ON_CPU)
    said = run("predict", checkpoint, "photos", *option, *ON_CPU)
    assert said.out.count("_depth.npy") == 4
    assert "4 answer(s) of another checkpoint or other options were made anew." in said.err.splitlines()
    # The default, spelled out, is no other option.
    assert run("predict", checkpoint, "photos", "--view", "fit", *ON_CPU).out.count("_depth.npy") == 4
    assert run("predict", checkpoint, "photos", *ON_CPU).out == ""


def test_a_damaged_picture_is_tried_again_and_answered_once_it_is_mended(run, checkpoint, photos, picture):
    whole = (photos / "2.png").read_bytes()
    (photos / "2.png").write_bytes(whole[:100])
    for _ in range(2):
        said = run("predict", checkpoint, "photos", *ON_CPU)
        assert said.code == 1 and "photos/2.png cannot be read" in said.err
    (photos / "2.png").write_bytes(whole)
    said = run("predict", checkpoint, "photos", *ON_CPU)
    assert said.code == 0 and said.out.count("_depth.npy") == 1


def test_an_unknown_view_is_refused_before_anything_is_asked(run, checkpoint, photos):
    said = run("predict", checkpoint, "photos", "--view", "natve", *ON_CPU)
    assert "no view of the task depth named 'natve'; did you mean 'native'" in said.mistake


def begun(many: Path, out: Path, checkpoint: Path, answers: int) -> subprocess.Popen[str]:
    """The command on its own, once it has made so many answers."""
    words = [sys.executable, "-m", "densevision", "predict", checkpoint, many, "--out", out, *ON_CPU]
    process = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=many.parent
    )
    deadline = time.monotonic() + 120
    while len(recorded_now(out)) < answers:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    return process


def recorded_now(out: Path) -> list[str]:
    """As `recorded`, while somebody writes."""
    return [line for file in out.glob("*.jsonl") for line in file.read_text().split("\n") if '"answer"' in line]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_half_way_and_started_again_it_makes_no_answer_twice_and_misses_none(run, tmp_path, checkpoint, many):
    out = tmp_path / "out"
    process = begun(many, out, checkpoint, 3)
    process.kill()
    process.communicate()
    before = recorded(out)
    assert 3 <= len(before) < MANY
    made = {name: (out / name).stat().st_mtime_ns for line in before for name in line["files"]}
    said = run("predict", checkpoint, "many", "--out", "out", *ON_CPU)
    assert said.code == 0
    assert said.err.splitlines()[-1] == f"{MANY} of {MANY} picture(s) answered, {len(before)} of them before, in out."
    assert {name: (out / name).stat().st_mtime_ns for name in made} == made
    assert Counter(line["answer"] for line in recorded(out)) == Counter({str(number): 1 for number in range(MANY)})
    assert len(stamps(out)) == MANY


def test_ctrl_c_ends_it_soon_with_whole_files_alone(tmp_path, checkpoint, many):
    out = tmp_path / "out"
    process = begun(many, out, checkpoint, 3)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints
    lines = complaints.splitlines()
    answers = recorded(out)
    assert lines[-2:] == [
        f"{len(answers)} pictures are answered; the same command goes on from there.",
        "densevision: interrupted.",
    ]
    assert list(out.rglob("*.part-*")) == []
    named = {name for line in answers for name in line["files"]}
    assert named == {file.name for file in out.iterdir()} - {"predictions.jsonl"}


def test_processes_of_torchrun_share_a_folder_and_say_together_what_was_skipped(tmp_path, checkpoint, photos):
    (photos / "1.png").write_text("no picture")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [*launch, "-m", "densevision", "predict", checkpoint, photos, "--out", tmp_path / "out", *ON_CPU]
    alone = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    said = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=tmp_path, timeout=240, env=alone)
    assert said.returncode == 1
    assert said.stderr.count(f"3 of 4 picture(s) answered, in {tmp_path / 'out'}.") == 1
    assert said.stderr.count("skipped: ") == 1 and said.stderr.count("non-commercial") == 1
    out = tmp_path / "out"
    shares = {
        # A process records what is finished, in the order in which its helpers finish.
        file.name: sorted(line["answer"] for line in map(json.loads, filter(None, file.read_text().split("\n")[2:])))
        for file in out.glob("*.jsonl")
    }
    assert shares == {"predictions-0.jsonl": ["0", "2"], "predictions-1.jsonl": ["3"]}
    assert len(stamps(out)) == 3


def test_a_process_on_its_own_takes_every_nth_question(monkeypatch):
    assert Launch.here() == Launch(0, 1, False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    launch = Launch.here()
    assert list(launch.share(iter(range(8)))) == [1, 4, 7]
    assert launch.gathered("mine") == ["mine"]
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(UserError, match="RANK is '3' and WORLD_SIZE '3': launch with torchrun"):
        Launch.here()
