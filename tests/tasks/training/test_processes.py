from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.evaluation import evaluate, predictor_answer
from densevision.tasks.inference import load
from densevision.tasks.training.checkpoint import load_state
from densevision.tasks.training.loop import follow as follow_run
from densevision.tasks.training.processes import create_accelerator

from .toys import (
    LINEAR,
    Relief,
    Reliefs,
    Rivals,
    difference,
    follow,
    go_on,
    largest_gap,
    log_lines,
    start,
    weights_after,
)

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where two processes did what two_processes.py says."""
    folder = tmp_path_factory.mktemp("two")
    started, port = [], free_port()
    for rank in ("0", "1"):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment = {**os.environ, **place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, str(HERE / "two_processes.py"), str(folder)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    return folder


def test_two_processes_of_a_batch_equal_one_of_twice_the_batch(folder, tmp_path):
    # Design 4: to 1e-5 in fp32 without BatchNorm and dropout; with accumulation, clipping and a moving average too.
    follow(Relief(), tmp_path / "one", network="plain", batch=4, **LINEAR)
    one, two = (load_state(out / "last" / "state.pt") for out in (tmp_path / "one", folder / "relief" / "0"))
    assert largest_gap(one["model"], two["model"]) < 1e-5
    assert largest_gap(one["ema"]["average"], two["ema"]["average"]) < 1e-5
    # They have moved far more than they differ.
    begun = start(Relief(), tmp_path / "begun", network="plain").model.state_dict()
    assert largest_gap(begun, two["model"]) > 1e-2


def test_two_processes_log_the_loss_of_all_their_pictures(folder, tmp_path):
    follow(Relief(), tmp_path / "one", network="plain", batch=4, **LINEAR)
    (one, _), (two, _) = log_lines(tmp_path / "one"), log_lines(folder / "relief" / "0")
    assert two["l1"] == pytest.approx(one["l1"], abs=1e-5)


@pytest.mark.parametrize("first", ["critic", "generator"])
def test_both_processes_of_an_adversarial_task_hold_the_same_weights_which_are_no_lone_process_s(
    folder, tmp_path, first
):
    ours, theirs = (torch.load(folder / f"{first}-{rank}.pt", weights_only=True) for rank in "01")
    assert difference(ours, theirs) is None
    alone = start(Rivals(first == "generator"), tmp_path / "run", network="pair", steps=4)
    follow_run(alone, lambda: False, None)
    assert largest_gap(dict(alone.model.named_parameters()), ours) > 1e-4


def test_only_the_first_process_writes(folder):
    for name in ("relief", "critic", "generator", "trunk"):
        assert [path.name for path in (folder / name).iterdir()] == ["0"]


def test_two_processes_score_the_very_weights_that_are_saved(folder):
    first, second = (json.loads((folder / f"trunk-{rank}.json").read_text()) for rank in "01")
    assert first == second
    predictor = load(folder / "trunk" / "0" / "last" / "checkpoint.safetensors", device="cpu", amp="off")
    alone = evaluate(Depth(), predictor_answer(predictor, "all-pixels"), Reliefs(5, "test"), "all-pixels", 3)
    assert alone.metrics == pytest.approx(first, abs=1e-6)


def test_two_processes_count_every_sample_of_an_odd_split_once(folder):
    (scores, ours), (others, theirs) = (json.loads((folder / f"counted-{rank}.json").read_text()) for rank in "01")
    assert sorted(ours + theirs) == [0, 1, 2, 3, 4]
    assert scores == others
    task = Relief()
    baseline = task.baseline(Reliefs())
    for samples, found in zip((None, 1, 2), scores, strict=True):
        alone = evaluate(task, baseline, Reliefs(5, "test"), "all-pixels", samples)
        assert found["samples"] == alone.samples
        assert found == pytest.approx(alone.metrics, rel=1e-9)


def test_a_stop_asked_of_one_process_stops_both_and_resuming_continues_to_the_bit(folder):
    assert all((folder / f"stopped-{rank}").exists() for rank in "01")
    assert difference(weights_after(folder / "uninterrupted"), weights_after(folder / "interrupted")) is None
    assert log_lines(folder / "uninterrupted") == log_lines(folder / "interrupted")


def test_resuming_with_another_number_of_processes_is_refused(folder):
    with pytest.raises(UserError, match="took 8 pictures a step, this one 4: resume with as many processes"):
        go_on(Relief(), folder / "interrupted")


@pytest.mark.parametrize(("device", "found"), [("cpu", "none"), ("cuda", "1")])
def test_processes_that_did_not_find_each_other_are_an_error_and_not_lone_trainings(device, found):
    # The whole environment is put back: Accelerate writes into it.
    with (
        patch.dict(os.environ, {"WORLD_SIZE": "2"}),
        pytest.raises(UserError, match=f"asked for 2 processes .*, but {found} found each other"),
    ):
        create_accelerator(torch.device(device), 1)


@pytest.mark.slow
def test_ctrl_c_at_torchrun_saves_and_resuming_goes_on(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    train = ["-m", "densevision", "train", "depth", "--out", str(tmp_path / "run")]
    options = "--backbone resnet20_cifar --levels 2 --size 32 32 --batch 2 --steps 9999 --workers 1 --eval-samples 2"
    options += " --evaluate-every 0 --log-every 5 --save-every 9999 --device cpu"
    reached = []
    for more in (options.split(), ["--resume"]):
        process = subprocess.Popen([*launch, *train, *more], stderr=subprocess.PIPE, text=True)
        try:
            wait_for_lines(tmp_path / "run" / "log.jsonl", since=reached[-1] if reached else 0)
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=60)[1]
        finally:
            process.kill()
        assert "Go on with: " in errors
        reached.append(load_state(tmp_path / "run" / "last" / "state.pt")["step"])
    assert reached[1] > reached[0] > 0
    steps = [line["step"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"]
    assert steps == list(range(5, steps[-1] + 1, 5))


def wait_for_lines(log: Path, since: int) -> None:
    """Until a log has lines beyond a step."""
    for _ in range(600):
        if log.exists() and any(line["step"] > since for line in log_lines(log.parent)):
            return
        time.sleep(0.2)
    raise TimeoutError(f"{log} has no line beyond step {since}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
