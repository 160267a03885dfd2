"""Gradient checkpointing: the same outputs, gradients and statistics, from fewer tensors kept."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone, list_backbones
from densevision.backbones.backbone import Backbone
from densevision.backbones.gradient_checkpointing import checkpoint_gradients
from densevision.errors import UserError

WITHOUT_BLOCKS = {"lenet5", "alexnet", "alexnet_tv"}
NAMES = sorted(name for name in list_backbones() if not re.search(r"\d{3}|v2", name))
"""All but the deepest, whose blocks are those of others."""


def kept_bytes(backbone: Backbone, image: Tensor) -> tuple[list[Tensor], int]:
    """The levels, and the bytes of the tensors kept for the backward pass besides parameters and buffers."""
    owned = {tensor.untyped_storage().data_ptr() for tensor in (*backbone.parameters(), *backbone.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        levels = backbone.features(image)
    return levels, sum(each.untyped_storage().nbytes() for address, each in kept.items() if address not in owned)


@pytest.mark.parametrize(
    ("name", "size", "frozen"),
    [
        ("resnet20_cifar", 32, False),
        ("resnet20_cifar", 32, True),
        ("vgg11_bn", 32, False),
        pytest.param("preact18_cifar", 32, False, marks=pytest.mark.slow),
        pytest.param("googlenet_tv", 64, False, marks=pytest.mark.slow),
        pytest.param("timm:efficientnet_lite0", 64, False, marks=pytest.mark.slow),
    ],
)
def test_gradients_and_statistics_are_those_without_it(name, size, frozen):
    torch.manual_seed(0)
    # In float64: gradients are added in another order.
    plain = create_backbone(name, num_classes=0).double().train()
    if frozen:
        for module in plain.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    saving = copy.deepcopy(plain)
    checkpoint_gradients(saving)
    image, results = torch.rand(2, 3, size, size, dtype=torch.float64), []
    for backbone in (plain, saving):
        # Dropout and drop path take the same random numbers again.
        torch.manual_seed(1)
        levels, kept = kept_bytes(backbone, image)
        torch.stack([level.square().mean() for level in levels]).sum().backward()
        results.append((levels, kept, {key: one.grad for key, one in backbone.named_parameters()}))
    (levels, most, gradients), (same_levels, less, same_gradients) = results
    torch.testing.assert_close(levels, same_levels, rtol=0, atol=0)
    torch.testing.assert_close(gradients, same_gradients, rtol=1e-9, atol=1e-12)
    assert less < 0.7 * most
    for key, buffer in plain.named_buffers():
        assert torch.equal(buffer, saving.get_buffer(key)), key


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_has_blocks_or_says_that_it_has_none(name):
    with torch.device("meta"):
        backbone = create_backbone(name, num_classes=0)
    if name in WITHOUT_BLOCKS:
        with pytest.raises(UserError, match=f"{name} has no blocks"):
            checkpoint_gradients(backbone)
    else:
        checkpoint_gradients(backbone)


def test_a_copy_recomputes_its_own_blocks():
    backbone = create_backbone("resnet20_cifar", num_classes=0)
    checkpoint_gradients(backbone)
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    image = torch.rand(1, 3, 32, 32)
    assert not other.eval().features(image)[-1].any() and backbone.eval().features(image)[-1].any()
