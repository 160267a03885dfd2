from __future__ import annotations

from typing import Any

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
from densevision.tasks.training.options import Settled


def network() -> Any:
    torch.manual_seed(0)
    return Depth().build({}, create_backbone("resnet20_cifar", classes=0), "unet", None)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_groups_partition_what_learns(frozen):
    # Trap 18 of the facts on trunks: weight decay on frozen and on BatchNorm parameters, and parameters listed twice.
    model = network()
    model.backbone.requires_grad_(not frozen)
    groups = parameter_groups(model, Settled(), trunk_rate=0.1)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}


def test_decay_reaches_kernels_alone_and_the_trunk_has_its_own_rate():
    model = network()
    trunk = {id(parameter) for parameter in model.backbone.parameters()}
    groups = parameter_groups(model, Settled(weight_decay=0.5), trunk_rate=0.1)
    assert len(groups) == 4
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0)
            assert group["relative"] == (0.1 if id(parameter) in trunk else 1.0)
    normalisations = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    assert normalisations and not any(id(m.weight) in decayed or id(m.bias) in decayed for m in normalisations)


def test_the_rate_of_a_step_keeps_the_relation_of_the_groups():
    optimizer = create_optimizer(network(), Settled(), 0.1)
    for rate in (0.5, 0.02):
        set_learning_rate(optimizer, rate)
        rates = sorted({group["lr"] for group in optimizer.param_groups})
        assert rates == pytest.approx([0.1 * rate, rate])


@pytest.mark.parametrize(("name", "kind"), [("sgd", "SGD"), ("adam", "Adam"), ("adamw", "AdamW")])
def test_the_optimizer_is_the_one_that_was_named_with_its_momentum(name, kind):
    options = Settled(optimizer=name, momentum=0.8, weight_decay=0.0)
    optimizer = create_optimizer(nn.Linear(2, 2), options, 1.0)
    assert type(optimizer).__name__ == kind and optimizer.defaults["fused"]
    stored = optimizer.defaults["momentum"] if name == "sgd" else optimizer.defaults["betas"][0]
    assert stored == 0.8


@pytest.mark.parametrize(("name", "moved"), [("adam", 0.1), ("adamw", 0.1 + 0.1 * 0.5 * 2.0)])
def test_only_adamw_decays_beside_the_gradient(name, moved):
    # First step of Adam: the gradient's sign times the rate. AdamW (Loshchilov & Hutter 2019) adds rate * decay * w.
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    optimizer = create_optimizer(layer, Settled(optimizer=name, lr=0.1, weight_decay=0.5, momentum=0.9), 1.0)
    layer(torch.full((1, 1), 100.0)).sum().backward()
    optimizer.step()
    assert 2.0 - float(layer.weight.detach()) == pytest.approx(moved, rel=1e-4)


def test_the_moving_average_is_the_one_by_hand():
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


def test_the_average_stands_in_the_network_only_while_it_is_applied_even_through_an_error():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    average = MovingAverage(layer, 0.9)
    nn.init.constant_(layer.weight, 8.0)
    with pytest.raises(ZeroDivisionError), average.applied(layer):
        assert float(layer.weight.detach()) == 0.0
        raise ZeroDivisionError
    assert float(layer.weight.detach()) == 8.0
