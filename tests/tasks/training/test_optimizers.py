from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from densevision.backbones import create_backbone
from densevision.tasks.depth import Depth
from densevision.tasks.training.optimizers import (
    MovingAverage,
    create_optimizer,
    parameter_groups,
    set_learning_rate,
)
from densevision.tasks.training.options import DEFAULTS, Options
from densevision.tasks.training.state import restore_optimizer

from .toys import Relief, require_same_runs, resume_toy, stop_after, train_toy


def resolved(**options: Any) -> Options:
    """The default options with some changed."""
    return dataclasses.replace(DEFAULTS, **options)


def network() -> Any:
    torch.manual_seed(0)
    return Depth().build({}, create_backbone("resnet20_cifar", num_classes=0), "unet", None)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_groups_partition_the_trainable_parameters(frozen):
    # Trap 18 of the facts on backbones: weight decay on frozen and BatchNorm parameters, and parameters listed twice.
    model = network()
    model.backbone.requires_grad_(not frozen)
    groups = parameter_groups(model, DEFAULTS, backbone_lr_factor=0.1)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def test_only_weights_decay_and_the_backbone_has_its_own_lr():
    model = network()
    backbone = {id(parameter) for parameter in model.backbone.parameters()}
    groups = parameter_groups(model, resolved(weight_decay=0.5), backbone_lr_factor=0.1)
    assert len(groups) == 4
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0)
            assert group["lr_scale"] == (0.1 if id(parameter) in backbone else 1.0)
    normalizations = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert normalizations and not any(id(m.weight) in decayed or id(m.bias) in decayed for m in normalizations)


def test_set_learning_rate_keeps_the_ratio_of_the_groups():
    optimizer = create_optimizer(network(), DEFAULTS, 0.1)
    for rate in (0.5, 0.02):
        set_learning_rate(optimizer, rate)
        rates = sorted({group["lr"] for group in optimizer.param_groups})
        assert rates == pytest.approx([0.1 * rate, rate])


@pytest.mark.parametrize(("name", "kind"), [("sgd", "SGD"), ("sgd-caffe", "SGD"), ("adam", "Adam"), ("adamw", "AdamW")])
def test_the_named_optimizer_is_created_with_its_momentum(name, kind):
    options = resolved(optimizer=name, momentum=0.8, weight_decay=0.0)
    optimizer = create_optimizer(nn.Linear(2, 2), options, 1.0)
    assert type(optimizer).__name__ == kind and optimizer.defaults["fused"]
    stored = optimizer.defaults["momentum"] if kind == "SGD" else optimizer.defaults["betas"][0]
    assert stored == 0.8


def test_rmsprop_divides_by_a_root_mean_square_that_is_at_least_a_hundredth():
    # Facts-next C.1: decay 0.9, and a floor of 0.01 under the root; the gradient is 1, then 0.001.
    assert walk("rmsprop", [0.1] * 3) == pytest.approx(
        np.cumsum([-0.1 / 0.1**0.5, -0.1 / 0.19**0.5, -0.1 / 0.271**0.5]).tolist()
    )
    layer = nn.Linear(1, 1, bias=False)
    before = float(layer.weight.detach())
    optimizer = create_optimizer(layer, resolved(optimizer="rmsprop", lr=0.1, weight_decay=0.0), 1.0)
    (0.001 * layer(torch.ones(1, 1))).sum().backward()
    optimizer.step()
    assert float(layer.weight.detach()) - before == pytest.approx(-0.1 * 0.001 / 0.01, abs=1e-6)


def test_a_run_with_rmsprop_resumes_exactly(tmp_path):
    options = {"model": "plain", "optimizer": "rmsprop", "lr": 0.01}
    train_toy(Relief(), tmp_path / "uninterrupted", **options)
    with pytest.raises(KeyboardInterrupt):
        train_toy(Relief(), tmp_path / "interrupted", on_step=stop_after(2), **options)
    resume_toy(Relief(), tmp_path / "interrupted")
    require_same_runs(tmp_path / "uninterrupted", tmp_path / "interrupted")


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd-caffe"}])
def test_all_decays_every_parameter_exactly_once(options):
    # Trap 18, and facts 2.2: ResNet's default decays biases and BatchNorm scales too.
    model = network()
    optimizer = create_optimizer(model, resolved(weight_decay_on="all", weight_decay=0.5, **options), 0.1)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.5]
    assert sorted(group["lr_scale"] for group in optimizer.param_groups) == [0.1, 1.0]


def walk(name: str, rates: list[float], backbone_lr_factor: float = 1.0, **options_by_name: Any) -> list[float]:
    """Values of a weight after each step down a slope of 1, starting at 0."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    options = dataclasses.replace(
        DEFAULTS, optimizer=name, lr=rates[0], **{"momentum": 0.9, "weight_decay": 0.0, **options_by_name}
    )  # type: ignore
    optimizer, values = create_optimizer(layer, options, backbone_lr_factor), []
    for rate in rates:
        optimizer.zero_grad()
        layer(torch.ones(1, 1)).sum().backward()
        set_learning_rate(optimizer, rate)
        optimizer.step()
        values.append(float(layer.weight.detach()))
    return values


# By the two update rules of facts 2.2, for four steps at 0.1 and two at 0.01.
DROP = [0.1] * 4 + [0.01] * 2


def test_after_a_drop_of_lr_sgd_slows_down_at_once_and_sgd_caffe_coasts():
    # Trap 16; the numbers are those of facts 2.2 [c].
    assert walk("sgd", DROP)[4:] == pytest.approx([-0.9459, -0.9927], abs=1e-4)
    assert walk("sgd-caffe", DROP)[4:] == pytest.approx([-1.2244, -1.5220], abs=1e-4)


@pytest.mark.parametrize("rates", [DROP, [0.02, 0.05, 0.1, 0.1, 0.03], [0.1, 0.0, 0.1]])
def test_sgd_caffe_follows_the_rule_in_the_paper(rates):
    # Krizhevsky et al. 2012, section 5: v <- 0.9 v - 0.0005 lr w - lr g; w <- w + v
    velocity, weight, expected = 0.0, 0.0, []
    for rate in rates:
        if rate:  # no step is possible with lr 0, since torch steps by lr times the velocity
            velocity = 0.9 * velocity + rate * (1 + 0.0005 * weight)
            weight -= velocity
            expected.append(weight)
    actual = walk("sgd-caffe", [rate for rate in rates if rate], weight_decay=0.0005)
    assert actual == pytest.approx(expected, rel=1e-5)


def test_both_forms_of_momentum_agree_at_a_constant_lr():
    # facts 2.2: measured difference 2e-16
    assert walk("sgd", [0.1] * 8) == pytest.approx(walk("sgd-caffe", [0.1] * 8), rel=1e-6)


def test_both_forms_agree_without_momentum():
    assert walk("sgd", DROP, momentum=0.0) == pytest.approx(walk("sgd-caffe", DROP, momentum=0.0), rel=1e-6)


def test_velocity_is_rescaled_in_backbone_and_head():
    optimizer = create_optimizer(network(), resolved(optimizer="sgd-caffe", lr=1.0), 0.1)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    set_learning_rate(optimizer, 1.0)
    optimizer.step()
    before = [
        optimizer.state[p]["momentum_buffer"].clone() for group in optimizer.param_groups for p in group["params"]
    ]
    set_learning_rate(optimizer, 0.25)
    after = [optimizer.state[p]["momentum_buffer"] for group in optimizer.param_groups for p in group["params"]]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other, 4 * one)


def test_sgd_caffe_continues_from_a_saved_state():
    # Trap 17: torch's buffer is stored, with the flag that says how a new learning rate applies to it.
    layers = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    options = resolved(optimizer="sgd-caffe", lr=0.1, weight_decay=0.0)
    one, other = (create_optimizer(layer, options, 1.0) for layer in layers)
    for layer, optimizer in ((layers[0], one), (layers[1], other)):
        nn.init.zeros_(layer.weight)
        for rate in DROP[:4] if optimizer is one else []:
            layer.weight.grad = torch.ones_like(layer.weight)
            set_learning_rate(optimizer, rate)
            optimizer.step()
    layers[1].load_state_dict(layers[0].state_dict())
    other.load_state_dict(one.state_dict())
    layers[1].weight.grad = torch.ones_like(layers[1].weight)
    set_learning_rate(other, 0.01)
    other.step()
    assert float(layers[1].weight.detach()) == pytest.approx(-1.2244, abs=1e-4)


@pytest.mark.parametrize("milestones", [(0.5, 0.75), (0.25, 0.5, 0.75)])
def test_a_run_with_sgd_caffe_resumes_exactly_across_a_drop_of_lr(tmp_path, milestones):
    options = {"model": "plain", "optimizer": "sgd-caffe", "lr": 0.05, "warmup_steps": 1}
    options |= {"schedule": "multistep", "milestones": milestones}
    train_toy(Relief(), tmp_path / "whole", **options)
    for step in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            again = resume_toy if step > 3 else train_toy
            again(Relief(), tmp_path / "cut", on_step=stop_after(step), **({} if step > 3 else options))
    resume_toy(Relief(), tmp_path / "cut")
    require_same_runs(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(("name", "moved"), [("adam", 0.1), ("adamw", 0.1 + 0.1 * 0.5 * 2.0)])
def test_only_adamw_decouples_weight_decay_from_the_gradient(name, moved):
    # First step of Adam: the sign of the gradient times lr. AdamW (Loshchilov & Hutter 2019) adds lr * decay * w.
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    optimizer = create_optimizer(layer, resolved(optimizer=name, lr=0.1, weight_decay=0.5, momentum=0.9), 1.0)
    layer(torch.full((1, 1), 100.0)).sum().backward()
    optimizer.step()
    assert 2.0 - float(layer.weight.detach()) == pytest.approx(moved, rel=1e-4)


def test_the_moving_average_equals_that_by_hand():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    average, expected = MovingAverage(layer, 0.4), 0.0
    # The decay grows as (1 + n) / (10 + n): 2/11, 3/12, 4/13, 5/14, 6/15 = 0.4, and stays there.
    decays, values = (2 / 11, 3 / 12, 4 / 13, 5 / 14, 0.4, 0.4), (1.0, 3.0, -2.0, 5.0, 1.0, 7.0)
    for decay, value in zip(decays, values, strict=True):
        nn.init.constant_(layer.weight, value)
        average.update(layer)
        expected = decay * expected + (1 - decay) * value
        assert float(average.average["weight"]) == pytest.approx(expected, rel=1e-5)


def test_the_moving_average_copies_counters_and_averages_statistics():
    layer = nn.BatchNorm1d(1)
    average = MovingAverage(layer, 0.9)
    layer.train()(torch.tensor([[10.0], [20.0]]))
    average.update(layer)
    assert int(average.average["num_batches_tracked"]) == 1
    # The running mean went from 0 to 1.5 (momentum 0.1 of a mean of 15); the average takes 9/11 of it.
    assert float(average.average["running_mean"]) == pytest.approx(1.5 * 9 / 11)


def test_averaged_weights_are_applied_only_inside_the_context():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    average = MovingAverage(layer, 0.9)
    nn.init.constant_(layer.weight, 8.0)
    with pytest.raises(ZeroDivisionError), average.applied(layer):
        assert float(layer.weight.detach()) == 0.0
        raise ZeroDivisionError
    assert float(layer.weight.detach()) == 8.0


def test_a_stored_state_gets_memory_of_its_own():
    layer = nn.Linear(3, 2)
    optimizer = create_optimizer(layer, resolved(optimizer="adamw"), 1.0)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    stored = optimizer.state_dict()
    # One number in memory, which fused optimizers would write to as to six.
    stored["state"][0]["exp_avg"] = stored["state"][0]["exp_avg_sq"] = torch.ones(1).expand(2, 3)
    restore_optimizer(optimizer, stored)
    restored = optimizer.state[layer.weight]
    assert restored["exp_avg"].is_contiguous() and restored["exp_avg"].tolist() == [[1.0] * 3] * 2
    assert restored["exp_avg"].data_ptr() != restored["exp_avg_sq"].data_ptr()


@pytest.mark.parametrize("steps", [float("nan"), -1.0])
def test_a_number_of_steps_that_cannot_be_is_refused(steps):
    layer = nn.Linear(3, 2)
    optimizer = create_optimizer(layer, resolved(optimizer="adamw"), 1.0)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    stored = optimizer.state_dict()
    stored["state"][0]["step"] = torch.tensor(steps)
    with pytest.raises(ValueError, match="steps of parameter 0"):
        restore_optimizer(optimizer, stored)
