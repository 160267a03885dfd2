"""Inception-v4 and Inception-ResNet-v2 against timm, which keeps the authors' published code. Counts: facts 1.4."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Backbone
from densevision.backbones.inception_v4 import ResidualBranches, build
from densevision.backbones.receptive_field import receptive_fields
from densevision.backbones.state_dict_matching import load_weights, published_state

COUNTS = {"inception_v4": 42_679_816, "inception_resnet_v2": 55_843_464}
# timm names what it takes at strides 2, 8, 16 and 32; at 4 Inception-v4 goes one module further here, to the last.
LEVELS = {
    "inception_v4": [64, 192, 384, 1024, 1536],
    "inception_resnet_v2": [64, 192, 320, 1088, 1536],
}
# facts 1.4: the published code's fields.
FIELDS = {"inception_v4": 2071, "inception_resnet_v2": 3039}


def pair(name: str) -> tuple[Backbone, Any]:
    """Ours and timm's with the same random weights, the same statistics of one batch and no dropout."""
    import timm

    torch.manual_seed(0)
    ours = create_backbone(name, num_classes=7)
    normalizations = [module for module in ours.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in normalizations:
        module.momentum = 1.0
    with torch.no_grad():
        ours.features(torch.randn(2, 3, 107, 107))
    for module in normalizations:
        module.momentum = 0.1
    dropout = ours.get_submodule("dropout")
    assert isinstance(dropout, nn.Dropout)
    dropout.p = 0.0
    peer = timm.create_model(name, num_classes=7)
    peer.load_state_dict(published_state(ours), strict=True)
    return ours, peer


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_images_are_those_of_the_published_networks(name: str) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == COUNTS[name]
    assert [level.stride for level in backbone.levels] == [2, 4, 8, 16, 32]
    assert [level.channels for level in backbone.levels] == LEVELS[name]
    wanted = backbone.preprocessing
    assert (wanted.mean, wanted.std, wanted.crop, wanted.interpolation) == ((0.5,) * 3, (0.5,) * 3, 299, "bicubic")
    crop_pct = {"inception_v4": 0.875, "inception_resnet_v2": 0.8975}[name]  # facts 1.4
    assert wanted.resize == round(299 / crop_pct)
    assert {module.eps for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}  # facts 1.4


@pytest.mark.parametrize("name", COUNTS)
def test_the_coarsest_level_sees_what_the_published_code_sees(name: str) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name, num_classes=0)
    assert list(receptive_fields(backbone).values())[-1].size == FIELDS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_logits_maps_and_gradients_are_timms(name: str) -> None:
    ours, peer = pair(name)
    image, wanted = torch.randn(1, 3, 299, 299), torch.tensor([2, 5])
    with torch.no_grad():
        made, expected = ours.eval()(image), peer.eval()(image)
    assert (made - expected).abs().max() <= 1e-4
    assert expected.std() > 1e-2

    small = torch.randn(2, 3, 139, 139)
    for network in (ours.train(), peer.train()):
        functional.cross_entropy(network(small), wanted).backward()
    theirs = dict(peer.named_parameters())
    for key, parameter in ours.named_parameters():
        gradient, other = parameter.grad, theirs[ours.state_dict_alias(key)].grad
        assert gradient is not None
        assert (gradient - other).norm() <= 1e-3 * other.norm() + 1e-6, key


@pytest.mark.parametrize("name", COUNTS)
def test_timms_weights_load_in_whole_and_in_part(name: str) -> None:
    import timm

    peer: Any = timm.create_model(name, num_classes=3)
    with pytest.warns(UserWarning, match=rf"taken for {name} with .* mean 0.5 0.5 0.5"):
        ours = create_backbone(name, num_classes=3)
        load_weights(ours, peer.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cut = create_backbone(name, levels=2)
        load_weights(cut, peer.state_dict())
    assert torch.equal(ours.get_parameter("fc.weight"), peer.get_classifier().weight)
    first = next(iter(peer.parameters()))
    assert torch.equal(next(iter(cut.parameters())), first)


def test_average_pools_do_not_count_the_padding() -> None:
    pool, channels = build("avg", 4)
    assert channels == 4
    assert pool(torch.ones(1, 4, 5, 5)).unique().tolist() == [1.0]  # trap 14


def test_a_plan_that_is_no_plan_is_refused() -> None:
    for text in ("3x3", "3x3 64 V /2", "mean"):
        with pytest.raises(ValueError, match="no step of a plan"):
            build(text, 3)


def test_residuals_are_scaled_and_the_last_is_not_rectified() -> None:
    with torch.device("meta"):
        backbone = create_backbone("inception_resnet_v2", num_classes=0)
    units = [unit for unit in backbone.modules() if isinstance(unit, ResidualBranches)]
    # The factors of the published code, as in timm 1.0.31.
    assert [unit.scale for unit in units] == [0.17] * 10 + [0.10] * 20 + [0.20] * 9 + [1.0]
    assert [isinstance(unit.relu, nn.ReLU) for unit in units] == [True] * 39 + [False]


@pytest.mark.parametrize("name", COUNTS)
def test_no_relu_overwrites_what_a_hook_took_from_its_normalization(name: str) -> None:
    backbone = create_backbone(name, levels=1)  # trap 13
    taken: list[Any] = []
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _module, _inputs, output: taken.append(output))
    backbone.features(torch.randn(1, 3, 32, 32))
    assert all(made.min() < 0 for made in taken)
