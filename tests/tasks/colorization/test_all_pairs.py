"""Every head on backbones of every kind: colors of the image's own size, gradients for all that is learned."""

from __future__ import annotations

import pytest
import torch

from densevision.backbones import create_backbone
from densevision.errors import UserError
from densevision.tasks.colorization.networks import STRIDE, ColorizationNetwork
from densevision.tasks.heads import list_heads

ODD = (127, 161)
# One of each file; tests/tasks/test_all_pairs.py has all of them with heads alone.
BACKBONES = ("lenet5", "alexnet", "vgg11", "googlenet", "resnet18")
HEAVY_BACKBONES = ("preact110_cifar", "inception_v4")


@pytest.mark.parametrize(
    "backbone", [*BACKBONES, *(pytest.param(name, marks=pytest.mark.slow) for name in HEAVY_BACKBONES)]
)
def test_every_head_colors_an_image_of_odd_size_or_says_what_the_backbone_lacks(backbone: str) -> None:
    predicted = []
    for head in list_heads():
        try:
            with torch.device("meta"):
                network = ColorizationNetwork(create_backbone(backbone, num_classes=0, in_channels=3), head)
                image = torch.empty(2, 3, *ODD)
        except UserError as refusal:
            assert "build more of its levels or use the head 'unet'" in str(refusal)
            continue
        predicted.append(head)
        with torch.no_grad():
            assert network(image).shape == (2, 3, *ODD)
        network.logits(image).sum().backward()
        learned = {name: parameter for name, parameter in network.head.named_parameters()}
        assert [name for name, parameter in learned.items() if parameter.grad is None] == []
        assert any(parameter.grad is not None for parameter in network.backbone.parameters())
    with torch.device("meta"):
        strides = {level.stride for level in create_backbone(backbone, num_classes=0).levels}
    coarse = [stride for stride in strides if stride >= STRIDE]
    assert predicted == list_heads() if len(coarse) >= 3 else "unet" in predicted
