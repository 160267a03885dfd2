"""Every trunk with every head, on the meta device: sizes, and that a gradient exists for every parameter."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import Backbone, create_backbone, list_backbones
from densevision.errors import UserError
from densevision.tasks.heads import create_head, list_heads

# One that divides by 32, then odd ones; all are large enough for every trunk.
SIZES = ((128, 160), (127, 161), (131, 99), (97, 143), (105, 105))

# 1202 layers take as long as all the others together, and are those of resnet110_cifar; 1001 those of preact164_cifar.
DEEPEST = ("resnet1202_cifar", "preact1001_cifar")
TRUNKS = [pytest.param(name, marks=pytest.mark.slow) if name in DEEPEST else name for name in list_backbones()]

ONE_OF_EACH_FILE = (
    "lenet5", "alexnet", "alexnet_tv", "vgg11", "googlenet", "resnet18", "resnet20_cifar", "preact110_cifar",
    "preact152", "inception_v4", "inception_resnet_v2",
)  # fmt: skip


@cache
def on_meta(name: str) -> tuple[Backbone, list[list[Tensor]]]:
    """A trunk and its levels at every size. Tests of one trunk share them."""
    with torch.device("meta"):
        trunk = create_backbone(name, classes=0)
        pictures = [torch.empty(2, trunk.in_channels, *size) for size in SIZES]
    with torch.no_grad():
        return trunk, [trunk.features(picture) for picture in pictures]


def without_gradient(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("head", list_heads())
@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_head_answers_at_the_pictures_size_and_hands_gradients_to_all_it_holds_and_to_the_trunk(trunk, head):
    backbone, features_by_size = on_meta(trunk)
    with torch.device("meta"):
        decoder = create_head(head, backbone.levels, 3)
    with torch.no_grad():
        for size, features in zip(SIZES, features_by_size, strict=True):
            assert decoder(features, size).shape == (2, 3, *size)
    leaves = [level.detach().requires_grad_() for level in features_by_size[1]]
    decoder(leaves, SIZES[1]).sum().backward()
    assert without_gradient(decoder) == []
    assert leaves[-1].grad is not None


@pytest.mark.parametrize("trunk", TRUNKS)
def test_the_coarsest_level_hands_gradients_to_every_parameter_of_its_trunk(trunk):
    backbone, _ = on_meta(trunk)
    with torch.device("meta"):
        picture = torch.empty(2, backbone.in_channels, *SIZES[1])
    backbone.zero_grad(set_to_none=True)
    backbone.features(picture)[-1].sum().backward()
    assert without_gradient(backbone) == []


@pytest.mark.parametrize("trunk", ONE_OF_EACH_FILE)
def test_heads_meet_trunks_that_are_cut_short_or_say_what_these_lack(trunk):
    for count in range(1, len(on_meta(trunk)[0].levels)):
        with torch.device("meta"):
            cut = create_backbone(trunk, classes=0, levels=count)
            picture = torch.empty(2, cut.in_channels, *SIZES[1])
        with torch.no_grad():
            features = cut.features(picture)
        for head in list_heads():
            try:
                with torch.device("meta"):
                    decoder = create_head(head, cut.levels, 3)
            except UserError as refusal:
                assert len({level.stride for level in cut.levels}) < 3, head
                assert "build more of its levels or take the head 'unet'" in str(refusal)
                continue
            leaves = [level.detach().requires_grad_() for level in features]
            made = decoder(leaves, SIZES[1])
            assert made.shape == (2, 3, *SIZES[1])
            made.sum().backward()
            assert without_gradient(decoder) == []
            assert leaves[-1].grad is not None
