from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from .toys import (
    Rivals,
    build_toy_trainer,
    difference,
    largest_gap,
    require_same_runs,
    resume_toy,
    stop_after,
    train_toy,
)

STEP: dict[str, Any] = {
    "model": "pair", "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "steps": 1,
}  # fmt: skip


def batch_of(trainer) -> dict[str, torch.Tensor]:
    return trainer.to_device(next(iter(trainer.data_loader())))


def copy_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_each_phase_uses_the_gradient_of_its_own_loss_alone(tmp_path):
    trainer = build_toy_trainer(Rivals(), tmp_path / "run", lr=0.1, **STEP)
    before, batch = copy_of(trainer.model), batch_of(trainer)
    trainer.run()
    trained = copy_of(trainer.model)

    # The same step by hand: first the critic, on a detached prediction, then the generator against it.
    model: Any = Rivals().build({}, None, None, "pair")
    model.load_state_dict(before)
    image, depth = batch["image"], batch["depth"][:, None]
    prediction = model(image)
    critic = list(model.critic.parameters())
    false = F.softplus(model.score(image, prediction.detach())).mean()
    loss = F.softplus(-model.score(image, depth)).mean() + false
    with torch.no_grad():
        for parameter, gradient in zip(critic, torch.autograd.grad(loss, critic), strict=True):
            parameter -= 0.1 * gradient
    generator = list(model.generator.parameters())
    mask = batch["depth_mask"]
    per_image = [(a[m] - d[m]).abs().mean() for a, d, m in zip(prediction[:, 0], batch["depth"], mask, strict=True)]
    loss = F.softplus(-model.score(image, prediction)).mean() + torch.stack(per_image).mean()
    with torch.no_grad():
        for parameter, gradient in zip(generator, torch.autograd.grad(loss, generator), strict=True):
            parameter -= 0.1 * gradient
    by_hand = dict(model.named_parameters())
    assert largest_gap({name: trained[name] for name in by_hand}, by_hand) < 1e-6
    assert largest_gap({name: before[name] for name in by_hand}, by_hand) > 1e-3


@pytest.mark.parametrize("generator_first", [False, True])
def test_later_phases_reuse_cached_activations_with_their_graph(tmp_path, generator_first):
    trainer = build_toy_trainer(
        Rivals(generator_first), tmp_path / "run", **{**STEP, "steps": 3}, micro_batches=2, lr=0.1
    )
    before = copy_of(trainer.model)
    calls = []
    trainer.run(lambda step: calls.append(trainer.model.generator.calls))
    # One forward pass per micro-batch, not one per phase; and both networks learned.
    assert calls == [2, 4, 6]
    for part in ("generator.first.weight", "generator.pixels.weight", "critic.0.weight"):
        assert largest_gap({part: before[part]}, {part: copy_of(trainer.model)[part]}) > 1e-5


def test_a_later_phase_gets_no_gradient_of_an_earlier_loss(tmp_path):
    # The generator's loss goes through the critic. With the critic second, its step must still use its own loss alone.
    trainer = build_toy_trainer(Rivals(generator_first=True), tmp_path / "run", lr=0.1, **STEP)
    before, batch = copy_of(trainer.model), batch_of(trainer)
    trainer.run()
    model: Any = Rivals().build({}, None, None, "pair")
    model.load_state_dict(before)
    image, depth = batch["image"], batch["depth"][:, None]
    critic = list(model.critic.parameters())
    with torch.no_grad():
        prediction = model(image)
        model.score(image, prediction)  # The generator's phase updates the critic's statistics.
    loss = F.softplus(-model.score(image, depth)).mean() + F.softplus(model.score(image, prediction)).mean()
    gradients = torch.autograd.grad(loss, critic)
    expected = {n: p - 0.1 * g for (n, p), g in zip(model.critic.named_parameters(), gradients, strict=True)}
    assert largest_gap({name: copy_of(trainer.model.critic)[name] for name in expected}, expected) < 1e-6


def test_no_gradient_is_computed_for_an_earlier_phase(tmp_path):
    trainer = build_toy_trainer(Rivals(), tmp_path / "run", **STEP)
    model: Any = trainer.model
    seen = []

    def record(*arguments: Any) -> None:
        parts = (model.critic, model.generator)
        seen.append([{parameter.grad is None for parameter in part.parameters()} for part in parts])

    for optimizer in trainer.optimizers:
        optimizer.optimizer.register_step_pre_hook(record)
    trainer.run()
    # At the critic's step it alone has gradients, since the prediction was detached; at the generator's, that alone.
    assert seen == [[{False}, {True}], [{True}, {False}]]


def test_every_phase_has_an_optimizer_and_all_terms_share_a_log_line(tmp_path):
    trainer = build_toy_trainer(Rivals(), tmp_path / "run", **STEP)
    assert len(trainer.optimizers) == 2
    trainer.run()
    assert {"true", "false", "fooled", "l1"} < trainer.log.lines[0].keys()


def test_an_adversarial_run_resumes_exactly(tmp_path):
    options = {**STEP, "steps": 4, "optimizer": "adamw", "lr": 0.01, "log_every": 3}
    train_toy(Rivals(), tmp_path / "uninterrupted", **options)
    with pytest.raises(KeyboardInterrupt):
        train_toy(Rivals(), tmp_path / "interrupted", on_step=stop_after(2), **options)
    resume_toy(Rivals(), tmp_path / "interrupted")
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "interrupted")


def test_parameters_frozen_by_the_task_stay_frozen(tmp_path):
    class Frozen(Rivals):
        def phases(self, model, fields, loss):
            model.generator.pixels.requires_grad_(False)
            return super().phases(model, fields, loss)

    trainer = build_toy_trainer(Frozen(), tmp_path / "run", **{**STEP, "steps": 2}, lr=0.1)
    before = copy_of(trainer.model.generator.pixels)
    trainer.run()
    assert difference(before, copy_of(trainer.model.generator.pixels)) is None
