"""Every backbone with every head on the meta device: output sizes, and a gradient for every parameter."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import Backbone, create_backbone, list_backbones
from densevision.errors import UserError
from densevision.tasks.heads import create_head, list_heads

from ..every_backbone import DEEPEST, EVERY_BACKBONE

# A multiple of 32, then odd ones; all are large enough for every backbone.
SIZES = ((128, 160), (127, 161), (131, 99), (97, 143), (105, 105))

ONE_OF_EACH_FILE = (
    "lenet5", "alexnet", "alexnet_tv", "vgg11", "googlenet", "resnet18", "resnet20_cifar", "preact110_cifar",
    "preact152", "inception_v4", "inception_resnet_v2",
)  # fmt: skip


def sizes_for(name: str) -> tuple[tuple[int, int], ...]:
    """The others of a file have the strides of the first: two sizes are enough for them."""
    return SIZES if name in ONE_OF_EACH_FILE else SIZES[:2]


@cache
def on_meta(name: str) -> tuple[Backbone, list[list[Tensor]]]:
    """A backbone and its levels at every size, shared by the tests of one backbone."""
    with torch.device("meta"):
        backbone = create_backbone(name, num_classes=0)
        images = [torch.empty(2, backbone.in_channels, *size) for size in sizes_for(name)]
    with torch.no_grad():
        return backbone, [backbone.features(image) for image in images]


def without_gradient(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.grad is None]


def pairs() -> list[Any]:
    """Every backbone with every head; by default, the others of a file with one head each."""
    every = []
    for number, name in enumerate(list_backbones()):
        for place, head in enumerate(list_heads()):
            quick = name in ONE_OF_EACH_FILE or number % len(list_heads()) == place
            slow = name in DEEPEST or not quick
            every.append(pytest.param(name, head, marks=pytest.mark.slow if slow else ()))
    return every


@pytest.mark.parametrize(("backbone", "head"), pairs())
def test_a_head_has_the_image_size_and_gradients_everywhere(backbone, head):
    encoder, features_by_size = on_meta(backbone)
    with torch.device("meta"):
        decoder = create_head(head, encoder.levels, 3)
    with torch.no_grad():
        for size, features in zip(sizes_for(backbone), features_by_size, strict=True):
            assert decoder(features, size).shape == (2, 3, *size)
    leaves = [level.detach().requires_grad_() for level in features_by_size[1]]
    decoder(leaves, SIZES[1]).sum().backward()
    assert without_gradient(decoder) == []
    assert leaves[-1].grad is not None


@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_the_coarsest_level_has_gradients_for_its_backbone(backbone):
    encoder, _ = on_meta(backbone)
    with torch.device("meta"):
        image = torch.empty(2, encoder.in_channels, *SIZES[1])
    encoder.zero_grad(set_to_none=True)
    encoder.features(image)[-1].sum().backward()
    assert without_gradient(encoder) == []


@pytest.mark.parametrize(
    "backbone", [pytest.param(name, marks=pytest.mark.slow) if name in DEEPEST else name for name in ONE_OF_EACH_FILE]
)
def test_heads_on_fewer_levels_work_or_are_refused(backbone):
    for count in range(1, len(on_meta(backbone)[0].levels)):
        with torch.device("meta"):
            shallow = create_backbone(backbone, num_classes=0, levels=count)
            image = torch.empty(2, shallow.in_channels, *SIZES[1])
        with torch.no_grad():
            features = shallow.features(image)
        for head in list_heads():
            try:
                with torch.device("meta"):
                    decoder = create_head(head, shallow.levels, 3)
            except UserError as refusal:
                assert len({level.stride for level in shallow.levels}) < 3, head
                assert "build more of its levels or use the head 'unet'" in str(refusal)
                continue
            leaves = [level.detach().requires_grad_() for level in features]
            output = decoder(leaves, SIZES[1])
            assert output.shape == (2, 3, *SIZES[1])
            output.sum().backward()
            assert without_gradient(decoder) == []
            assert leaves[-1].grad is not None
