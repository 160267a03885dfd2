"""Every trunk for two pictures, in both forms: exact sizes at odd sizes, gradients for all that the answer needs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone, list_backbones
from densevision.backbones.backbone import Level
from densevision.datasets.fields import Flow as FlowKind
from densevision.datasets.fields import Image, Kind
from densevision.errors import UserError
from densevision.tasks.flow import Flow, networks
from densevision.tasks.flow.network import FlowNetwork
from densevision.tasks.flow.networks import (
    CorrelatedFlow,
    StackedFlow,
    WarpingFlow,
    compared_levels,
    compared_places,
    features_of_both,
)
from densevision.tasks.flow.warping import CELLS, COARSEST
from densevision.tasks.heads import list_heads
from densevision.tasks.inference import run_padded

FIELDS: dict[str, Kind] = {"first": Image(), "second": Image(frame=1), "flow": FlowKind()}
ODD, SMALL = (127, 161), (81, 107)
FORMS = (("shared", "warping"), ("shared", "unet"), ("stacked", "unet"))

# Other trunks of their files have the same levels and fewer layers; preact110_cifar is tried with numbers.
DEEPEST = (
    "plain56_cifar", "preact1001_cifar", "preact110_cifar", "preact164_cifar", "preact200", "resnet101",
    "resnet110_cifar", "resnet1202_cifar", "resnet152", "resnet44_cifar", "resnet56_cifar",
)  # fmt: skip
TRUNKS = [pytest.param(name, marks=pytest.mark.slow) if name in DEEPEST else name for name in list_backbones()]

LIGHT: dict[str, int | None] = {
    "lenet5": None, "alexnet": None, "vgg11": 5, "googlenet": None, "resnet18": 4, "resnet20_cifar": None,
    "preact110_cifar": 2, "inception_v4": 3, "inception_resnet_v2": 3,
}  # fmt: skip
"""One trunk of each family, and how many of its levels are tried with numbers."""


def network_of(trunk: str, form: str, head: str, levels: int | None = None) -> Any:
    task = Flow(form=form)  # type: ignore[arg-type]
    backbone = create_backbone(trunk, classes=0, in_channels=task.channels(FIELDS), levels=levels)
    return task.build(FIELDS, backbone, head, None)


def on_meta(trunk: str, form: str, head: str) -> tuple[Any, list[Tensor]]:
    with torch.device("meta"):
        return network_of(trunk, form, head), [torch.empty(2, 3, *ODD) for _ in range(2)]


def without_gradient(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.grad is None}


def pair(height: int, width: int, seed: int = 0) -> list[Tensor]:
    return list(torch.rand(2, 2, 3, height, width, generator=torch.Generator().manual_seed(seed)))


# --- all pairs, without numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form, head", FORMS)
@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_pair_of_odd_size_is_answered_at_its_size_with_gradients_for_every_parameter(trunk, form, head):
    network, pictures = on_meta(trunk, form, head)
    made = run_padded(network, pictures)
    assert made.shape == (2, 2, *ODD) and made.dtype == torch.float32
    made.sum().backward()
    assert without_gradient(network) == set()


@pytest.mark.parametrize("head", list_heads())
@pytest.mark.parametrize("form", ["shared", "stacked"])
def test_every_head_answers_two_pictures_and_compares_only_what_it_reads(form, head):
    network, pictures = on_meta("resnet18", form, head)
    (made,) = network.pyramid(*pictures)
    assert made.shape == (2, 2, *ODD)
    made.sum().backward()
    assert without_gradient(network) == set()
    with torch.no_grad():
        assert run_padded(network, pictures).shape == (2, 2, *ODD)
    if form == "shared":
        assert len(network.match) > 0


# --- with numbers, one light trunk a family ---------------------------------------------------------------------


@pytest.mark.parametrize("form, head", FORMS)
@pytest.mark.parametrize("trunk", LIGHT)
def test_training_may_begin_at_an_odd_size_with_little_motion_and_finite_gradients(trunk, form, head):
    torch.manual_seed(0)
    network = network_of(trunk, form, head, LIGHT[trunk])
    pyramid = network.pyramid(*pair(*SMALL))
    if head == "warping":
        heights = [each.shape[-2] for each in pyramid]
        assert len(pyramid) == len(network.head.strides) and heights == sorted(set(heights))
    else:
        assert [tuple(each.shape) for each in pyramid] == [(2, 2, *SMALL)]
    # Of two pictures that have nothing in common; a last layer of he_fan_in would answer several cells.
    for each in pyramid:
        assert torch.isfinite(each).all()
        assert float(each.detach().norm(dim=1).mean()) < COARSEST / 2
    torch.stack([each.square().sum() for each in pyramid]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())
    assert any(gradient.abs().max() > 0 for name, gradient in gradients.items() if name.startswith("backbone"))


@pytest.mark.parametrize("form, head", FORMS)
def test_a_pair_is_answered_alike_alone_and_in_a_batch(form, head):
    network = network_of("resnet18", form, head, 3).eval()
    first, second = pair(64, 96)
    with torch.no_grad():
        together, alone = network(first, second), network(first[1:], second[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form, head", FORMS)
def test_the_answer_is_the_finest_of_the_pyramid_and_the_network_is_run_whole(form, head):
    network = network_of("resnet18", form, head, 3).eval()
    with torch.no_grad():
        made, pyramid = network(*pair(64, 96)), network.pyramid(*pair(64, 96))
    assert isinstance(network, FlowNetwork) and network.takes == "whole"
    assert network.stride == {"warping": COARSEST, "unet": 8}[head]
    assert torch.equal(made, pyramid[-1])
    areas = [each.shape[-1] * each.shape[-2] for each in pyramid]
    assert areas == sorted(areas) and all(each.dtype == torch.float32 for each in pyramid)


def test_both_pictures_go_through_one_trunk_and_its_preprocessing():
    network = network_of("resnet18", "shared", "unet", 3).eval()
    first, second = pair(64, 96)
    trunk = network.backbone
    with torch.no_grad():
        ours, theirs = features_of_both(trunk, first, second)
        for levels, picture in ((ours, first), (theirs, second)):
            for made, expected in zip(levels, trunk.features(trunk.preprocessing(picture)), strict=True):
                torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-4)


def test_stacked_pictures_are_one_of_six_channels_the_first_in_front_each_normalised_as_one_alone():
    network = network_of("resnet18", "stacked", "unet", 3).eval()
    assert isinstance(network, StackedFlow) and network.backbone.in_channels == 6
    seen: list[Tensor] = []
    plain = network.backbone.features
    network.backbone.features = lambda image: seen.append(image) or plain(image)
    first, second = pair(64, 96)
    network(first, second)
    alone = create_backbone("resnet18", classes=0, levels=1).preprocessing
    torch.testing.assert_close(seen[0], torch.cat([alone(first), alone(second)], dim=1))


def test_a_head_sees_each_compared_level_beside_its_correlation_with_the_second_pictures():
    network = network_of("resnet18", "shared", "unet", 4).eval()
    assert isinstance(network, CorrelatedFlow)
    seen: list[list[Tensor]] = []
    network.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    first, _ = pair(64, 96)
    with torch.no_grad():
        network(first, first.clone())
        levels = network.backbone.features(network.backbone.preprocessing(first))
    # Strides 2, 4, 8 and 16: the last two are compared. Channels first as they are, then one per displacement.
    for place, (met, level) in enumerate(zip(seen[0], levels, strict=True)):
        torch.testing.assert_close(met[:, : level.shape[1]], level, rtol=1e-4, atol=1e-4)
        assert met.shape[1] == level.shape[1] + (CELLS if place >= 2 else 0)
    for met in seen[0][2:]:
        costs = met[:, -CELLS:]
        # The same picture twice: every cell is most like itself, with Pearson's 1.
        assert (costs.argmax(1) == CELLS // 2).float().mean() > 0.99
        torch.testing.assert_close(costs[:, CELLS // 2], torch.ones_like(costs[:, 0]), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("strides", "compared"),
    [
        ((2, 4, 8, 16, 32), [2, 3, 4]),
        ((1, 2, 4), [2]),  # CIFAR's trunks end before stride 8: their last level
        ((1, 2, 4, 8, 8, 16), [4, 5]),  # of several levels of one stride the deepest
        ((1,), [0]),
        ((16,), [0]),
    ],
)
def test_levels_are_compared_from_stride_8_on_or_the_last_one(strides, compared):
    levels = tuple(Level(f"level{place}", stride, 10 + place) for place, stride in enumerate(strides))
    assert compared_places(levels) == compared
    for place, (level, met) in enumerate(zip(levels, compared_levels(levels), strict=True)):
        assert (met.name, met.stride) == (level.name, level.stride)
        assert met.channels == level.channels + (CELLS if place in compared else 0)


@pytest.mark.parametrize("form", ["shared", "stacked"])
def test_a_heads_answer_is_in_cells_of_the_coarsest_level(form):
    network = network_of("resnet18", form, "unet", 3)
    nn.init.zeros_(network.head.predict.weight)
    with torch.no_grad():
        network.head.predict.bias.copy_(torch.tensor([1.0, -0.5]))
        made = network(*pair(40, 56))
    # Strides 2, 4 and 8.
    torch.testing.assert_close(made, torch.tensor([8.0, -4]).view(1, 2, 1, 1).expand(2, 2, 40, 56))


def test_the_two_forms_and_the_heads_decide_which_network_is_built():
    kinds = {pair: type(network_of("resnet20_cifar", *pair)) for pair in FORMS}
    assert list(kinds.values()) == [WarpingFlow, CorrelatedFlow, StackedFlow]


def test_warping_needs_two_sets_of_maps_and_says_so():
    with pytest.raises(UserError, match="'warping' compares two sets of maps, and --form stacked has one: add --head"):
        network_of("resnet20_cifar", "stacked", "warping")


def test_the_smallest_pictures_are_answered():
    for form, head in FORMS:
        network = network_of("resnet18", form, head, 3).eval()
        with torch.no_grad():
            made = run_padded(network, [picture[:1] for picture in pair(3, 5)])
        assert made.shape == (1, 2, 3, 5) and torch.isfinite(made).all()


def test_comparing_leaves_the_trunks_maps_as_they_are():
    # No head may change what `features` returned: the levels are compared and joined in new tensors.
    network = network_of("resnet20_cifar", "shared", "unet")
    kept: list[list[Tensor]] = []
    plain = networks.features_of_both

    def remember(*inputs: Any) -> tuple[list[Tensor], list[Tensor]]:
        ours, theirs = plain(*inputs)
        kept.append([*ours, *theirs])
        kept.append([level.detach().clone() for level in (*ours, *theirs)])
        return ours, theirs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "features_of_both", remember)
        network(*pair(32, 48))
    assert len(kept) == 2 and all(torch.equal(now, before) for now, before in zip(*kept, strict=True))
