"""ResNets against He et al. 2015 and torchvision. Counts and fields: facts 1.4 and 1.5."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from densevision.backbones import create_backbone
from densevision.backbones.resnet import BasicBlock, Bottleneck
from densevision.backbones.state_dict_matching import load_weights, published_state
from densevision.errors import UserError

# facts 1.4: with classifier, without, batch normalizations.
COUNTS = {
    "resnet18": (11_689_512, 11_176_512, 20),
    "resnet34": (21_797_672, 21_284_672, 36),
    "resnet50": (25_557_032, 23_508_032, 53),
    "resnet101": (44_549_160, 42_500_160, 104),
    "resnet152": (60_192_808, 58_143_808, 155),
}
# facts 1.4: option A, option B, option A with 100 classes.
CIFAR_COUNTS = {
    "resnet20_cifar": (269_722, 272_474, 275_572),
    "resnet32_cifar": (464_154, 466_906, 470_004),
    "resnet44_cifar": (658_586, 661_338, 664_436),
    "resnet56_cifar": (853_018, 855_770, 858_868),
    "resnet110_cifar": (1_727_962, 1_730_714, 1_733_812),
    "resnet1202_cifar": (19_421_274, 19_424_026, 19_427_124),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_paper(name: str) -> None:
    with torch.device("meta"):
        whole, bare = create_backbone(name), create_backbone(name, num_classes=0)
    normalizations = sum(isinstance(module, nn.BatchNorm2d) for module in whole.modules())
    assert (count(whole), count(bare), normalizations) == COUNTS[name]  # trap 12: the projection's normalization


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name == "resnet1202_cifar" else name for name in CIFAR_COUNTS],
)
def test_cifar_parameters_are_those_of_the_paper_with_either_shortcut(name: str) -> None:
    with torch.device("meta"):  # trap 12: option A has no parameters
        a = create_backbone(name, num_classes=10)
        b = create_backbone(name, num_classes=10, shortcut="B")
        a100 = create_backbone(name, num_classes=100)
    assert (count(a), count(b), count(a100)) == CIFAR_COUNTS[name]


def test_the_stride_placements_have_the_same_parameters_and_are_other_functions() -> None:
    torch.manual_seed(0)
    first, second = create_backbone("resnet50", levels=3), create_backbone("resnet50", levels=3, stride_in="1x1")
    second.load_state_dict(first.state_dict())  # trap 11: nothing in the tensors tells them apart
    image = torch.randn(1, 3, 64, 64)
    a, b = first.eval().features(image), second.eval().features(image)
    assert torch.equal(a[1], b[1])
    assert a[2].shape == b[2].shape
    assert (a[2] - b[2]).abs().max() > 0.1
    assert first.options == {"stride_in": "3x3"}
    assert second.options == {"stride_in": "1x1"}


def test_basic_units_have_no_1x1_to_put_a_stride_in() -> None:
    create_backbone("resnet18", levels=1, stride_in="3x3")
    with pytest.raises(UserError, match="no 1x1 convolution"):
        create_backbone("resnet18", stride_in="1x1")
    with pytest.raises(UserError, match="'1x1' or '3x3'"):
        create_backbone("resnet50", stride_in="5x5")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_logits_and_gradients_are_torchvisions(name: str) -> None:
    torch.manual_seed(0)
    peer = getattr(torchvision.models, name)(num_classes=5)
    ours = create_backbone(name, num_classes=5)
    with pytest.warns(UserWarning, match="no metadata"):
        load_weights(ours, peer.state_dict())
    image, wanted = torch.randn(2, 3, 64, 64), torch.tensor([1, 3])
    for mode in (True, False):
        made, expected = ours.train(mode)(image), peer.train(mode)(image)
        assert (made - expected).abs().max() <= 1e-4
    ours.train()
    peer.train()
    for network in (ours, peer):
        nn.functional.cross_entropy(network(image), wanted).backward()
    theirs = dict(peer.named_parameters())
    for key, parameter in ours.named_parameters():
        gradient, expected = parameter.grad, theirs[key].grad
        assert gradient is not None
        assert expected is not None
        assert (gradient - expected).norm() <= 1e-3 * expected.norm() + 1e-6, key


def test_torchvision_loads_our_state() -> None:
    ours = create_backbone("resnet34", num_classes=7)
    torchvision.models.resnet34(num_classes=7).load_state_dict(published_state(ours), strict=True)


def test_no_relu_overwrites_what_a_hook_took_from_its_normalization() -> None:
    backbone = create_backbone("resnet18", levels=2)  # trap 13
    taken: list[Any] = []
    backbone.get_submodule("layer1.0.bn1").register_forward_hook(lambda _module, _inputs, output: taken.append(output))
    maps = backbone.features(torch.randn(1, 3, 32, 32))
    assert taken[0].min() < 0
    assert maps[0].min() >= 0


def test_the_stems_pool_pads_with_minus_infinity() -> None:
    backbone = create_backbone("resnet18", levels=1)  # trap 14
    pooled = backbone.get_submodule("maxpool")(torch.full((1, 1, 4, 4), -3.0))
    assert pooled.unique().tolist() == [-3.0]


def test_zeroed_residuals_make_every_unit_the_identity() -> None:
    backbone = create_backbone("resnet50", levels=2, zero_init_residual=True)
    units = [unit for unit in backbone.modules() if isinstance(unit, (BasicBlock, Bottleneck))]
    x = torch.rand(2, 256, 8, 8)
    assert torch.equal(units[1](x), x)


def test_zero_padded_shortcut_takes_every_second_pixel_and_adds_empty_channels() -> None:
    backbone = create_backbone("resnet20_cifar", num_classes=10)
    shortcut = backbone.get_submodule("stage2.0.downsample")
    x = torch.randn(1, 16, 7, 8)
    made = shortcut(x)
    assert made.shape == (1, 32, 4, 4)
    assert torch.equal(made[:, :16], x[:, :, ::2, ::2])
    assert not made[:, 16:].any()
