from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.datasets.rooms import Rooms
from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.training.freezing import settle_frozen
from densevision.tasks.training.loop import follow as follow_run
from densevision.tasks.training.options import Options
from densevision.tasks.training.stepper import Stepper

from .toys import (
    TINY,
    TRUNK,
    Exploding,
    Relief,
    Reliefs,
    Rivals,
    difference,
    follow,
    largest_gap,
    log_lines,
    start,
    weights_after,
)

SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}


def finish(run) -> dict:
    return follow_run(run, lambda: False, None)


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_overfitting_one_batch_brings_the_loss_near_zero(tmp_path):
    options = {"overfit": True, "steps": 200, "lr": 0.1, "log_every": 1, "zoom": 1.0, "rotate": 0.0}
    # At the network's own size nothing is resampled: the truth is a mean of the colours, which a convolution can say.
    follow(Relief(), tmp_path / "run", Reliefs(size=(16, 16)), network="plain", **options)
    losses = [line["l1"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"]
    assert losses[0] > 1 and losses[-1] < 0.05


def test_overfitting_sees_the_same_batch_in_every_step_augmentation_included(tmp_path):
    run = start(Relief(), tmp_path / "run", network="plain", overfit=True, steps=3)
    first, *others = run.batches()
    assert len(others) == 2
    assert all(difference(first, other) is None for other in others)


@pytest.mark.parametrize(("amp", "inside"), [("off", torch.float32), ("bf16", torch.bfloat16)])
def test_amp_decides_the_precision_inside_and_losses_are_fp32(tmp_path, amp, inside):
    run = start(Relief(), tmp_path / "run", network="plain", amp=amp)
    seen = []
    run.model.second.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    terms = run.stepper(0, run.arrive(next(iter(run.batches()))), {})
    assert seen == [inside]
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_freezing_the_trunk_leaves_its_weights_and_statistics_bit_equal(tmp_path):
    # Trap 23 of the facts on trunks: statistics of frozen layers that still move.
    run = start(Depth(), tmp_path / "run", **TRUNK, freeze=True, ema=0.5, steps=3)
    trunk, head = copy_of(run.model.backbone), copy_of(run.model.head)
    finish(run)
    assert difference(trunk, copy_of(run.model.backbone)) is None
    assert largest_gap(head, copy_of(run.model.head)) > 1e-4
    assert run.ema is not None
    averaged = {f"backbone.{name}": value for name, value in trunk.items()}
    assert difference(averaged, {name: run.ema.average[name] for name in averaged}) is None


def test_freezing_bn_leaves_the_trunks_statistics_bit_equal_and_lets_its_weights_learn(tmp_path):
    run = start(Depth(), tmp_path / "run", **TRUNK, freeze_bn=True, steps=3)
    trunk, head = dict(run.model.backbone.named_buffers()), dict(run.model.head.named_buffers())
    before = {name: value.clone() for name, value in {**trunk, **{f"head.{n}": v for n, v in head.items()}}.items()}
    weights = copy_of(run.model.backbone)
    finish(run)
    assert difference({name: before[name] for name in trunk}, dict(run.model.backbone.named_buffers())) is None
    assert largest_gap({n: before[f"head.{n}"] for n in head}, dict(run.model.head.named_buffers())) > 1e-4
    assert largest_gap(weights, copy_of(run.model.backbone)) > 1e-4


def test_frozen_normalisations_stay_so_after_the_network_was_switched_to_training():
    model: Any = Depth().build({}, create_backbone("resnet20_cifar", classes=0), "unet", None).train()
    settle_frozen(model, Options(freeze_bn=True))
    modes = {type(module).__name__: module.training for module in model.backbone.modules()}
    assert modes["BatchNorm2d"] is False and modes["Conv2d"] is True
    settle_frozen(model, Options(freeze=True))
    assert not any(module.training for module in model.backbone.modules())
    assert all(module.training for module in model.head.modules())


def test_freezing_the_trunk_of_a_network_without_one_is_refused(tmp_path):
    with pytest.raises(UserError, match="--freeze keeps the trunk as it is, but this network has none"):
        start(Relief(), tmp_path / "run", network="plain", freeze=True)


def test_accumulating_two_batches_equals_one_of_twice_the_size(tmp_path):
    options = {"network": "plain", **SGD, "lr": 0.05, "log_every": 6}
    follow(Relief(), tmp_path / "two", batch=2, accumulate=2, **options)
    follow(Relief(), tmp_path / "one", batch=4, **options)
    assert largest_gap(weights_after(tmp_path / "one"), weights_after(tmp_path / "two")) < 1e-6
    one, two = log_lines(tmp_path / "one")[0], log_lines(tmp_path / "two")[0]
    assert two["l1"] == pytest.approx(one["l1"], rel=1e-6)


@pytest.mark.parametrize(("clip", "moved"), [(0.01, 0.01), (1000.0, None), (0.0, None)])
def test_clipping_limits_the_norm_of_the_whole_gradient(tmp_path, clip, moved):
    run = start(Relief(), tmp_path / "run", network="plain", **SGD, lr=1.0, steps=1, clip=clip)
    before = dict(copy_of(run.model))
    finish(run)
    step = math.sqrt(sum(float((before[n] - v).square().sum()) for n, v in copy_of(run.model).items()))
    # With a rate of 1, plain SGD moves by the gradient itself.
    assert step == pytest.approx(moved, rel=1e-3) if moved else step > 0.05


def test_training_stops_when_patience_runs_out_and_keeps_the_best(tmp_path):
    result = follow(Relief(), tmp_path / "run", network="plain", lr=0.0, evaluate_every=2, patience=1, steps=9)
    assert result["steps"] == 4 and result["best"]["step"] == 2
    assert [line["step"] for line in log_lines(tmp_path / "run") if line["kind"] == "eval"] == [2, 4]


def test_a_nan_stops_the_run_and_names_the_step_and_the_term(tmp_path):
    with pytest.raises(UserError, match=r"term 'fuse' became nan at step 3: lower --lr") as caught:
        follow(Exploding(), tmp_path / "run", network="plain", save_every=1)
    assert "\n" not in str(caught.value)
    assert all(value.isfinite().all() for value in weights_after(tmp_path / "run").values())


def test_the_rate_of_the_first_ten_steps_is_the_one_written_in_the_log(tmp_path):
    # Trap 29 of the facts on trunks: four steps of warm-up (1/5 .. 4/5), then half a cosine over the other six.
    options = {"steps": 10, "warmup": 4, "lr": 0.2, "log_every": 1, "schedule": "cosine"}
    follow(Relief(), tmp_path / "run", network="plain", **options)
    rates = [line["lr"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"]
    cosine = [(1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
    assert rates == pytest.approx([0.04, 0.08, 0.12, 0.16, *(0.2 * share for share in cosine)])


def test_the_trunk_learns_at_its_own_rate(tmp_path):
    run = start(Depth(), tmp_path / "run", **TRUNK, **SGD, lr=0.1, trunk_lr=0.0, steps=1)
    trunk, head = dict(run.model.backbone.named_parameters()), dict(run.model.head.named_parameters())
    before = [{name: value.detach().clone() for name, value in part.items()} for part in (trunk, head)]
    finish(run)
    assert difference(before[0], {name: value.detach() for name, value in trunk.items()}) is None
    assert largest_gap(before[1], head) > 1e-4


def test_the_first_weights_depend_on_the_seed_alone(tmp_path):
    torch.manual_seed(5)
    one = copy_of(start(Relief(), tmp_path / "one", network="plain").model)
    torch.manual_seed(6)
    assert difference(one, copy_of(start(Relief(), tmp_path / "two", network="plain").model)) is None
    assert difference(one, copy_of(start(Relief(), tmp_path / "three", network="plain", seed=1).model)) is not None


def test_dropout_differs_from_step_to_step(tmp_path):
    run = start(Relief(), tmp_path / "run", network="dropout", overfit=True, steps=2, lr=0.0)
    dropped = []
    run.model.dropout.register_forward_hook(lambda module, inputs, output: dropped.append(output == 0))
    follow_run(run, lambda: len(dropped) > 1, None)
    assert not torch.equal(dropped[0], dropped[1])


def test_epochs_become_steps_and_need_a_set_that_ends(tmp_path):
    # 3 passes over 7 samples, 2 a step: 10.5 steps, of which the half is dropped.
    assert start(Relief(), tmp_path / "run", network="plain", epochs=3, steps=None).steps == 10
    with pytest.raises(UserError, match="--epochs needs a finite training set; give --steps, or --train-samples"):
        start(Relief(), tmp_path / "two", Rooms(), network="plain", epochs=1, steps=None)
    world = start(Relief(), tmp_path / "three", Rooms(), network="plain", epochs=2, steps=None, train_samples=6)
    assert world.steps == 6


def test_steps_beside_epochs_are_refused(tmp_path):
    with pytest.raises(UserError, match="--steps and --epochs are two ways to say the same thing"):
        start(Relief(), tmp_path / "run", network="plain", epochs=1)


def test_an_empty_training_set_is_refused(tmp_path):
    with pytest.raises(UserError, match="training split of 'Reliefs' holds no sample"):
        start(Relief(), tmp_path / "run", Reliefs(samples=0), network="plain")


def test_an_opened_set_needs_one_to_evaluate_on(tmp_path):
    from densevision.tasks.training.loop import train

    with pytest.raises(UserError, match="pass the set to evaluate on as eval_data"):
        train(Relief(), data=Reliefs(), network="plain", out=tmp_path / "run", **TINY)


@pytest.mark.parametrize(("fits", "sentence"), [(3, "--batch 2 fits"), (1, "--batch 1 fits"), (0, "even one picture")])
@pytest.mark.parametrize("task", [Relief(), Rivals()])
def test_where_memory_runs_out_the_sentence_names_a_batch_that_fits(tmp_path, monkeypatch, task, fits, sentence):
    forward = Stepper.forward

    def forward_within(self, phase, batch, made):
        # In the last phase, when earlier ones are closed already.
        if len(batch["image"]) > fits and phase + 1 == len(self.phases):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(self, phase, batch, made)

    monkeypatch.setattr(Stepper, "forward", forward_within)
    network = next(iter(task.networks))
    with pytest.raises(UserError, match=f"Memory ran out with --batch 8: {sentence}"):
        follow(task, tmp_path / "run", network=network, batch=8)


def test_an_error_that_is_not_about_memory_arrives_as_it_is(tmp_path, monkeypatch):
    def fail(self, phase, batch, made):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Stepper, "forward", fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
        follow(Relief(), tmp_path / "run", network="plain")
    assert caught.value.__cause__ is None


def test_on_step_hears_of_every_whole_step_once(tmp_path):
    heard: list[int] = []
    follow(Relief(), tmp_path / "run", network="plain", accumulate=2, on_step=heard.append)
    assert heard == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_compiled_network_takes_the_same_steps(tmp_path):
    # The loss asks for `training_logits` and raw maps, not for `forward`: what is compiled lies below both.
    losses = []
    for name, compiled in (("plain", False), ("compiled", True)):
        run = start(Relief(), tmp_path / name, compile=compiled, **TRUNK)
        batch = run.arrive(next(iter(run.batches())))
        losses.append([float(value) for value in run.stepper(0, batch, {}).values()])
        if compiled:
            assert "features" in vars(run.model.backbone)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
