"""The rule of normalisation is part of a network: what it answers at test is what the rule says, always."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.errors import UserError
from densevision.tasks.translation.networks import WholeTranslator
from densevision.tasks.translation.normalization import (
    RULES,
    BatchStatistics,
    Noise,
    PictureStatistics,
    settle_normalization,
)
from densevision.tasks.translation.resnet_generator import ResNetGenerator
from densevision.tasks.translation.unet import UNetGenerator

STATES = ("running_mean", "running_var", "num_batches_tracked")


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def trained_layer() -> nn.BatchNorm2d:
    """A batch normalisation with weights and running statistics that do something."""
    layer = nn.BatchNorm2d(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        layer.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
        layer.running_mean.copy_(torch.tensor([0.1, 0.2, 0.3]))  # type: ignore[union-attr]
        layer.running_var.copy_(torch.tensor([2.0, 3.0, 4.0]))  # type: ignore[union-attr]
    return layer


def by_hand(maps: Tensor, layer: nn.Module, axes: tuple[int, ...]) -> Tensor:
    mean, variance = maps.mean(axes, keepdim=True), maps.var(axes, correction=0, keepdim=True)
    weight, bias = (value.view(1, -1, 1, 1) for value in layer.parameters())
    return weight * (maps - mean) / (variance + 1e-5).sqrt() + bias


def whole(rule: str, generator: str = "unet") -> WholeTranslator:
    torch.manual_seed(0)
    norm = "instance" if rule == "instance" else "batch"
    made = UNetGenerator(3, 3, 5, norm, "torch", width=4) if generator == "unet" else ResNetGenerator(3, 3, 1, norm)
    return WholeTranslator(made, False, rule)  # type: ignore[arg-type]


def test_batch_stats_normalises_by_the_batch_at_hand_in_evaluation():
    layer, maps = trained_layer(), pictures(2, 3, 5, 7)
    settled = settle_normalization(layer, "batch-stats").eval()
    torch.testing.assert_close(settled(maps), by_hand(maps, layer, (0, 2, 3)))
    torch.testing.assert_close(settled.train()(maps), by_hand(maps, layer, (0, 2, 3)))
    assert set(settled.state_dict()) == {"weight", "bias"}


def test_frozen_normalises_by_the_running_means_in_evaluation():
    layer, maps = trained_layer(), pictures(2, 3, 5, 7)
    settled = settle_normalization(layer, "frozen").eval()
    assert settled is layer and set(STATES) < set(settled.state_dict())
    mean, variance = (value.view(1, 3, 1, 1) for value in (torch.tensor([0.1, 0.2, 0.3]), torch.tensor([2.0, 3, 4])))
    weight, bias = (value.view(1, 3, 1, 1) for value in layer.parameters())
    torch.testing.assert_close(settled(maps), weight * (maps - mean) / (variance + 1e-5).sqrt() + bias)


def test_instance_normalises_every_picture_by_itself_with_the_same_scale_and_shift():
    layer, maps = trained_layer(), pictures(2, 3, 5, 7)
    settled = settle_normalization(layer, "instance")
    for mode in (True, False):
        torch.testing.assert_close(settled.train(mode)(maps), by_hand(maps, layer, (2, 3)))
        torch.testing.assert_close(settled(maps)[1:], settled(maps[1:]))
    assert [*map(id, settled.parameters())] == [id(layer.weight), id(layer.bias)]


@pytest.mark.parametrize("rule", ["batch-stats", "instance"])
def test_a_map_of_a_single_place_is_scaled_and_shifted_where_torch_would_refuse_it(rule):
    # Facts 3.6, trap: normalising a 1x1 map of a batch of one raises.
    layer, lone = trained_layer(), pictures(1, 3, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer.train()(lone)
    settled = settle_normalization(layer, rule).eval()
    expected = lone * layer.weight.view(1, 3, 1, 1) + layer.bias.view(1, 3, 1, 1)
    torch.testing.assert_close(settled(lone), expected)
    torch.testing.assert_close(settled.train()(lone.repeat(2, 1, 1, 1)), expected.repeat(2, 1, 1, 1))


@pytest.mark.parametrize("rule", RULES)
def test_a_trunk_is_settled_to_its_last_layer_and_keeps_its_parameters(rule):
    trunk = create_backbone("resnet18", classes=0, levels=3)
    before = {name: id(parameter) for name, parameter in trunk.named_parameters()}
    layers = sum(isinstance(layer, nn.BatchNorm2d) for layer in trunk.modules())
    assert settle_normalization(trunk, rule) is trunk
    kind = {"batch-stats": BatchStatistics, "frozen": nn.BatchNorm2d, "instance": PictureStatistics}[rule]
    assert sum(type(layer) is kind for layer in trunk.modules()) == layers > 0
    assert {name: id(parameter) for name, parameter in trunk.named_parameters()} == before
    assert any(name.endswith(STATES) for name in trunk.state_dict()) == (rule == "frozen")


@pytest.mark.parametrize("rule", RULES)
def test_dropout_is_awake_at_test_under_batch_stats_alone(rule):
    network = nn.Sequential(nn.Dropout(0.25), nn.Sequential(Noise(0.5)))
    settle_normalization(network, rule)
    dropouts = [layer for layer in network.modules() if isinstance(layer, Noise)]
    assert [(layer.p, layer.awake) for layer in dropouts] == [
        (0.25, rule == "batch-stats"),
        (0.5, rule == "batch-stats"),
    ]
    ones = torch.ones(1, 4, 32, 32)
    assert bool((network.eval()(ones) != ones).any()) == (rule == "batch-stats")
    assert (network.train()(ones) != ones).any()


def test_noise_drops_half_and_doubles_the_rest():
    torch.manual_seed(0)
    noise = Noise(0.5).train()
    made = noise(torch.ones(1, 8, 64, 64))
    assert set(made.unique().tolist()) == {0.0, 2.0}
    assert float((made == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(noise.eval()(made), made)


@pytest.mark.parametrize("generator", ["unet", "resnet"])
@pytest.mark.parametrize("rule", RULES)
def test_the_same_seed_gives_the_same_picture_and_another_seed_another_one_under_batch_stats_alone(rule, generator):
    network, source = whole(rule, generator).eval(), pictures(1, 3, 40, 52)

    def asked(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.inference_mode():
            return network(source)

    assert torch.equal(asked(0), asked(0))
    assert torch.equal(asked(0), asked(1)) == (rule != "batch-stats")


@pytest.mark.parametrize("rule", ["batch-stats", "frozen"])
def test_evaluation_is_training_mode_under_batch_stats_and_another_answer_under_frozen(rule):
    # Facts 3.6, trap: after training on batches of one, running statistics give a visibly different answer.
    network, source = whole(rule), pictures(1, 3, 64, 64)
    with torch.no_grad():
        for _ in range(3):
            network.train()(pictures(1, 3, 64, 64) * 0.5)
        torch.manual_seed(5)
        trained = network.train()(source)
        torch.manual_seed(5)
        asked = network.eval()(source)
    if rule == "batch-stats":
        assert torch.equal(trained, asked)
    else:
        assert float((trained - asked).abs().max()) > 0.01


def test_under_instance_a_picture_is_answered_alike_alone_and_in_a_batch():
    network, source = whole("instance").eval(), pictures(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(source)[1:], network(source[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_a_network_of_the_same_rule_takes_the_state_and_answers_alike(rule):
    network, source = whole(rule), pictures(1, 3, 32, 48)
    with torch.no_grad():
        network.train()(source)
    again = whole(rule)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    again.load_state_dict(network.state_dict())
    answers = []
    for one in (network.eval(), again.eval()):
        torch.manual_seed(0)
        with torch.inference_mode():
            answers.append(one(source))
    assert torch.equal(*answers)
    assert any(name.endswith(STATES) for name in network.state_dict()) == (rule == "frozen")


def test_modes_of_layers_survive_settling():
    layer, dropout = nn.BatchNorm2d(2).eval(), nn.Dropout(0.5).eval()
    assert not settle_normalization(layer, "batch-stats").training
    assert not settle_normalization(dropout, "frozen").training


def test_settling_twice_changes_nothing():
    network = settle_normalization(nn.Sequential(trained_layer()), "batch-stats")
    settle_normalization(network, "batch-stats")
    assert [type(layer) for layer in network.children()] == [BatchStatistics]


class Activated(nn.BatchNorm2d):
    """A normalisation with an activation inside, as many of timm's trunks have."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


def test_normalisations_that_hold_an_activation_keep_it_and_instance_says_that_it_cannot_replace_them():
    layer, maps = Activated(3), pictures(2, 3, 5, 7)
    settled = settle_normalization(nn.Sequential(layer), "batch-stats").eval()
    torch.testing.assert_close(settled(maps), by_hand(maps, layer, (0, 2, 3)).relu())
    assert set(settled.state_dict()) == {"0.weight", "0.bias"}
    with pytest.raises(UserError, match="'instance' cannot replace the normalisation Activated of this trunk"):
        settle_normalization(nn.Sequential(Activated(3)), "instance")


def test_an_unknown_rule_is_refused():
    with pytest.raises(UserError, match="no rule of normalisation named 'forzen'; did you mean 'frozen'"):
        settle_normalization(nn.Identity(), "forzen")  # pyright: ignore[reportArgumentType]
