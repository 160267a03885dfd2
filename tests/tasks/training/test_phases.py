from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from densevision.tasks.training import loop

from .toys import Rivals, difference, follow, go_on, largest_gap, require_same_runs, start, stop_after

STEP: dict[str, Any] = {
    "network": "pair", "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "steps": 1,
}  # fmt: skip


def batch_of(run) -> dict[str, torch.Tensor]:
    return run.arrive(next(iter(run.batches())))


def copy_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_each_phase_steps_along_the_gradient_of_its_own_loss_alone(tmp_path):
    run = start(Rivals(), tmp_path / "run", lr=0.1, **STEP)
    before, batch = copy_of(run.model), batch_of(run)
    loop.follow(run, lambda: False, None)
    trained = copy_of(run.model)

    # The same step by hand: first the critic, on an answer that it sees detached, then the generator against it.
    model: Any = Rivals().build({}, None, None, "pair")
    model.load_state_dict(before)
    image, depth = batch["image"], batch["depth"][:, None]
    answer = model(image)
    critic = list(model.critic.parameters())
    false = F.softplus(model.score(image, answer.detach())).mean()
    loss = F.softplus(-model.score(image, depth)).mean() + false
    with torch.no_grad():
        for parameter, gradient in zip(critic, torch.autograd.grad(loss, critic), strict=True):
            parameter -= 0.1 * gradient
    generator = list(model.generator.parameters())
    known = batch["depth_mask"]
    per_picture = [(a[m] - d[m]).abs().mean() for a, d, m in zip(answer[:, 0], batch["depth"], known, strict=True)]
    loss = F.softplus(-model.score(image, answer)).mean() + torch.stack(per_picture).mean()
    with torch.no_grad():
        for parameter, gradient in zip(generator, torch.autograd.grad(loss, generator), strict=True):
            parameter -= 0.1 * gradient
    by_hand = dict(model.named_parameters())
    assert largest_gap({name: trained[name] for name in by_hand}, by_hand) < 1e-6
    assert largest_gap({name: before[name] for name in by_hand}, by_hand) > 1e-3


@pytest.mark.parametrize("generator_first", [False, True])
def test_what_one_phase_made_the_next_one_reuses_with_its_graph(tmp_path, generator_first):
    run = start(Rivals(generator_first), tmp_path / "run", **{**STEP, "steps": 3}, accumulate=2, lr=0.1)
    before = copy_of(run.model)
    calls = []
    loop.follow(run, lambda: False, lambda step: calls.append(run.model.generator.calls))
    # One forward pass per micro-batch, not one per phase; and both networks learned.
    assert calls == [2, 4, 6]
    for part in ("generator.first.weight", "generator.pixels.weight", "critic.0.weight"):
        assert largest_gap({part: before[part]}, {part: copy_of(run.model)[part]}) > 1e-5


def test_a_later_phase_gets_nothing_of_what_an_earlier_ones_loss_sent_into_it(tmp_path):
    # The generator's loss goes through the critic. With the critic second, its step must still be its own alone.
    run = start(Rivals(generator_first=True), tmp_path / "run", lr=0.1, **STEP)
    before, batch = copy_of(run.model), batch_of(run)
    loop.follow(run, lambda: False, None)
    model: Any = Rivals().build({}, None, None, "pair")
    model.load_state_dict(before)
    image, depth = batch["image"], batch["depth"][:, None]
    critic = list(model.critic.parameters())
    with torch.no_grad():
        answer = model(image)
        model.score(image, answer)  # The critic saw the generator's phase, as far as its statistics go.
    loss = F.softplus(-model.score(image, depth)).mean() + F.softplus(model.score(image, answer)).mean()
    gradients = torch.autograd.grad(loss, critic)
    expected = {n: p - 0.1 * g for (n, p), g in zip(model.critic.named_parameters(), gradients, strict=True)}
    assert largest_gap({name: copy_of(run.model.critic)[name] for name in expected}, expected) < 1e-6


def test_no_gradient_is_computed_for_an_earlier_phase(tmp_path):
    run = start(Rivals(), tmp_path / "run", **STEP)
    model: Any = run.model
    seen = []

    def look(*arguments: Any) -> None:
        parts = (model.critic, model.generator)
        seen.append([{parameter.grad is None for parameter in part.parameters()} for part in parts])

    for optimizer in run.optimizers:
        optimizer.optimizer.register_step_pre_hook(look)
    loop.follow(run, lambda: False, None)
    # At the critic's step it alone has gradients, for it saw the answer detached; at the generator's, that alone.
    assert seen == [[{False}, {True}], [{True}, {False}]]


def test_every_phase_has_its_optimizer_and_its_terms_stand_in_one_line_of_the_log(tmp_path):
    run = start(Rivals(), tmp_path / "run", **STEP)
    assert len(run.optimizers) == 2
    loop.follow(run, lambda: False, None)
    assert {"true", "false", "fooled", "l1"} < run.log.lines[0].keys()


def test_an_adversarial_run_resumes_to_the_bit(tmp_path):
    options = {**STEP, "steps": 4, "optimizer": "adamw", "lr": 0.01, "log_every": 3}
    follow(Rivals(), tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        follow(Rivals(), tmp_path / "cut", on_step=stop_after(2), **options)
    go_on(Rivals(), tmp_path / "cut")
    require_same_runs(tmp_path / "whole", tmp_path / "cut")


def test_a_phase_keeps_shut_what_its_task_had_shut(tmp_path):
    class Shut(Rivals):
        def phases(self, model, fields, loss):
            model.generator.pixels.requires_grad_(False)
            return super().phases(model, fields, loss)

    run = start(Shut(), tmp_path / "run", **{**STEP, "steps": 2}, lr=0.1)
    before = copy_of(run.model.generator.pixels)
    loop.follow(run, lambda: False, None)
    assert difference(before, copy_of(run.model.generator.pixels)) is None
