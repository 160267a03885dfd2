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
from unittest.mock import patch

import pytest
import torch

from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.distributed import create_accelerator, synchronize_batch_norm
from densevision.tasks.evaluation import score
from densevision.tasks.inference import load
from densevision.tasks.training.state import load_state
from densevision.tasks.translation.layers import BatchStatistics

from ..processes import free_port, run_processes
from .toys import (
    BACKBONE,
    LINEAR,
    SHARED,
    Relief,
    Reliefs,
    Rivals,
    build_toy_trainer,
    difference,
    largest_gap,
    log_lines,
    resume_toy,
    train_in_lanes,
    train_shared,
    train_toy,
    weights_after,
)

SCRIPT = Path(__file__).parent / "in_processes.py"

TWO_MICRO_BATCHES: dict[str, Any] = LINEAR | {"micro_batches": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder in which two processes ran in_processes.py."""
    return run_processes(SCRIPT, tmp_path_factory.mktemp("two"))


def state_of(folder: Path) -> dict:
    return load_state(folder / "last" / "state.pt")


def require_same_steps(one: Path, other: Path) -> None:
    """Weights, optimizers, averages, BatchNorm statistics and the losses of all steps are equal to the bit."""
    first, second = state_of(one), state_of(other)
    for part in ("model", "auxiliary", "optimizers", "ema", "meter"):
        assert difference(first[part], second[part], part) is None
    for line, same in zip(log_lines(one), log_lines(other), strict=True):
        # Scores differ by 1e-10: the processes predict for other batches.
        assert line.pop("kind") == same.pop("kind")
        assert line == (same if "lr" in line else pytest.approx(same, rel=1e-6))


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("micro_batches", [2, 4])
def test_two_processes_equal_one_to_the_bit(folder, tmp_path, name, micro_batches):
    train_shared(name, tmp_path / "one", micro_batches)
    require_same_steps(tmp_path / "one", folder / f"{name}-{micro_batches}")


def require_same_lanes(folder: Path, count: int, alone: Path) -> None:
    """The micro-batches of so many processes, and their run, are those of one; each sample comes once in an epoch."""
    one = micro_batches_of([train_in_lanes(alone / "lanes", alone / "shards")])
    assert one == micro_batches_of([json.loads((folder / f"taken-{rank}.json").read_text()) for rank in range(count)])
    assert len(one) == 6 * 4
    for epoch in (one[:12], one[12:]):
        assert Counter(index for samples in epoch for index in samples) == Counter(range(24))
    require_same_steps(alone / "lanes", folder / "lanes")


def micro_batches_of(taken: list[list[int]]) -> list[list[int]]:
    """The samples of each of four micro-batches a step, from those that each process has taken, two at a time."""
    shares = [(rank, iter(zip(each[::2], each[1::2], strict=True))) for rank, each in enumerate(taken)]
    found = {
        (step, number): list(next(pairs))
        for rank, pairs in shares
        for step in range(6)
        for number in range(rank, 4, len(taken))
    }
    assert all(next(pairs, None) is None for _, pairs in shares)
    return [found[key] for key in sorted(found)]


def test_the_lanes_of_shards_are_those_of_one_process(folder, tmp_path):
    require_same_lanes(folder, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_group_of_one_three_or_four_processes_equals_one_process_to_the_bit(tmp_path, count):
    run_processes(SCRIPT, tmp_path / "several", "shared", count=count)
    for name in SHARED:
        train_shared(name, tmp_path / name, 4)
        require_same_steps(tmp_path / name, tmp_path / "several" / f"{name}-4")
    require_same_lanes(tmp_path / "several", count, tmp_path / "alone")


def test_a_run_of_two_processes_continues_in_one(folder, tmp_path):
    train_shared("dropout", tmp_path / "one", 2, steps=8)
    shutil.copytree(folder / "dropout-2", tmp_path / "grown")
    resume_toy(Relief(), tmp_path / "grown", steps=8)
    for part in ("model", "optimizers", "ema"):
        assert difference(state_of(tmp_path / "one")[part], state_of(tmp_path / "grown")[part]) is None


def test_two_processes_equal_one_with_twice_the_batch(folder, tmp_path):
    # Design 4: to 1e-5 in fp32 without BatchNorm and dropout; with accumulation, clipping and a moving average too.
    train_toy(Relief(), tmp_path / "one", model="plain", batch_size=4, **TWO_MICRO_BATCHES)
    one, two = (load_state(out / "last" / "state.pt") for out in (tmp_path / "one", folder / "relief" / "0"))
    assert largest_gap(one["model"], two["model"]) < 1e-5
    assert largest_gap(one["ema"]["average"], two["ema"]["average"]) < 1e-5
    # The weights have changed far more than they differ.
    initial = build_toy_trainer(Relief(), tmp_path / "initial", model="plain").model.state_dict()
    assert largest_gap(initial, two["model"]) > 1e-2


def test_two_processes_log_the_loss_of_all_images(folder, tmp_path):
    train_toy(Relief(), tmp_path / "one", model="plain", batch_size=4, **TWO_MICRO_BATCHES)
    (one, _), (two, _) = log_lines(tmp_path / "one"), log_lines(folder / "relief" / "0")
    assert two["l1"] == pytest.approx(one["l1"], abs=1e-5)


@pytest.mark.parametrize("first", ["critic", "generator"])
def test_both_processes_of_an_adversarial_task_have_the_same_weights(folder, tmp_path, first):
    first_rank, second_rank = (torch.load(folder / f"{first}-{rank}.pt", weights_only=True) for rank in "01")
    assert difference(first_rank, second_rank) is None
    single = build_toy_trainer(Rivals(first == "generator"), tmp_path / "run", model="pair", steps=4)
    single.run()
    assert largest_gap(dict(single.model.named_parameters()), first_rank) > 1e-4


def test_only_the_first_process_writes(folder):
    for name in ("relief", "critic", "generator", "backbone"):
        assert [path.name for path in (folder / name).iterdir()] == ["0"]


def test_two_processes_evaluate_the_weights_that_are_saved(folder):
    first, second = (json.loads((folder / f"backbone-{rank}.json").read_text()) for rank in "01")
    assert first == second
    predictor = load(folder / "backbone" / "0" / "last" / "checkpoint.safetensors", device="cpu", amp="off")
    single = score(Depth(), predictor, Reliefs(5, "test"), "all-pixels", 3)
    assert single.metrics == pytest.approx(first, abs=1e-6)


def test_two_processes_count_every_sample_once(folder):
    (scores, indices), (other_scores, other_indices) = (
        json.loads((folder / f"counted-{rank}.json").read_text()) for rank in "01"
    )
    assert sorted(indices + other_indices) == [0, 1, 2, 3, 4]
    assert scores == other_scores
    task = Relief()
    baseline = task.baseline(Reliefs())
    for samples, result in zip((None, 1, 2), scores, strict=True):
        single = score(task, baseline, Reliefs(5, "test"), "all-pixels", samples)
        assert result["samples"] == single.samples
        assert result == pytest.approx(single.metrics, rel=1e-9)


def test_interrupting_one_process_stops_both_and_resuming_is_exact(folder):
    assert all((folder / f"stopped-{rank}").exists() for rank in "01")
    assert difference(weights_after(folder / "uninterrupted"), weights_after(folder / "interrupted")) is None
    assert log_lines(folder / "uninterrupted") == log_lines(folder / "interrupted")


@pytest.mark.parametrize(("device", "connected"), [("cpu", "none"), ("cuda", "1")])
def test_processes_that_do_not_connect_are_an_error(device, connected):
    # Restore the environment: Accelerate writes to it.
    with (
        patch.dict(os.environ, {"WORLD_SIZE": "2"}),
        pytest.raises(UserError, match=f"requests 2 processes, but {connected} connected"),
    ):
        create_accelerator(torch.device(device), 1)


def test_synchronized_normalizations_replace_all_and_change_nothing_in_one_process(tmp_path):
    trainer = build_toy_trainer(Depth(), tmp_path / "build", **BACKBONE, sync_bn=True)
    norm = torch.nn.modules.batchnorm._BatchNorm
    kinds = {type(module) for module in trainer.model.modules() if isinstance(module, norm)}
    assert kinds == {torch.nn.SyncBatchNorm}
    trainer.close()
    for sync_bn in (False, True):
        train_toy(Depth(), tmp_path / str(sync_bn), **BACKBONE, sync_bn=sync_bn, steps=2)
    assert difference(weights_after(tmp_path / "False"), weights_after(tmp_path / "True")) is None


@pytest.mark.parametrize(
    ("layer", "device", "message"),
    [
        (torch.nn.BatchNorm2d(3), "cpu", "--sync-bn needs GPUs, and the device is cpu"),
        (BatchStatistics(3), "cuda", "--sync-bn cannot replace the normalization BatchStatistics of this model"),
    ],
)
def test_what_cannot_be_synchronized_is_refused(monkeypatch, layer, device, message):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        synchronize_batch_norm(torch.nn.Sequential(layer), torch.device(device))


@pytest.mark.slow
def test_ctrl_c_at_torchrun_saves_and_the_run_can_be_resumed(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    train = ["-m", "densevision", "train", "depth", "--out", str(tmp_path / "run")]
    options = "--backbone resnet20_cifar --backbone-levels 2 --image-size 32 32 --batch-size 2 --steps 9999"
    options += " --workers 1 --eval-samples 2 --eval-every 0 --log-every 5 --save-every 9999 --device cpu"
    reached = []
    for more in (options.split(), ["--resume"]):
        process = subprocess.Popen([*launch, *train, *more], stderr=subprocess.PIPE, text=True)
        try:
            wait_for_lines(tmp_path / "run" / "log.jsonl", since=reached[-1] if reached else 0)
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=60)[1]
        finally:
            process.kill()
        assert "Resume with: " in errors
        reached.append(load_state(tmp_path / "run" / "last" / "state.pt")["step"])
    assert reached[1] > reached[0] > 0
    steps = [line["step"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"]
    assert steps == list(range(5, steps[-1] + 1, 5))


def wait_for_lines(log: Path, since: int) -> None:
    """Wait until a log has lines beyond a step."""
    for _ in range(600):
        if log.exists() and any(line["step"] > since for line in log_lines(log.parent)):
            return
        time.sleep(0.2)
    raise TimeoutError(f"{log} has no line beyond step {since}")
