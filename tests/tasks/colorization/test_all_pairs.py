"""Every head on trunks of every kind: colours of the picture's own size, gradients for all that is learned."""

from __future__ import annotations

import pytest
import torch

from densevision.backbones import create_backbone
from densevision.errors import UserError
from densevision.tasks.colorization.networks import STRIDE, ColourNetwork
from densevision.tasks.heads import list_heads

ODD = (127, 161)
# One of each file; tests/tasks/test_all_pairs.py has all of them with heads alone.
TRUNKS = ("lenet5", "alexnet", "vgg11", "googlenet", "resnet18", "preact110_cifar", "inception_v4")


@pytest.mark.parametrize("trunk", TRUNKS)
def test_every_head_colours_a_picture_of_odd_size_or_says_what_the_trunk_lacks(trunk: str) -> None:
    answered = []
    for head in list_heads():
        try:
            with torch.device("meta"):
                network = ColourNetwork(create_backbone(trunk, classes=0, in_channels=3), head)
                picture = torch.empty(2, 3, *ODD)
        except UserError as refusal:
            assert "build more of its levels or take the head 'unet'" in str(refusal)
            continue
        answered.append(head)
        with torch.no_grad():
            assert network(picture).shape == (2, 3, *ODD)
        network.raw(picture).sum().backward()
        learned = {name: parameter for name, parameter in network.head.named_parameters()}
        assert [name for name, parameter in learned.items() if parameter.grad is None] == []
        assert any(parameter.grad is not None for parameter in network.backbone.parameters())
    with torch.device("meta"):
        strides = {level.stride for level in create_backbone(trunk, classes=0).levels}
    coarse = [stride for stride in strides if stride >= STRIDE]
    assert answered == list_heads() if len(coarse) >= 3 else "unet" in answered
