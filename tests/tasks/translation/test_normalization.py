"""Normalization modes: statistics and dropout in training and in prediction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.errors import UserError
from densevision.tasks.translation.generators import ResNetGenerator, UNetGenerator
from densevision.tasks.translation.layers import (
    NORM_MODES,
    BatchStatistics,
    EvalDropout,
    InstanceStatistics,
    set_normalization,
)
from densevision.tasks.translation.networks import GeneratorTranslator

STATES = ("running_mean", "running_var", "num_batches_tracked")


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def trained_layer() -> nn.BatchNorm2d:
    """A batch normalization with nontrivial weights and running statistics."""
    layer = nn.BatchNorm2d(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        layer.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
        layer.running_mean.copy_(torch.tensor([0.1, 0.2, 0.3]))  # type: ignore[union-attr]
        layer.running_var.copy_(torch.tensor([2.0, 3.0, 4.0]))  # type: ignore[union-attr]
    return layer


def normalize(maps: Tensor, layer: nn.Module, axes: tuple[int, ...]) -> Tensor:
    mean, variance = maps.mean(axes, keepdim=True), maps.var(axes, correction=0, keepdim=True)
    weight, bias = (value.view(1, -1, 1, 1) for value in layer.parameters())
    return weight * (maps - mean) / (variance + 1e-5).sqrt() + bias


def create_network(mode: str, generator: str = "unet") -> GeneratorTranslator:
    torch.manual_seed(0)
    norm = "instance" if mode == "instance" else "batch"
    module = UNetGenerator(3, 3, 5, norm, "torch", width=4) if generator == "unet" else ResNetGenerator(3, 3, 1, norm)
    return GeneratorTranslator(module, False, mode)  # type: ignore[arg-type]


def test_batch_uses_the_statistics_of_the_current_batch_in_evaluation():
    layer, maps = trained_layer(), images(2, 3, 5, 7)
    converted = set_normalization(layer, "batch").eval()
    torch.testing.assert_close(converted(maps), normalize(maps, layer, (0, 2, 3)))
    torch.testing.assert_close(converted.train()(maps), normalize(maps, layer, (0, 2, 3)))
    assert set(converted.state_dict()) == {"weight", "bias"}


def test_frozen_batch_uses_the_running_means_in_evaluation():
    layer, maps = trained_layer(), images(2, 3, 5, 7)
    converted = set_normalization(layer, "frozen-batch").eval()
    assert converted is layer and set(STATES) < set(converted.state_dict())
    mean, variance = (value.view(1, 3, 1, 1) for value in (torch.tensor([0.1, 0.2, 0.3]), torch.tensor([2.0, 3, 4])))
    weight, bias = (value.view(1, 3, 1, 1) for value in layer.parameters())
    torch.testing.assert_close(converted(maps), weight * (maps - mean) / (variance + 1e-5).sqrt() + bias)


def test_instance_uses_the_statistics_of_each_image_with_the_same_scale_and_shift():
    layer, maps = trained_layer(), images(2, 3, 5, 7)
    converted = set_normalization(layer, "instance")
    for training in (True, False):
        torch.testing.assert_close(converted.train(training)(maps), normalize(maps, layer, (2, 3)))
        torch.testing.assert_close(converted(maps)[1:], converted(maps[1:]))
    assert [*map(id, converted.parameters())] == [id(layer.weight), id(layer.bias)]


@pytest.mark.parametrize("mode", ["batch", "instance"])
def test_1x1_map_is_scaled_and_shifted_instead_of_refused(mode):
    # Facts 3.6, trap: normalizing a 1x1 map of a batch of one raises.
    layer, single = trained_layer(), images(1, 3, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer.train()(single)
    converted = set_normalization(layer, mode).eval()
    expected = single * layer.weight.view(1, 3, 1, 1) + layer.bias.view(1, 3, 1, 1)
    torch.testing.assert_close(converted(single), expected)
    torch.testing.assert_close(converted.train()(single.repeat(2, 1, 1, 1)), expected.repeat(2, 1, 1, 1))


@pytest.mark.parametrize("mode", NORM_MODES)
def test_all_layers_of_a_backbone_are_converted_and_keep_their_parameters(mode):
    backbone = create_backbone("resnet18", num_classes=0, levels=3)
    before = {name: id(parameter) for name, parameter in backbone.named_parameters()}
    layers = sum(isinstance(layer, nn.BatchNorm2d) for layer in backbone.modules())
    assert set_normalization(backbone, mode) is backbone
    expected = {"batch": BatchStatistics, "frozen-batch": nn.BatchNorm2d, "instance": InstanceStatistics}[mode]
    assert sum(type(layer) is expected for layer in backbone.modules()) == layers > 0
    assert {name: id(parameter) for name, parameter in backbone.named_parameters()} == before
    assert any(name.endswith(STATES) for name in backbone.state_dict()) == (mode == "frozen-batch")


@pytest.mark.parametrize("mode", NORM_MODES)
def test_dropout_is_on_in_evaluation_in_mode_batch_only(mode):
    network = nn.Sequential(nn.Dropout(0.25), nn.Sequential(EvalDropout(0.5)))
    set_normalization(network, mode)
    dropouts = [layer for layer in network.modules() if isinstance(layer, EvalDropout)]
    assert [(layer.p, layer.always_on) for layer in dropouts] == [
        (0.25, mode == "batch"),
        (0.5, mode == "batch"),
    ]
    ones = torch.ones(1, 4, 32, 32)
    assert bool((network.eval()(ones) != ones).any()) == (mode == "batch")
    assert (network.train()(ones) != ones).any()


def test_dropout_drops_half_and_doubles_the_rest():
    torch.manual_seed(0)
    dropout = EvalDropout(0.5).train()
    output = dropout(torch.ones(1, 8, 64, 64))
    assert set(output.unique().tolist()) == {0.0, 2.0}
    assert float((output == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert torch.equal(dropout.eval()(output), output)


@pytest.mark.parametrize("generator", ["unet", "resnet"])
@pytest.mark.parametrize("mode", NORM_MODES)
def test_output_depends_on_the_seed_in_mode_batch_only(mode, generator):
    network, source = create_network(mode, generator).eval(), images(1, 3, 40, 52)

    def predict(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.inference_mode():
            return network(source)

    assert torch.equal(predict(0), predict(0))
    assert torch.equal(predict(0), predict(1)) == (mode != "batch")


@pytest.mark.parametrize("mode", ["batch", "frozen-batch"])
def test_evaluation_equals_training_mode_in_mode_batch_but_not_frozen_batch(mode):
    # Facts 3.6, trap: after training on batches of one, running statistics give a visibly different output.
    network, source = create_network(mode), images(1, 3, 64, 64)
    with torch.no_grad():
        for _ in range(3):
            network.train()(images(1, 3, 64, 64) * 0.5)
        torch.manual_seed(5)
        trained = network.train()(source)
        torch.manual_seed(5)
        evaluated = network.eval()(source)
    if mode == "batch":
        assert torch.equal(trained, evaluated)
    else:
        assert float((trained - evaluated).abs().max()) > 0.01


def test_output_does_not_depend_on_the_batch_in_mode_instance():
    network, source = create_network("instance").eval(), images(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(source)[1:], network(source[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", NORM_MODES)
def test_state_dict_loads_into_a_network_of_the_same_mode(mode):
    network, source = create_network(mode), images(1, 3, 32, 48)
    with torch.no_grad():
        network.train()(source)
    other = create_network(mode)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(network.state_dict())
    outputs = []
    for one in (network.eval(), other.eval()):
        torch.manual_seed(0)
        with torch.inference_mode():
            outputs.append(one(source))
    assert torch.equal(*outputs)
    assert any(name.endswith(STATES) for name in network.state_dict()) == (mode == "frozen-batch")


def test_conversion_keeps_evaluation_mode():
    layer, dropout = nn.BatchNorm2d(2).eval(), nn.Dropout(0.5).eval()
    assert not set_normalization(layer, "batch").training
    assert not set_normalization(dropout, "frozen-batch").training


def test_conversion_is_idempotent():
    network = set_normalization(nn.Sequential(trained_layer()), "batch")
    set_normalization(network, "batch")
    assert [type(layer) for layer in network.children()] == [BatchStatistics]


class NormWithActivation(nn.BatchNorm2d):
    """A normalization that contains an activation, as in many of timm's backbones."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


def test_normalization_with_activation_keeps_it_and_is_refused_by_instance():
    layer, maps = NormWithActivation(3), images(2, 3, 5, 7)
    converted = set_normalization(nn.Sequential(layer), "batch").eval()
    torch.testing.assert_close(converted(maps), normalize(maps, layer, (0, 2, 3)).relu())
    assert set(converted.state_dict()) == {"0.weight", "0.bias"}
    with pytest.raises(
        UserError, match="'instance' cannot replace the normalization NormWithActivation of this backbone"
    ):
        set_normalization(nn.Sequential(NormWithActivation(3)), "instance")


def test_unknown_mode_is_refused():
    with pytest.raises(UserError, match="no normalization mode named 'forzen'; did you mean 'frozen-batch'"):
        set_normalization(nn.Identity(), "forzen")  # pyright: ignore[reportArgumentType]
