"""How runs end: failing and killed workers, signals and interruptions, each in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from densevision.tasks.training.state import load_state

from .toys import Relief, require_same_runs, resume_toy, train_toy

SECONDS = 10
"""Time within which a process must be gone."""

SCRIPT = """
import multiprocessing, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from densevision.apps import cli
from toys import *

out, ending = Path(sys.argv[2]), sys.argv[3]

def in_worker():
    return multiprocessing.parent_process() is not None

class Reading(Reliefs):
    def read(self, index):
        if index == 3 and in_worker():
            if ending == "exception":
                raise KeyError("no such annotation")
            if ending == "exit":
                os._exit(3)
            if ending == "stuck":
                print("stuck", file=sys.stderr, flush=True)
                time.sleep(1000)
        return super().read(index)

class SlowTest(Reliefs):
    def read(self, index):
        if ending == "evaluation" and (out / "log.jsonl").exists() and index == 2:
            print("evaluating", file=sys.stderr, flush=True)
            time.sleep(1000)
        return super().read(index)

Reading.__name__ = SlowTest.__name__ = "Reliefs"

def on_step(step):
    if step == 2:
        if ending == "killed":
            os.kill(multiprocessing.active_children()[-1].pid, signal.SIGKILL)
        if ending == "code":
            raise RuntimeError("a mistake in the callback")
        if ending == "callback":
            raise KeyboardInterrupt
    if step == 2 and ending.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, ending))

def run(*_, **__):
    steps = 6 if ending == "evaluation" else 9999
    options = {**TINY, "model": "dropout", "steps": steps, "workers": 2, "log_every": 1, "schedule": "constant"}
    train(Relief(), data=Reading(), eval_data=SlowTest(5, "test"), on_step=on_step, out=out, **options)

cli.app = run
cli.main([])
"""


def start(out: Path, ending: str) -> subprocess.Popen:
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(out), ending]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def end(process: subprocess.Popen, seconds: float) -> str:
    """Wait for a process and return its stderr; no process of its group may be left."""
    try:
        err = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"The process was not gone after {seconds} s.")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return err


@pytest.mark.parametrize(
    ("ending", "code", "message"),
    [
        pytest.param(
            "exception",
            1,
            "densevision: Reading train/3 failed with KeyError: 'no such annotation'",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "exit",
            1,
            r"densevision: The data loading process \d+ ended unexpectedly.*sample that it read is train/\d",
            marks=pytest.mark.slow,
        ),
        ("killed", 1, r"densevision: The data loading process \d+ ended unexpectedly.*sample that it read is train/\d"),
        pytest.param("code", 1, "RuntimeError: a mistake in the callback", marks=pytest.mark.slow),
        pytest.param("callback", 130, "densevision: interrupted", marks=pytest.mark.slow),
        ("SIGINT", 130, "densevision: interrupted"),
        pytest.param("SIGTERM", 143, "densevision: interrupted", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_ends_early_is_gone_and_can_be_resumed(tmp_path, ending, code, message):
    process = start(tmp_path / "run", ending)
    err = end(process, 40 + SECONDS)
    assert process.returncode == code, err
    assert re.search(message, err) and ("Traceback" in err) == (ending == "code"), err
    assert f"Resume with: densevision train relief --resume --out {tmp_path / 'run'}" in err
    assert load_state(tmp_path / "run" / "last" / "state.pt")["step"] <= 20
    steps = load_state(tmp_path / "run" / "last" / "state.pt")["step"] + 2
    resume_toy(Relief(), tmp_path / "run", steps=steps, workers=0)
    options = {"model": "dropout", "steps": steps, "log_every": 1, "schedule": "constant"}
    train_toy(Relief(), tmp_path / "uninterrupted", **options)
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "run")


@pytest.mark.parametrize(
    ("ending", "line", "number", "code"),
    [
        pytest.param("stuck", "stuck", signal.SIGTERM, 143, marks=pytest.mark.slow),
        ("evaluation", "evaluating", signal.SIGINT, 130),
        pytest.param("stuck", "stuck", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("evaluation", "evaluating", signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_run_that_waits(tmp_path, ending, line, number, code):
    process = start(tmp_path / "run", ending)
    assert process.stderr is not None
    for text in process.stderr:
        if text.strip() == line:
            break
    time.sleep(1)
    os.killpg(process.pid, number)
    err = end(process, SECONDS)
    assert process.returncode == code and "Resume with: " in err and "Traceback" not in err, err
    if ending == "evaluation":
        resume_toy(Relief(), tmp_path / "run", workers=0)
        train_toy(Relief(), tmp_path / "uninterrupted", model="dropout", log_every=1, schedule="constant")
        require_same_runs(tmp_path / "uninterrupted", tmp_path / "run")


def test_a_run_in_a_pipe_prints_a_line_while_it_waits(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("densevision.tasks.training.log.QUIET_SECONDS", 0.2)
    train_toy(Relief(), tmp_path / "run", model="plain", on_step=lambda step: time.sleep(0.7 if step == 3 else 0))
    err = capsys.readouterr().err
    assert 2 <= err.count("... step 3 of 6") <= 4
    time.sleep(0.5)
    assert "..." not in capsys.readouterr().err
