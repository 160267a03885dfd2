"""Plain CIFAR networks beside the residual ones of He et al. 2015, section 4.2. Counts: facts 1.4."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from densevision.backbones import create_backbone
from densevision.backbones.conformance import check_backbone
from densevision.backbones.resnet import BasicBlock
from densevision.errors import UserError


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("name", "expected"), [("plain20_cifar", 269_722), ("plain56_cifar", 853_018)])
def test_plain_networks_have_the_parameters_of_the_residual_ones(name: str, expected: int) -> None:
    with torch.device("meta"):
        plain, residual = create_backbone(name), create_backbone(name.replace("plain", "resnet"))
    assert count(plain) == count(residual) == expected
    assert list(plain.state_dict()) == list(residual.state_dict())


def test_a_residual_network_is_the_plain_one_plus_its_shortcuts() -> None:
    torch.manual_seed(0)
    plain, residual = create_backbone("plain20_cifar"), create_backbone("resnet20_cifar")
    residual.load_state_dict(plain.state_dict())
    unit, beside = plain.get_submodule("stage1.1"), residual.get_submodule("stage1.1")
    assert isinstance(unit, BasicBlock)
    # A residual of zero: the identity in one, nothing in the other.
    for each in (unit, beside):
        nn.init.zeros_(each.get_parameter("bn2.weight"))
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(beside(x), x)
    assert not unit(x).any()


def test_without_normalization_every_convolution_has_a_bias() -> None:
    with torch.device("meta"):
        for name, expected in (("plain20_cifar", 269_034), ("resnet20_cifar", 269_034)):
            # facts 1.4: 269,722, of which 2 x 688 in normalizations; 688 biases in their place.
            bare = create_backbone(name, norm=False)
            assert count(bare) == expected
            assert not any(isinstance(module, nn.BatchNorm2d) for module in bare.modules())
            assert all(module.bias is not None for module in bare.modules() if isinstance(module, nn.Conv2d))
            assert bare.options["norm"] is False
        projected = create_backbone("resnet20_cifar", norm=False, shortcut="B")
        assert not any(isinstance(module, nn.BatchNorm2d) for module in projected.modules())


def test_what_a_plain_network_passes_on_depends_on_its_initialization() -> None:
    deviation = {}
    for init in ("he_fan_in", "gaussian"):
        torch.manual_seed(0)
        backbone = create_backbone("plain20_cifar", norm=False, init=init)
        with torch.no_grad():
            deviation[init] = float(backbone.features(torch.randn(4, 3, 32, 32))[-1].std())
    assert 0.1 < deviation["he_fan_in"] < 10
    assert deviation["gaussian"] < 1e-10  # facts 2.1: a standard deviation of 0.01 shrinks a 3x3 layer to 3 % or less


def test_a_plain_network_has_no_shortcut_to_choose() -> None:
    with pytest.raises(UserError, match="plain and has no shortcut"):
        create_backbone("plain20_cifar", shortcut="A")
    assert create_backbone("resnet20_cifar").options == {"shortcut": "A", "norm": True}


@pytest.mark.parametrize("name", ["plain20_cifar", "resnet20_cifar"])
def test_networks_without_normalization_keep_the_contract(name: str) -> None:
    check_backbone(create_backbone(name, num_classes=0, norm=False), ((32, 32), (33, 40)))
