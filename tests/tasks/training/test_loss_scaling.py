"""fp16 training: overflowing steps are skipped without a trace, and endless overflow ends in a sentence."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from densevision.tasks.training.interruption import NonFiniteLoss
from densevision.tasks.training.loss_scaling import MAX_SKIPPED
from densevision.tasks.training.lr_finder import find_lr

from .toys import Relief, Rivals, build_toy_trainer, difference, log_lines, train_toy

FP16: dict[str, Any] = {"amp": "fp16", "optimizer": "adamw"}


def copy_of_weights(trainer):
    return {name: value.clone() for name, value in trainer.phase_runner.state_dict().items()}


def overflow(trainer, value: float = math.inf):
    """Hooks that make every gradient overflow."""
    trainer.phase_runner.requires_grad_(True)
    return [
        parameter.register_hook(lambda gradient: torch.full_like(gradient, value))
        for parameter in trainer.phase_runner.parameters()
    ]


@pytest.mark.parametrize("task, model", [(Relief(), "normalized"), (Rivals(), "pair")])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "sgd-caffe"])
def test_an_overflow_skips_the_step_and_leaves_everything_as_it_was(tmp_path, task, model, optimizer):
    trainer = build_toy_trainer(task, tmp_path / "run", model=model, steps=30, **{**FP16, "optimizer": optimizer})
    batches = trainer.data_loader()
    while not trainer.optimizer_step(0, batches, 0.01):
        pass  # until the factor fits
    before, factor = copy_of_weights(trainer), trainer.scaler.torch_scaler.get_scale()
    optimizers = [copy.deepcopy(one.state_dict()["state"]) for one in trainer.optimizers]
    hooks = overflow(trainer)
    assert trainer.optimizer_step(1, batches, 0.01) == {}
    # BatchNorm statistics too, which the forward pass had changed.
    assert difference(before, copy_of_weights(trainer)) is None
    assert difference(optimizers, [one.state_dict()["state"] for one in trainer.optimizers]) is None
    assert trainer.scaler.torch_scaler.get_scale() == factor / 2
    for hook in hooks:
        hook.remove()
    assert trainer.optimizer_step(2, batches, 0.01)
    assert difference(before, copy_of_weights(trainer)) is not None
    assert all(value.isfinite().all() for value in copy_of_weights(trainer).values())
    trainer.close()


def test_endless_overflow_ends_in_a_sentence_and_saves_the_run(tmp_path):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="normalized", steps=2 * MAX_SKIPPED, **FP16)
    before = copy_of_weights(trainer)
    overflow(trainer, math.nan)
    with pytest.raises(NonFiniteLoss, match=f"overflowed fp16 in {MAX_SKIPPED} steps in a row"):
        trainer.run()
    assert difference(before, copy_of_weights(trainer)) is None
    trainer.close()


def test_a_skipped_step_is_not_in_the_logged_mean(tmp_path):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", steps=4, log_every=2, **FP16)
    batches = trainer.data_loader()
    (hook, *others), term = overflow(trainer), None
    trainer.train_step(batches)
    for one in (hook, *others):
        one.remove()
    term = sum(float(value) for value in trainer.train_step(batches).values())
    (line,) = [line for line in log_lines(tmp_path / "run") if line["kind"] == "train"]
    assert sum(value for name, value in line.items() if name not in ("step", "kind", "lr")) == pytest.approx(term)
    trainer.close()


def test_fp16_training_is_close_to_fp32(tmp_path):
    scores = [
        train_toy(Relief(), tmp_path / amp, model="normalized", steps=12, amp=amp)["monitor"]["value"]
        for amp in ("off", "fp16")
    ]
    assert scores[1] == pytest.approx(scores[0], rel=0.05)


def test_the_learning_rate_range_test_survives_the_search_for_the_factor(tmp_path):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", **FP16)
    trainer.scaler.torch_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    result = find_lr(trainer)
    assert len(result["losses"]) > 40 and all(map(math.isfinite, result["losses"]))
    trainer.close()
