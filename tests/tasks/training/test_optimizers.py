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

from .toys import Relief, follow, go_on, require_same_runs, stop_after


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


@pytest.mark.parametrize(("name", "kind"), [("sgd", "SGD"), ("sgd-1986", "SGD"), ("adam", "Adam"), ("adamw", "AdamW")])
def test_the_optimizer_is_the_one_that_was_named_with_its_momentum(name, kind):
    options = Settled(optimizer=name, momentum=0.8, weight_decay=0.0)
    optimizer = create_optimizer(nn.Linear(2, 2), options, 1.0)
    assert type(optimizer).__name__ == kind and optimizer.defaults["fused"]
    stored = optimizer.defaults["momentum"] if kind == "SGD" else optimizer.defaults["betas"][0]
    assert stored == 0.8


@pytest.mark.parametrize("options", [{}, {"optimizer": "sgd-1986"}])
def test_all_decays_every_parameter_exactly_once(options):
    # Trap 18, and facts 2.2: the lecture's and ResNet's default decays biases and BatchNorm's scales too.
    model = network()
    settled = Settled(decay="all", weight_decay=0.5, **options)
    optimizer = create_optimizer(model, settled, 0.1)
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.5]
    assert sorted(group["relative"] for group in optimizer.param_groups) == [0.1, 1.0]


def walk(name: str, rates: list[float], trunk_rate: float = 1.0, **stated: Any) -> list[float]:
    """Where a weight stands after each step down a slope of 1, from 0."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    options = Settled(optimizer=name, lr=rates[0], **{"momentum": 0.9, "weight_decay": 0.0, **stated})  # type: ignore
    optimizer, places = create_optimizer(layer, options, trunk_rate), []
    for rate in rates:
        optimizer.zero_grad()
        layer(torch.ones(1, 1)).sum().backward()
        set_learning_rate(optimizer, rate)
        optimizer.step()
        places.append(float(layer.weight.detach()))
    return places


# By the two update rules of facts 2.2, for four steps at 0.1 and two at 0.01.
DROP = [0.1] * 4 + [0.01] * 2


def test_at_a_drop_of_the_rate_torchs_momentum_slows_down_at_once_and_the_papers_coasts():
    # Trap 16; the numbers are those of facts 2.2 [c].
    assert walk("sgd", DROP)[4:] == pytest.approx([-0.9459, -0.9927], abs=1e-4)
    assert walk("sgd-1986", DROP)[4:] == pytest.approx([-1.2244, -1.5220], abs=1e-4)


@pytest.mark.parametrize("rates", [DROP, [0.02, 0.05, 0.1, 0.1, 0.03], [0.1, 0.0, 0.1]])
def test_the_papers_momentum_is_its_printed_rule(rates):
    # Krizhevsky et al. 2012, section 5: v <- 0.9 v - 0.0005 lr w - lr g; w <- w + v
    velocity, weight, expected = 0.0, 0.0, []
    for rate in rates:
        if rate:  # no step can be taken with the rate 0, since torch steps by the rate times the velocity
            velocity = 0.9 * velocity + rate * (1 + 0.0005 * weight)
            weight -= velocity
            expected.append(weight)
    found = walk("sgd-1986", [rate for rate in rates if rate], weight_decay=0.0005)
    assert found == pytest.approx(expected, rel=1e-5)


def test_at_a_constant_rate_the_two_forms_are_one():
    # facts 2.2: measured difference 2e-16
    assert walk("sgd", [0.1] * 8) == pytest.approx(walk("sgd-1986", [0.1] * 8), rel=1e-6)


def test_without_momentum_the_two_forms_are_one_at_any_rate():
    assert walk("sgd", DROP, momentum=0.0) == pytest.approx(walk("sgd-1986", DROP, momentum=0.0), rel=1e-6)


def test_trunk_and_head_coast_alike():
    optimizer = create_optimizer(network(), Settled(optimizer="sgd-1986", lr=1.0), 0.1)
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


def test_a_velocity_in_the_papers_form_goes_through_a_saved_state():
    # Trap 17: what is stored is torch's buffer, with the mark that says how a new rate acts on it.
    layers = [nn.Linear(1, 1, bias=False) for _ in range(2)]
    options = Settled(optimizer="sgd-1986", lr=0.1, weight_decay=0.0)
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


@pytest.mark.parametrize("schedule", ["step", "three-steps"])
def test_a_run_with_the_papers_momentum_resumes_to_the_bit_across_a_drop_of_its_rate(tmp_path, schedule):
    options = {"network": "plain", "optimizer": "sgd-1986", "schedule": schedule, "lr": 0.05, "warmup": 1}
    follow(Relief(), tmp_path / "whole", **options)
    for step in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            again = go_on if step > 3 else follow
            again(Relief(), tmp_path / "cut", on_step=stop_after(step), **({} if step > 3 else options))
    go_on(Relief(), tmp_path / "cut")
    require_same_runs(tmp_path / "whole", tmp_path / "cut")


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
