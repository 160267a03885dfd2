from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.training.options import Options
from densevision.tasks.training.state import load_state

from .toys import (
    BACKBONE,
    TINY,
    Relief,
    build_toy_trainer,
    log_lines,
    require_same_runs,
    resume_toy,
    stop_after,
    train_toy,
    weights_after,
)

EVERYTHING = {
    "ema_decay": 0.9, "micro_batches": 2, "clip_grad_norm": 1.0, "warmup_steps": 2, "eval_every": 2, "log_every": 4,
    "color_jitter": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("amp", "workers"),
    [
        ("off", 2),
        ("bf16", 0),
        ("fp16", 0),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("off", 0), ("bf16", 2), ("fp16", 2))),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one_exactly(tmp_path, workers, amp):
    options = {"model": "dropout", **EVERYTHING, "workers": workers, "amp": amp}
    uninterrupted = train_toy(Relief(), tmp_path / "uninterrupted", **options)
    with pytest.raises(KeyboardInterrupt):
        # Between two log lines and within an epoch: 7 samples, 4 per step.
        train_toy(Relief(), tmp_path / "interrupted", on_step=stop_after(3), **options)
    assert load_state(tmp_path / "interrupted" / "last" / "state.pt")["step"] == 3
    assert not (tmp_path / "interrupted" / "result.json").exists()
    resumed = resume_toy(Relief(), tmp_path / "interrupted")
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "interrupted")
    assert resumed["metrics"] == uninterrupted["metrics"] and resumed["best"] == uninterrupted["best"]


def test_a_backbone_and_a_head_resume_exactly_at_an_evaluated_step(tmp_path):
    options = {**BACKBONE, **EVERYTHING, "optimizer": "sgd", "freeze_bn": True, "hflip": 0.5}
    train_toy(Depth(), tmp_path / "uninterrupted", **options)
    with pytest.raises(KeyboardInterrupt):
        train_toy(Depth(), tmp_path / "interrupted", on_step=stop_after(4, signal.SIGTERM), **options)
    resume_toy(Depth(), tmp_path / "interrupted")
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "interrupted")


def test_a_run_may_be_interrupted_several_times(tmp_path):
    train_toy(Relief(), tmp_path / "uninterrupted", model="dropout", ema_decay=0.9)
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(), tmp_path / "interrupted", on_step=stop_after(1), model="dropout", ema_decay=0.9)
    for step in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            resume_toy(Relief(), tmp_path / "interrupted", on_step=stop_after(step))
    resume_toy(Relief(), tmp_path / "interrupted")
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "interrupted")


def test_an_interrupt_during_the_last_step_leaves_the_evaluation_to_the_resumed_run(tmp_path):
    uninterrupted = train_toy(Relief(), tmp_path / "uninterrupted", model="plain")
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(), tmp_path / "interrupted", on_step=stop_after(6), model="plain")
    assert not (tmp_path / "interrupted" / "result.json").exists()
    assert resume_toy(Relief(), tmp_path / "interrupted")["metrics"] == uninterrupted["metrics"]
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "interrupted")


def test_resuming_a_finished_run_returns_its_result_again(tmp_path):
    result = train_toy(Relief(), tmp_path / "run", model="plain", log_every=2, eval_every=3)
    lines = log_lines(tmp_path / "run")
    again = resume_toy(Relief(), tmp_path / "run")
    assert again == result
    assert log_lines(tmp_path / "run") == lines


def test_resuming_after_early_stopping_does_not_train(tmp_path):
    options = {"model": "plain", "lr": 0.0, "eval_every": 1, "patience": 2}
    result = train_toy(Relief(), tmp_path / "run", **options)
    # The first evaluation is the best so far, the next two are not better.
    assert result["steps"] == 3
    assert resume_toy(Relief(), tmp_path / "run")["steps"] == 3


def test_the_state_is_fp32_even_with_bf16_training(tmp_path):
    train_toy(Relief(), tmp_path / "run", model="normalized", amp="bf16", ema_decay=0.9)
    state = torch.load(tmp_path / "run" / "last" / "state.pt", weights_only=True)
    tensors = [*state["model"].values(), *state["ema"]["average"].values()]
    tensors += [value for entry in state["optimizers"][0]["state"].values() for value in entry.values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lr": 0.5}, "with --lr 0.01, not 0.5"),
        ({"batch_size": 3}, "with --batch-size 2, not 3"),
        ({"train_samples": 5}, "without --train-samples"),
        ({"weights": "imagenet"}, "without --weights"),
    ],
)
def test_resuming_with_contradicting_options_is_refused(tmp_path, option, message):
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(), tmp_path / "run", on_step=stop_after(1), model="plain")
    with pytest.raises(UserError, match=message):
        resume_toy(Relief(), tmp_path / "run", **option)


def test_resuming_accepts_repeated_options_and_changeable_ones(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(), tmp_path / "run", on_step=stop_after(1), model="plain")
    assert resume_toy(Relief(), tmp_path / "run", lr=TINY["lr"], log_every=1, save_every=2)["steps"] == 6
    assert [line["step"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"] == [2, 3, 4, 5, 6]


def test_resuming_keeps_the_options_of_the_task(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(width=9), tmp_path / "run", on_step=stop_after(1), model="plain")
    with pytest.raises(UserError, match=r"width=9.*not .*width=4"):
        resume_toy(Relief(width=4), tmp_path / "run")
    with pytest.raises(UserError, match="is a run of 'relief', not of 'depth'"):
        resume_toy(Depth(), tmp_path / "run")
    resume_toy(Relief(), tmp_path / "run")
    assert weights_after(tmp_path / "run")["first.weight"].shape[0] == 9


def test_resuming_with_an_unregistered_dataset_name_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(), tmp_path / "run", on_step=stop_after(1), model="plain")
    from densevision.tasks.training.setup import train

    # As on the command line, which cannot open a dataset that was passed as an object.
    with pytest.raises(UserError, match="no dataset named 'Reliefs'"):
        train(Relief(), resume=True, out=tmp_path / "run")


def test_resuming_without_a_run_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"cannot be resumed: it contains no last/state\.pt"):
        resume_toy(Relief(), tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run of 'relief' under runs/"):
        resume_toy(Relief(), None)  # type: ignore[arg-type]


def test_without_out_runs_are_numbered_and_the_newest_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            train_toy(Relief(), None, on_step=stop_after(number), model="plain")  # type: ignore[arg-type]
    resume_toy(Relief(), None)  # type: ignore[arg-type]
    assert [(tmp_path / "runs" / f"relief-{n}" / "result.json").exists() for n in (1, 2)] == [False, True]


def test_a_damaged_state_is_named_and_not_executed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(), tmp_path / "run", on_step=stop_after(1), model="plain")
    state = tmp_path / "run" / "last" / "state.pt"

    class Trap:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    content = state.read_bytes()
    state.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"state\.pt is damaged"):
        resume_toy(Relief(), tmp_path / "run")
    torch.save({"step": Trap()}, state)
    with pytest.raises(UserError, match=r"state\.pt is damaged"):
        resume_toy(Relief(), tmp_path / "run")
    assert not (tmp_path / "sprung").exists()


KILLED_WHILE_SAVING = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import densevision.atomic_io
from toys import Relief, train_toy

saves, replace = [], os.replace

def replace_or_die(aside, path):
    saves.append(path.name)
    if saves.count("state.pt") == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(aside, path)

densevision.atomic_io.os.replace = replace_or_die
train_toy(Relief(), Path(sys.argv[2]), model="dropout", ema_decay=0.9, save_every=2, log_every=1)
"""


def test_a_run_killed_while_saving_resumes_from_the_previous_save(tmp_path):
    command = [sys.executable, "-c", KILLED_WHILE_SAVING, str(Path(__file__).parent), str(tmp_path / "killed")]
    process = subprocess.run(command, capture_output=True, timeout=120)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    # It was at step 4; the incomplete state of that step is in a temporary file.
    assert load_state(tmp_path / "killed" / "last" / "state.pt")["step"] == 2
    assert len(list((tmp_path / "killed" / "last").glob("state.part-*.pt"))) == 1
    assert log_lines(tmp_path / "killed")[-1]["step"] == 4
    resume_toy(Relief(), tmp_path / "killed")
    train_toy(Relief(), tmp_path / "uninterrupted", model="dropout", ema_decay=0.9, save_every=2, log_every=1)
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "killed")


def test_resume_auto_starts_a_run_and_continues_it(tmp_path, monkeypatch):
    options: dict = {"model": "dropout", "resume": "auto", "out": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(), on_step=stop_after(2), **options)
    # The same command once more, also after the end.
    assert train_toy(Relief(), **options) == train_toy(Relief(), **options)
    train_toy(Relief(), tmp_path / "uninterrupted", model="dropout")
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--resume auto needs --out"):
        train_toy(Relief(), None, model="dropout", resume="auto")  # type: ignore[arg-type]


def test_resume_auto_starts_again_where_nothing_was_saved(tmp_path):
    train_toy(Relief(), tmp_path / "uninterrupted", model="plain", log_every=1)
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(), tmp_path / "run", on_step=stop_after(2), model="plain", log_every=1)
    (tmp_path / "run" / "last" / "state.pt").unlink()
    train_toy(Relief(), tmp_path / "run", model="plain", log_every=1, resume="auto")
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "run")


def test_resume_auto_keeps_the_measured_length_of_a_run_with_minutes(tmp_path):
    options: dict = {"model": "plain", "minutes": 0.2, "steps": 4, "resume": "auto"}
    first = train_toy(Relief(), tmp_path / "run", **options)
    assert train_toy(Relief(), tmp_path / "run", **options) == first


def test_a_run_is_saved_by_seconds(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("densevision.tasks.training.run.time.monotonic", lambda: now[0])
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", save_every="5s")
    saved: list[int] = []

    def on_step(step: int) -> None:
        now[0] += 2.0
        saved.append(trainer.saved_step or 0)

    trainer.run(on_step)
    trainer.close()
    # Each step takes two seconds: the third is the first after five of them.
    assert saved == [0, 0, 0, 3, 3, 3] and trainer.saved_step == 6


@pytest.mark.parametrize("value", ["5", "0s", "-1s", "5m", "1.5s", 0])
def test_an_interval_of_saves_is_steps_or_seconds(value):
    with pytest.raises(UserError, match="--save-every is"):
        Options(save_every=value).validate()
