from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.training.checkpoint import load_state

from .toys import TINY, TRUNK, Relief, follow, go_on, log_lines, require_same_runs, stop_after, weights_after

EVERYTHING = {
    "ema": 0.9, "accumulate": 2, "clip": 1.0, "warmup": 2, "evaluate_every": 2, "log_every": 4, "colour": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path, workers, amp):
    options = {"network": "dropout", **EVERYTHING, "workers": workers, "amp": amp}
    whole = follow(Relief(), tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        # In the middle of a line of the log and of an epoch: 7 samples, 4 a step.
        follow(Relief(), tmp_path / "cut", on_step=stop_after(3), **options)
    assert load_state(tmp_path / "cut" / "last" / "state.pt")["step"] == 3
    assert not (tmp_path / "cut" / "result.json").exists()
    continued = go_on(Relief(), tmp_path / "cut")
    require_same_runs(tmp_path / "whole", tmp_path / "cut")
    assert continued["metrics"] == whole["metrics"] and continued["best"] == whole["best"]


def test_a_trunk_and_a_head_resume_to_the_bit_when_stopped_at_a_step_that_is_evaluated(tmp_path):
    options = {**TRUNK, **EVERYTHING, "optimizer": "sgd", "freeze_bn": True, "flip": 0.5}
    follow(Depth(), tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        follow(Depth(), tmp_path / "cut", on_step=stop_after(4, signal.SIGTERM), **options)
    go_on(Depth(), tmp_path / "cut")
    require_same_runs(tmp_path / "whole", tmp_path / "cut")


def test_a_run_may_be_stopped_again_and_again(tmp_path):
    follow(Relief(), tmp_path / "whole", network="dropout", ema=0.9)
    with pytest.raises(KeyboardInterrupt):
        follow(Relief(), tmp_path / "cut", on_step=stop_after(1), network="dropout", ema=0.9)
    for step in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            go_on(Relief(), tmp_path / "cut", on_step=stop_after(step))
    go_on(Relief(), tmp_path / "cut")
    require_same_runs(tmp_path / "whole", tmp_path / "cut")


def test_a_stop_asked_for_during_the_last_step_finishes_the_run(tmp_path):
    assert follow(Relief(), tmp_path / "run", on_step=stop_after(6), network="plain")["steps"] == 6
    assert (tmp_path / "run" / "result.json").exists()


def test_resuming_a_finished_run_gives_its_result_again_and_writes_no_line_twice(tmp_path):
    result = follow(Relief(), tmp_path / "run", network="plain", log_every=2, evaluate_every=3)
    lines = log_lines(tmp_path / "run")
    again = go_on(Relief(), tmp_path / "run")
    assert again == result
    assert log_lines(tmp_path / "run") == lines


def test_resuming_a_run_that_ran_out_of_patience_trains_no_further(tmp_path):
    options = {"network": "plain", "lr": 0.0, "evaluate_every": 1, "patience": 2}
    result = follow(Relief(), tmp_path / "run", **options)
    # The first evaluation is the best so far, two more are not.
    assert result["steps"] == 3
    assert go_on(Relief(), tmp_path / "run")["steps"] == 3


def test_the_state_holds_plain_tensors_in_fp32_even_where_training_is_in_bf16(tmp_path):
    follow(Relief(), tmp_path / "run", network="normalised", amp="bf16", ema=0.9)
    state = torch.load(tmp_path / "run" / "last" / "state.pt", weights_only=True)
    tensors = [*state["model"].values(), *state["ema"]["average"].values()]
    tensors += [value for entry in state["optimizers"][0]["state"].values() for value in entry.values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"lr": 0.5}, "with --lr 0.01, not 0.5"),
        ({"batch": 3}, "with --batch 2, not 3"),
        ({"train_samples": 5}, "without --train-samples"),
        ({"weights": "imagenet"}, "without --weights"),
        ({"epochs": 2.0}, "without --epochs"),
    ],
)
def test_resuming_with_an_option_that_contradicts_the_run_is_refused(tmp_path, option, sentence):
    with pytest.raises(KeyboardInterrupt):
        follow(Relief(), tmp_path / "run", on_step=stop_after(1), network="plain")
    with pytest.raises(UserError, match=sentence):
        go_on(Relief(), tmp_path / "run", **option)


def test_resuming_takes_repeated_options_and_those_that_change_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        follow(Relief(), tmp_path / "run", on_step=stop_after(1), network="plain")
    assert go_on(Relief(), tmp_path / "run", lr=TINY["lr"], log_every=1, save_every=2)["steps"] == 6
    assert [line["step"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"] == [2, 3, 4, 5, 6]


def test_resuming_keeps_the_tasks_own_options_and_refuses_others(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        follow(Relief(width=9), tmp_path / "run", on_step=stop_after(1), network="plain")
    with pytest.raises(UserError, match=r"width=9.*not .*width=4"):
        go_on(Relief(width=4), tmp_path / "run")
    with pytest.raises(UserError, match="is a run of 'relief', not of 'depth'"):
        go_on(Depth(), tmp_path / "run")
    go_on(Relief(), tmp_path / "run")
    assert weights_after(tmp_path / "run")["first.weight"].shape[0] == 9


def test_resuming_on_a_set_of_another_name_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        follow(Relief(), tmp_path / "run", on_step=stop_after(1), network="plain")
    from densevision.tasks.training.loop import train

    # As the command line would go on: it cannot know a set that was opened in Python.
    with pytest.raises(UserError, match="no data set named 'Reliefs'"):
        train(Relief(), resume=True, out=tmp_path / "run")


def test_there_is_nothing_to_resume_in_an_empty_folder_and_no_newest_run_without_one(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="nothing to resume"):
        go_on(Relief(), tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no run of 'relief' under runs/"):
        go_on(Relief(), None)  # type: ignore[arg-type]


def test_without_out_runs_are_numbered_and_the_newest_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            follow(Relief(), None, on_step=stop_after(number), network="plain")  # type: ignore[arg-type]
    go_on(Relief(), None)  # type: ignore[arg-type]
    assert [(tmp_path / "runs" / f"relief-{n}" / "result.json").exists() for n in (1, 2)] == [False, True]


def test_a_damaged_state_is_named_and_nothing_in_it_is_executed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        follow(Relief(), tmp_path / "run", on_step=stop_after(1), network="plain")
    state = tmp_path / "run" / "last" / "state.pt"

    class Trap:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'sprung')!r}, 'w')",))

    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"state\.pt is damaged"):
        go_on(Relief(), tmp_path / "run")
    torch.save({"step": Trap()}, state)
    with pytest.raises(UserError, match=r"state\.pt is damaged"):
        go_on(Relief(), tmp_path / "run")
    assert not (tmp_path / "sprung").exists()


KILLED_WHILE_SAVING = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import densevision.writing
from toys import Relief, follow

saves, replace = [], os.replace

def replace_or_die(aside, path):
    saves.append(path.name)
    if saves.count("state.pt") == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(aside, path)

densevision.writing.os.replace = replace_or_die
follow(Relief(), Path(sys.argv[2]), network="dropout", ema=0.9, save_every=2, log_every=1)
"""


def test_a_run_killed_while_it_saves_goes_on_from_the_save_before(tmp_path):
    command = [sys.executable, "-c", KILLED_WHILE_SAVING, str(Path(__file__).parent), str(tmp_path / "killed")]
    died = subprocess.run(command, capture_output=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    # It was at step 4; what it had written of that state lies aside under another name.
    assert load_state(tmp_path / "killed" / "last" / "state.pt")["step"] == 2
    assert len(list((tmp_path / "killed" / "last").glob("state.part-*.pt"))) == 1
    assert log_lines(tmp_path / "killed")[-1]["step"] == 4
    go_on(Relief(), tmp_path / "killed")
    follow(Relief(), tmp_path / "whole", network="dropout", ema=0.9, save_every=2, log_every=1)
    require_same_runs(tmp_path / "whole", tmp_path / "killed")
