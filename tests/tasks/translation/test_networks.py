"""Generators: number of parameters, any image size, and every backbone with a head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from densevision.backbones import create_backbone, list_backbones
from densevision.errors import UserError
from densevision.registry import lookup
from densevision.tasks.heads import create_head, list_heads
from densevision.tasks.heads.smp import SmpHead
from densevision.tasks.tiling import run_padded
from densevision.tasks.translation import networks
from densevision.tasks.translation.generators import ResNetGenerator, UNetGenerator
from densevision.tasks.translation.layers import NORM_MODES, EvalDropout
from densevision.tasks.translation.networks import BackboneTranslator, GeneratorTranslator, head_levels, min_input_size

GENERATORS = ("unet256", "unet128", "resnet9", "resnet6")
ODD = ((127, 161), (33, 70), (5, 3), (1, 1))

LIGHT: dict[str, int | None] = {
    "lenet5": None, "alexnet": None, "vgg11": None, "googlenet": None, "resnet18": None, "resnet20_cifar": None,
    "preact110_cifar": 1, "inception_v4": 2, "inception_resnet_v2": 2,
}  # fmt: skip
"""One backbone of each family, and the number of its levels; all levels of all backbones are slow tests."""
BACKBONES = [*LIGHT.items(), *(pytest.param(name, None, marks=pytest.mark.slow) for name in list_backbones())]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def create_generator(name: str, in_channels: int, out_channels: int, norm: str = "batch", labels: bool = False) -> Any:
    return lookup("model", name, {name: f"tasks.translation.networks:{name}"})(in_channels, out_channels, norm, labels)


def backbone_and_head(
    name: str, head: str = "unet", norm: str = "batch", in_channels: int = 3, out_channels: int = 3, **options: Any
) -> BackboneTranslator:
    labels = options.pop("labels", False)
    backbone = create_backbone(name, num_classes=0, in_channels=in_channels, **options)
    return BackboneTranslator(backbone, create_head(head, head_levels(backbone), out_channels), norm, labels)  # type: ignore[arg-type]


def without_gradient(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.grad is None]


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


# --- parameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        # Facts 3.6, table of networks.
        (54_413_955, {}),
        (54_411_907, {"in_channels": 1}),
        (41_828_995, {"num_downs": 7}),
        (54_419_459, {"use_bias": True}),
        (39_075_459, {"skips": False}),
        # With biases, without the scale and shift of 2,432 channels of the encoder and 2,496 of the decoder.
        (54_419_459 - 2 * (2_432 + 2_496), {"norm": "instance"}),
    ],
)
def test_number_of_parameters_of_the_unet(parameters, options):
    with torch.device("meta"):
        assert count(UNetGenerator(**{"in_channels": 3, "out_channels": 3, **options})) == parameters


@pytest.mark.parametrize(
    ("blocks", "norm", "parameters"),
    # Facts 3.6.
    [(9, "batch", 11_383_427), (6, "batch", 7_841_411), (9, "instance", 11_378_179), (6, "instance", 7_837_699)],
)
def test_number_of_parameters_of_the_resnet_generator(blocks, norm, parameters):
    with torch.device("meta"):
        assert count(ResNetGenerator(3, 3, blocks, norm)) == parameters


@pytest.mark.parametrize(
    ("name", "batch", "instance"),
    [
        ("unet256", 54_413_955, 54_409_603),
        ("unet128", 41_828_995, None),
        ("resnet9", 11_383_427, 11_378_179),
        ("resnet6", 7_841_411, 7_837_699),
    ],
)
def test_normalization_mode_selects_the_published_variant(name, batch, instance):
    with torch.device("meta"):
        assert (
            count(create_generator(name, 3, 3, "batch")) == count(create_generator(name, 3, 3, "frozen-batch")) == batch
        )
        network = create_generator(name, 3, 3, "instance")
    assert instance is None or count(network) == instance
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


# --- the U-Net ---------------------------------------------------------------------------------------------------


def blocks_with_dropout(generator: UNetGenerator) -> list[int]:
    """Numbers of the decoder blocks with dropout, from 1 for the deepest."""
    return [
        number
        for number, up in enumerate(generator.ups, 1)
        if any(isinstance(layer, EvalDropout) for layer in up.modules())
    ]


@pytest.mark.parametrize(
    ("num_downs", "dropout", "blocks"),
    # Facts 3.6, trap: Torch's after d1, d2, d3; the port's in the blocks of 1024 to 512, none in the innermost.
    [(8, "port", [2, 3, 4]), (8, "torch", [1, 2, 3]), (7, "port", [2, 3]), (7, "torch", [1, 2, 3])],
)
def test_dropout_of_the_port_and_of_the_torch_code(num_downs, dropout, blocks):
    with torch.device("meta"):
        generator = UNetGenerator(3, 3, num_downs, dropout=dropout)
        assert blocks_with_dropout(generator) == blocks
        assert blocks_with_dropout(UNetGenerator(3, 3, num_downs)) == blocks_with_dropout(
            UNetGenerator(3, 3, num_downs, dropout="port")
        )
    if dropout == "port":
        for number in blocks:
            convolution = generator.ups[number - 1][0]  # type: ignore[index]
            assert (convolution.in_channels, convolution.out_channels) == (1024, 512)


def test_map_sizes_of_an_image_of_256_down_to_1x1_without_normalization():
    with torch.device("meta"), torch.no_grad():
        generator = UNetGenerator(3, 3)
        shapes: list[tuple[int, ...]] = []
        for layer in (*generator.downs, *generator.ups):
            layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])) and None)
        assert generator(torch.empty(1, 3, 256, 256)).shape == (1, 3, 256, 256)
    sizes = [128, 64, 32, 16, 8, 4, 2, 1, 2, 4, 8, 16, 32, 64, 128]
    widths = [64, 128, 256, 512, 512, 512, 512, 512, 512, 512, 512, 512, 256, 128, 64]
    assert shapes == [(width, size, size) for width, size in zip(widths, sizes, strict=True)]
    normalized = [sum(isinstance(layer, nn.BatchNorm2d) for layer in block.modules()) for block in generator.downs]
    assert normalized == [0, 1, 1, 1, 1, 1, 1, 0]


def reference_forward(generator: UNetGenerator, image: Tensor, in_place: bool) -> Tensor:
    """The port's nested blocks, whose leaky ReLU overwrites the skip, or the Torch code's graph, whose skip is raw."""

    def block(level: int, x: Tensor) -> Tensor:
        y = generator.downs[level](functional.leaky_relu_(x, 0.2) if in_place else functional.leaky_relu(x, 0.2))
        if level + 1 < len(generator.downs):
            y = block(level + 1, y)
        return torch.cat((x, generator.ups[len(generator.ups) - level](functional.relu(y))), dim=1)

    return generator.predict(functional.relu(block(1, generator.downs[0](image))))


@pytest.mark.parametrize("in_place", [True, False])
def test_unet_equals_the_ports_nested_blocks_and_the_torch_codes_graph(in_place):
    torch.manual_seed(0)
    generator = UNetGenerator(3, 2, 5, width=4).eval()
    image = 2 * images(2, 3, 64, 32) - 1
    with torch.no_grad():
        torch.testing.assert_close(generator(image), reference_forward(generator, image, in_place))


def test_no_map_is_modified_in_place():
    # Facts 3.6, trap: an in-place leaky ReLU changes the skip tensor.
    torch.manual_seed(0)
    generator = UNetGenerator(3, 3, 4, width=4)
    outputs: list[tuple[Tensor, Tensor]] = []
    for layer in (*generator.downs, *generator.ups):
        layer.register_forward_hook(
            lambda module, inputs, output: outputs.append((output, output.detach().clone())) and None
        )
    image = 2 * images(2, 3, 32, 32) - 1
    before = image.clone()
    generator(image)
    assert torch.equal(image, before) and len(outputs) == 7
    assert all(torch.equal(output, copy) for output, copy in outputs)


def test_without_skips_the_output_depends_on_the_deepest_map_only():
    torch.manual_seed(0)
    image = 2 * images(1, 3, 32, 32) - 1
    for skips in (True, False):
        generator = UNetGenerator(3, 3, 4, skips=skips, width=4).eval()
        deepest = generator.downs[-1]
        deepest.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))  # type: ignore[arg-type]
        with torch.no_grad():
            assert torch.equal(generator(image), generator(-image)) == (not skips)


@pytest.mark.parametrize("make", [lambda: UNetGenerator(3, 3, 5), lambda: ResNetGenerator(3, 3, 1)])
def test_initialization_is_the_papers(make):
    torch.manual_seed(0)
    generator = make()
    for name, parameter in generator.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif parameter.ndim == 4 and parameter.numel() > 10_000:
            # Facts 3.6: N(0, 0.02); normalizations N(1, 0.02).
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.03)
        elif parameter.ndim == 1:
            assert float(parameter.detach().mean()) == pytest.approx(1, abs=0.02)
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.4)


def test_resnet_generator_has_reflection_padding_and_residual_blocks():
    generator = ResNetGenerator(3, 3, 2, dropout=0.0).eval()
    pads = [layer.padding for layer in generator.modules() if isinstance(layer, nn.ReflectionPad2d)]
    # Facts 3.6: reflect 3 around the 7x7, reflect 1 in the blocks.
    assert pads == [(3,) * 4, *[(1,) * 4] * 4, (3,) * 4]
    block = generator.body[10]
    with torch.no_grad():
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
        maps = images(1, 256, 4, 4) - 0.5  # no ReLU follows the sum
        assert torch.equal(block(maps), maps)


# --- any size and number of channels -----------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORM_MODES)
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_support_any_size_and_channels_and_a_batch_of_one(name, norm):
    with torch.device("meta"):
        for channels, size in ((1, ODD[0]), (14, ODD[2])):
            network = create_generator(name, channels, 3, norm)
            output = network.train()(torch.empty(1, channels, *size))
            assert output.shape == (1, 3, *size) and output.dtype == torch.float32
            output.sum().backward()
            assert without_gradient(network) == []
            with torch.no_grad():
                assert run_padded(network.eval(), [torch.empty(1, channels, *size)]).shape == (1, 3, *size)


def test_image_of_the_minimum_size_is_not_padded():
    with torch.device("meta"), torch.no_grad():
        for name, size in (("unet256", 256), ("unet128", 128), ("resnet9", 8)):
            network, shapes = create_generator(name, 3, 3), []
            network.generator.register_forward_pre_hook(
                lambda module, inputs, shapes=shapes: shapes.append(inputs[0].shape)
            )
            network(torch.empty(1, 3, size, size))
            # Facts 3.6, trap: U-Net-256 on 128 pixels would collapse to 0x0.
            network(torch.empty(1, 3, size // 2, 2 * size))
            assert [tuple(shape[-2:]) for shape in shapes] == [(size, size), (size, 2 * size)]


def test_output_is_an_image_in_0_to_1_or_logits_of_labels():
    torch.manual_seed(0)
    source = images(2, 3, 37, 45)
    with torch.no_grad():
        for labels in (False, True):
            for network in (
                GeneratorTranslator(UNetGenerator(3, 2, 3, width=4), labels, "instance"),
                backbone_and_head("resnet20_cifar", out_channels=2, labels=labels, norm="instance"),
            ):
                predict = (
                    network.generator.predict if isinstance(network, GeneratorTranslator) else network.head.predict
                )
                assert predict.bias is not None
                predict.bias.fill_(3.0)
                output = network.eval()(source)
                linear = network.logits(functional.pad(source, (0, 3, 0, 3), "reflect"))[..., :37, :45]
                # tanh(3) mapped to [0, 1] is 0.9975; a logit stays 3.
                torch.testing.assert_close(output, linear if labels else (linear.tanh() + 1) / 2)
                assert float(output.mean()) == pytest.approx(3 if labels else 0.9975, rel=0.1)


def test_generator_input_is_from_minus_1_to_1():
    inputs: list[Tensor] = []
    network = GeneratorTranslator(UNetGenerator(1, 1, 2, width=2), False, "frozen-batch").eval()
    network.generator.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad():
        network(torch.tensor([0.0, 0.5, 1.0, 0.25]).expand(1, 1, 4, 4))
    assert inputs[0][0, 0, 0].tolist() == [-1.0, 0.0, 1.0, -0.5]


def test_input_policy_norm_and_stride():
    with torch.device("meta"):
        for norm in NORM_MODES:
            for network in (create_generator("resnet6", 3, 3, norm), backbone_and_head("resnet18", norm=norm)):
                assert network.input_policy == "whole" and network.norm == norm
                assert isinstance(network.stride, int)


# --- backbone and head ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backbone", "levels"), BACKBONES)
def test_every_backbone_with_the_unet_head_supports_odd_images(backbone, levels):
    with torch.device("meta"):
        network = backbone_and_head(backbone, in_channels=14, levels=levels)
        with torch.no_grad():
            for size in ODD[1:]:
                assert network.eval()(torch.empty(1, 14, *size)).shape == (1, 3, *size)
        output = network.train()(torch.empty(1, 14, *ODD[0]))
    assert output.shape == (1, 3, *ODD[0]) and output.dtype == torch.float32
    output.sum().backward()
    assert without_gradient(network) == []


@pytest.mark.parametrize("norm", NORM_MODES)
@pytest.mark.parametrize("head", list_heads())
def test_every_head_supports_a_batch_of_one_in_every_mode_or_refuses_it(head, norm):
    with torch.device("meta"):
        network = backbone_and_head("resnet18", head, norm, in_channels=1, levels=3)
        source = torch.empty(1, 1, *ODD[0])
        with torch.no_grad():
            assert network.eval()(source).shape == (1, 3, *ODD[0])
        if norm == "frozen-batch" and isinstance(network.head, SmpHead) and network.head.normalizes_images:
            with pytest.raises(UserError, match="2 or more"):
                network.train()(source)
            source = source.expand(2, -1, -1, -1)
        network.train()(source).sum().backward()
    assert without_gradient(network) == []
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) or norm != "instance"


def test_set_normalization_does_not_affect_heads_of_other_networks():
    with torch.device("meta"):
        network = backbone_and_head("resnet18", "upernet", "instance", levels=3)
        other = create_head("upernet", network.backbone.levels, 3)
    assert isinstance(network.head, SmpHead) and not network.head.normalizes_images
    assert isinstance(other, SmpHead) and other.normalizes_images


@pytest.mark.parametrize("norm", NORM_MODES)
@pytest.mark.parametrize("backbone", ["resnet20_cifar", "vgg11"])
def test_initial_gradients_of_backbone_and_head_are_finite(backbone, norm):
    torch.manual_seed(0)
    network = backbone_and_head(backbone, norm=norm, levels=3)
    source = images(1, 3, 33, 41)
    (network(source) - 0.2).abs().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert any(parameter.grad.abs().max() > 0 for parameter in network.backbone.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("norm", NORM_MODES)
def test_coarsest_level_has_dropout_in_mode_batch_only(norm):
    torch.manual_seed(0)
    network = backbone_and_head("resnet18", norm=norm, levels=3).eval()
    source, inputs = images(1, 3, 64, 64), []
    network.head.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))

    def predict(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            return network(source)

    assert torch.equal(predict(0), predict(0))
    assert torch.equal(predict(0), predict(1)) == (norm != "batch")
    first, other = inputs[-2], inputs[-1]
    changed = [not torch.equal(one, another) for one, another in zip(first, other, strict=True)]
    # The source, two finer levels, the coarsest.
    assert changed == [False, False, False, norm == "batch"]


def test_initial_output_is_gray():
    torch.manual_seed(0)
    network = backbone_and_head("resnet20_cifar", norm="instance", out_channels=3).eval()
    source = images(1, 3, 32, 32)
    with torch.no_grad():
        assert float((network(source).mean((0, 2, 3)) - 0.5).abs().max()) < 0.1


def test_smallest_image_has_2x2_cells_on_the_coarsest_level():
    with torch.device("meta"):
        backbones = [create_backbone(name, num_classes=0) for name in ("resnet18", "vgg11", "alexnet", "lenet5")]
    # The last two have unpadded convolutions: AlexNet's pool5 is 1x1 for 96 pixels, LeNet's C5 for 32.
    assert [min_input_size(backbone, backbone.levels[-1].stride) for backbone in backbones] == [64, 64, 128, 36]


def test_invalid_generator_options_are_refused():
    with pytest.raises(UserError, match="at least 2 downsamplings, not 1"):
        UNetGenerator(3, 3, 1)
    with pytest.raises(UserError, match="no dropout variant named 'prot'; did you mean 'port'"):
        UNetGenerator(3, 3, dropout="prot")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="no normalization mode named 'bacth'"):
        networks.resnet6(3, 3, "bacth")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("norm", NORM_MODES)
@pytest.mark.parametrize("name", ["unet128", "resnet6"])
def test_dropout_that_stays_on_is_reported_as_noise_at_inference(name, norm):
    networks = create_generator(name, 3, 3, norm), backbone_and_head("resnet20_cifar", norm=norm)
    image = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        for network in networks:
            random = not torch.equal(network.eval()(image), network(image))
            assert bool(network.inference_noise) == random
            assert not random or "--norm frozen-batch or instance" in network.inference_noise
