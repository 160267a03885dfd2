"""Generators to the parameter, any size of picture, and every trunk with a head as one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from densevision.backbones import create_backbone, list_backbones
from densevision.catalogue import look_up
from densevision.errors import UserError
from densevision.tasks.heads import create_head, list_heads
from densevision.tasks.heads.smp import SmpHead
from densevision.tasks.inference import run_padded
from densevision.tasks.translation import networks
from densevision.tasks.translation.networks import TrunkTranslator, WholeTranslator, levels_seen, smallest_side
from densevision.tasks.translation.normalization import RULES, Noise
from densevision.tasks.translation.resnet_generator import ResNetGenerator
from densevision.tasks.translation.unet import UNetGenerator

WHOLE = ("unet256", "unet128", "resnet9", "resnet6")
ODD = ((127, 161), (33, 70), (5, 3), (1, 1))

LIGHT: dict[str, int | None] = {
    "lenet5": None, "alexnet": None, "vgg11": None, "googlenet": None, "resnet18": None, "resnet20_cifar": None,
    "preact110_cifar": 1, "inception_v4": 2, "inception_resnet_v2": 2,
}  # fmt: skip
"""One trunk of each family, and how many of its levels are tried usually. All levels of all trunks are slow."""
TRUNKS = [*LIGHT.items(), *(pytest.param(name, None, marks=pytest.mark.slow) for name in list_backbones())]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def whole(name: str, channels: int, answers: int, rule: str = "batch-stats", labels: bool = False) -> Any:
    return look_up("network", name, {name: f"tasks.translation.networks:{name}"})(channels, answers, rule, labels)


def trunk_and_head(
    trunk: str, head: str = "unet", rule: str = "batch-stats", channels: int = 3, answers: int = 3, **options: Any
) -> TrunkTranslator:
    labels = options.pop("labels", False)
    backbone = create_backbone(trunk, classes=0, in_channels=channels, **options)
    return TrunkTranslator(backbone, create_head(head, levels_seen(backbone), answers), rule, labels)  # type: ignore[arg-type]


def without_gradient(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.grad is None]


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


# --- parameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        # Facts 3.6, table of networks.
        (54_413_955, {}),
        (54_411_907, {"channels": 1}),
        (41_828_995, {"downs": 7}),
        (54_419_459, {"biased": True}),
        (39_075_459, {"skips": False}),
        # Biased, without the scale and shift of 2,432 channels on the way down and 2,496 on the way up.
        (54_419_459 - 2 * (2_432 + 2_496), {"norm": "instance"}),
    ],
)
def test_every_form_of_the_unet_has_the_known_number_of_parameters(parameters, options):
    with torch.device("meta"):
        assert count(UNetGenerator(**{"channels": 3, "answers": 3, **options})) == parameters


@pytest.mark.parametrize(
    ("blocks", "norm", "parameters"),
    # Facts 3.6.
    [(9, "batch", 11_383_427), (6, "batch", 7_841_411), (9, "instance", 11_378_179), (6, "instance", 7_837_699)],
)
def test_every_form_of_the_resnet_generator_has_the_known_number_of_parameters(blocks, norm, parameters):
    with torch.device("meta"):
        assert count(ResNetGenerator(3, 3, blocks, norm)) == parameters


@pytest.mark.parametrize(
    ("name", "by_batches", "by_pictures"),
    [
        ("unet256", 54_413_955, 54_409_603),
        ("unet128", 41_828_995, None),
        ("resnet9", 11_383_427, 11_378_179),
        ("resnet6", 7_841_411, 7_837_699),
    ],
)
def test_a_rule_asks_for_the_form_that_the_papers_have_for_it(name, by_batches, by_pictures):
    with torch.device("meta"):
        assert count(whole(name, 3, 3, "batch-stats")) == count(whole(name, 3, 3, "frozen")) == by_batches
        settled = whole(name, 3, 3, "instance")
    assert by_pictures is None or count(settled) == by_pictures
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in settled.modules())


# --- the U-Net ---------------------------------------------------------------------------------------------------


def noisy(generator: UNetGenerator) -> list[int]:
    """Which doublings have a dropout, the deepest being the first."""
    return [
        place for place, up in enumerate(generator.ups, 1) if any(isinstance(layer, Noise) for layer in up.modules())
    ]


@pytest.mark.parametrize(
    ("downs", "dropout", "places"),
    # Facts 3.6, trap: Torch's after d1, d2, d3; the port's in the blocks of 1024 to 512, none in the innermost.
    [(8, "port", [2, 3, 4]), (8, "torch", [1, 2, 3]), (7, "port", [2, 3]), (7, "torch", [1, 2, 3])],
)
def test_dropout_lies_where_the_port_or_the_torch_code_has_it(downs, dropout, places):
    with torch.device("meta"):
        generator = UNetGenerator(3, 3, downs, dropout=dropout)
        assert noisy(generator) == places
        assert noisy(UNetGenerator(3, 3, downs)) == noisy(UNetGenerator(3, 3, downs, dropout="port"))
    if dropout == "port":
        for place in places:
            convolution = generator.ups[place - 1][0]  # type: ignore[index]
            assert (convolution.in_channels, convolution.out_channels) == (1024, 512)


def test_a_picture_of_256_passes_the_sizes_of_the_table_down_to_a_single_place_that_is_not_normalised():
    with torch.device("meta"), torch.no_grad():
        generator = UNetGenerator(3, 3)
        seen: list[tuple[int, ...]] = []
        for layer in (*generator.downs, *generator.ups):
            layer.register_forward_hook(lambda module, given, made: seen.append(tuple(made.shape[1:])) and None)
        assert generator(torch.empty(1, 3, 256, 256)).shape == (1, 3, 256, 256)
    sides = [128, 64, 32, 16, 8, 4, 2, 1, 2, 4, 8, 16, 32, 64, 128]
    widths = [64, 128, 256, 512, 512, 512, 512, 512, 512, 512, 512, 512, 256, 128, 64]
    assert seen == [(width, side, side) for width, side in zip(widths, sides, strict=True)]
    normalised = [sum(isinstance(layer, nn.BatchNorm2d) for layer in block.modules()) for block in generator.downs]
    assert normalised == [0, 1, 1, 1, 1, 1, 1, 0]


def ported(generator: UNetGenerator, picture: Tensor, in_place: bool) -> Tensor:
    """The port's nested blocks, whose leaky ReLU overwrites the skip, or the Torch code's graph, whose skip is raw."""

    def block(level: int, x: Tensor) -> Tensor:
        y = generator.downs[level](functional.leaky_relu_(x, 0.2) if in_place else functional.leaky_relu(x, 0.2))
        if level + 1 < len(generator.downs):
            y = block(level + 1, y)
        return torch.cat((x, generator.ups[len(generator.ups) - level](functional.relu(y))), dim=1)

    return generator.predict(functional.relu(block(1, generator.downs[0](picture))))


@pytest.mark.parametrize("in_place", [True, False])
def test_the_unet_answers_as_the_ports_nested_blocks_and_as_the_torch_codes_graph(in_place):
    torch.manual_seed(0)
    generator = UNetGenerator(3, 2, 5, width=4).eval()
    picture = 2 * pictures(2, 3, 64, 32) - 1
    with torch.no_grad():
        torch.testing.assert_close(generator(picture), ported(generator, picture, in_place))


def test_no_map_is_overwritten_after_a_layer_made_it():
    # Facts 3.6, trap: an in-place leaky ReLU changes the skip tensor.
    torch.manual_seed(0)
    generator = UNetGenerator(3, 3, 4, width=4)
    kept: list[tuple[Tensor, Tensor]] = []
    for layer in (*generator.downs, *generator.ups):
        layer.register_forward_hook(lambda module, given, made: kept.append((made, made.detach().clone())) and None)
    picture = 2 * pictures(2, 3, 32, 32) - 1
    before = picture.clone()
    generator(picture)
    assert torch.equal(picture, before) and len(kept) == 7
    assert all(torch.equal(made, copy) for made, copy in kept)


def test_without_skips_nothing_passes_beside_the_deepest_map():
    torch.manual_seed(0)
    picture = 2 * pictures(1, 3, 32, 32) - 1
    for skips in (True, False):
        generator = UNetGenerator(3, 3, 4, skips=skips, width=4).eval()
        deepest = generator.downs[-1]
        deepest.register_forward_hook(lambda module, given, made: torch.zeros_like(made))  # type: ignore[arg-type]
        with torch.no_grad():
            assert torch.equal(generator(picture), generator(-picture)) == (not skips)


@pytest.mark.parametrize("make", [lambda: UNetGenerator(3, 3, 5), lambda: ResNetGenerator(3, 3, 1)])
def test_weights_start_as_in_the_paper(make):
    torch.manual_seed(0)
    generator = make()
    for name, parameter in generator.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif parameter.ndim == 4 and parameter.numel() > 10_000:
            # Facts 3.6: N(0, 0.02); normalisations N(1, 0.02).
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.03)
        elif parameter.ndim == 1:
            assert float(parameter.detach().mean()) == pytest.approx(1, abs=0.02)
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.4)


def test_the_resnet_generator_reflects_its_borders_and_adds_its_units_to_what_they_read():
    generator = ResNetGenerator(3, 3, 2, dropout=0.0).eval()
    pads = [layer.padding for layer in generator.modules() if isinstance(layer, nn.ReflectionPad2d)]
    # Facts 3.6: reflect 3 around the 7x7, reflect 1 in the units.
    assert pads == [(3,) * 4, *[(1,) * 4] * 4, (3,) * 4]
    unit = generator.body[10]
    with torch.no_grad():
        for layer in unit.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
        maps = pictures(1, 256, 4, 4) - 0.5  # no ReLU follows the sum
        assert torch.equal(unit(maps), maps)


# --- any size, whatever the channels -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", WHOLE)
def test_whole_networks_answer_at_any_size_for_any_channels_with_a_batch_of_one_in_training(name, rule):
    with torch.device("meta"):
        for channels, size in ((1, ODD[0]), (14, ODD[2])):
            network = whole(name, channels, 3, rule)
            made = network.train()(torch.empty(1, channels, *size))
            assert made.shape == (1, 3, *size) and made.dtype == torch.float32
            made.sum().backward()
            assert without_gradient(network) == []
            with torch.no_grad():
                assert run_padded(network.eval(), [torch.empty(1, channels, *size)]).shape == (1, 3, *size)


def test_a_picture_at_its_networks_least_size_is_not_padded():
    with torch.device("meta"), torch.no_grad():
        for name, side in (("unet256", 256), ("unet128", 128), ("resnet9", 8)):
            network, seen = whole(name, 3, 3), []
            network.generator.register_forward_pre_hook(lambda module, given, seen=seen: seen.append(given[0].shape))
            network(torch.empty(1, 3, side, side))
            # Facts 3.6, trap: U-Net-256 on 128 pixels would collapse to 0x0.
            network(torch.empty(1, 3, side // 2, 2 * side))
            assert [tuple(shape[-2:]) for shape in seen] == [(side, side), (side, 2 * side)]


def test_pictures_are_answered_in_0_to_1_and_labels_by_logits():
    torch.manual_seed(0)
    source = pictures(2, 3, 37, 45)
    with torch.no_grad():
        for labels in (False, True):
            for network in (
                WholeTranslator(UNetGenerator(3, 2, 3, width=4), labels, "instance"),
                trunk_and_head("resnet20_cifar", answers=2, labels=labels, rule="instance"),
            ):
                predict = network.generator.predict if isinstance(network, WholeTranslator) else network.head.predict
                assert predict.bias is not None
                predict.bias.fill_(3.0)
                answer = network.eval()(source)
                linear = network.raw(functional.pad(source, (0, 3, 0, 3), "reflect"))[..., :37, :45]
                # tanh(3) mapped to [0, 1] is 0.9975; a logit stays 3.
                torch.testing.assert_close(answer, linear if labels else (linear.tanh() + 1) / 2)
                assert float(answer.mean()) == pytest.approx(3 if labels else 0.9975, rel=0.1)


def test_generators_read_from_minus_1_to_1():
    seen: list[Tensor] = []
    network = WholeTranslator(UNetGenerator(1, 1, 2, width=2), False, "frozen").eval()
    network.generator.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        network(torch.tensor([0.0, 0.5, 1.0, 0.25]).expand(1, 1, 4, 4))
    assert seen[0][0, 0, 0].tolist() == [-1.0, 0.0, 1.0, -0.5]


def test_networks_say_that_tiles_are_not_the_whole_and_keep_their_rule():
    with torch.device("meta"):
        for rule in RULES:
            for network in (whole("resnet6", 3, 3, rule), trunk_and_head("resnet18", rule=rule)):
                assert network.takes == "whole" and network.rule == rule
                assert isinstance(network.stride, int)


# --- trunk and head ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trunk", "levels"), TRUNKS)
def test_every_trunk_with_the_unet_head_translates_odd_pictures_with_gradients_for_all(trunk, levels):
    with torch.device("meta"):
        network = trunk_and_head(trunk, channels=14, levels=levels)
        with torch.no_grad():
            for size in ODD[1:]:
                assert network.eval()(torch.empty(1, 14, *size)).shape == (1, 3, *size)
        made = network.train()(torch.empty(1, 14, *ODD[0]))
    assert made.shape == (1, 3, *ODD[0]) and made.dtype == torch.float32
    made.sum().backward()
    assert without_gradient(network) == []


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("head", list_heads())
def test_every_head_trains_and_answers_with_a_batch_of_one_under_every_rule_or_says_why_not(head, rule):
    with torch.device("meta"):
        network = trunk_and_head("resnet18", head, rule, channels=1, levels=3)
        source = torch.empty(1, 1, *ODD[0])
        with torch.no_grad():
            assert network.eval()(source).shape == (1, 3, *ODD[0])
        if rule == "frozen" and isinstance(network.head, SmpHead) and network.head.normalises_pictures:
            with pytest.raises(UserError, match="train it with a batch of 2 or more"):
                network.train()(source)
            source = source.expand(2, -1, -1, -1)
        network.train()(source).sum().backward()
    assert without_gradient(network) == []
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) or rule != "instance"


def test_a_head_of_another_network_still_minds_a_batch_of_one():
    with torch.device("meta"):
        settled = trunk_and_head("resnet18", "upernet", "instance", levels=3)
        other = create_head("upernet", settled.backbone.levels, 3)
    assert isinstance(settled.head, SmpHead) and not settled.head.normalises_pictures
    assert isinstance(other, SmpHead) and other.normalises_pictures


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("trunk", ["resnet20_cifar", "vgg11"])
def test_trunk_and_head_have_finite_gradients_from_the_first_step(trunk, rule):
    torch.manual_seed(0)
    network = trunk_and_head(trunk, rule=rule, levels=3)
    source = pictures(1, 3, 33, 41)
    (network(source) - 0.2).abs().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert any(parameter.grad.abs().max() > 0 for parameter in network.backbone.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("rule", RULES)
def test_a_trunk_has_noise_on_its_coarsest_level_under_batch_stats_alone(rule):
    torch.manual_seed(0)
    network = trunk_and_head("resnet18", rule=rule, levels=3).eval()
    source, read = pictures(1, 3, 64, 64), []
    network.head.register_forward_pre_hook(lambda module, given: read.append(given[0]))

    def asked(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            return network(source)

    assert torch.equal(asked(0), asked(0))
    assert torch.equal(asked(0), asked(1)) == (rule != "batch-stats")
    first, other = read[-2], read[-1]
    changed = [not torch.equal(one, another) for one, another in zip(first, other, strict=True)]
    # The source, two finer levels, the coarsest.
    assert changed == [False, False, False, rule == "batch-stats"]


def test_the_first_answer_is_grey_and_then_the_mean_it_was_started_at():
    torch.manual_seed(0)
    network = trunk_and_head("resnet20_cifar", rule="instance", answers=3).eval()
    source, mean = pictures(1, 3, 32, 32), torch.tensor([0.1, 0.5, 0.9])
    with torch.no_grad():
        assert float((network(source).mean((0, 2, 3)) - 0.5).abs().max()) < 0.1
        network.head.predict.weight.zero_()
        network.start_at(mean)
        torch.testing.assert_close(network(source), mean.view(1, 3, 1, 1).expand(1, 3, 32, 32))
        network.start_at(torch.tensor([0.0, 1.0, 1.0]))
        assert torch.isfinite(network(source)).all()
        network.goal_is_labels = True
        network.start_at(torch.tensor([0.2, 0.3, 0.5]))
        torch.testing.assert_close(network(source).softmax(1)[0, :, 0, 0], torch.tensor([0.2, 0.3, 0.5]))


def test_the_least_picture_has_two_units_a_side_on_the_coarsest_level():
    with torch.device("meta"):
        trunks = [create_backbone(name, classes=0) for name in ("resnet18", "vgg11", "alexnet", "lenet5")]
    # Those of 2012 and 1998 do not pad: of 96 pixels AlexNet's pool5 has a single unit, of 32 LeNet's C5.
    assert [smallest_side(trunk, trunk.levels[-1].stride) for trunk in trunks] == [64, 64, 128, 36]


def test_an_impossible_unet_is_refused():
    with pytest.raises(UserError, match="at least twice, not 1 times"):
        UNetGenerator(3, 3, 1)
    with pytest.raises(UserError, match="no place of the dropout named 'prot'; did you mean 'port'"):
        UNetGenerator(3, 3, dropout="prot")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="no rule of normalisation named 'batch'"):
        networks.resnet6(3, 3, "batch")  # pyright: ignore[reportArgumentType]
