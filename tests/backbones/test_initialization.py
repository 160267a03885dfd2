"""Initial variances: facts 2.1. One layer at a time, 15 % at width 512."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from densevision.backbones import create_backbone
from densevision.backbones.initialization import RULES, fans, initialize
from densevision.errors import UserError

# 3x3, 256 channels to 512: n_in 2304, n_out 4608.
VARIANCES = {
    "lecun": 1.92 / 2304**2,
    "caffe_xavier": 1 / 2304,
    "gaussian": 0.01**2,
    "glorot_normal": 2 / (2304 + 4608),
    "glorot_uniform": 2 / (2304 + 4608),
    "he_fan_in": 2 / 2304,
    "he_fan_out": 2 / 4608,
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_its_variance(rule: str) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(256, 512, 3)
    initialize(layer, rule)
    assert layer.weight.var().item() == pytest.approx(VARIANCES[rule], rel=0.03)
    assert layer.bias is not None
    assert not layer.bias.any()


def test_fans_know_of_groups_and_of_transposition() -> None:
    # trap 19, facts 2.1: AlexNet's second convolution has fan_out 3200 in each group; torch says 6400
    layer = nn.Conv2d(96, 256, 5, groups=2)
    assert fans(layer.weight, 2) == (1200, 3200)
    transposed = nn.ConvTranspose2d(6, 8, 4, groups=2)
    assert fans(transposed.weight, 2, transposed=True) == (16 * 3, 16 * 4)


def test_he_keeps_the_second_moment_through_a_relu_layer() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(512, 512)
    initialize(layer, "he_fan_in")
    x = torch.randn(2000, 512) * math.sqrt(2)
    assert layer(x.relu()).var().item() == pytest.approx(2, rel=0.15)


def test_every_layer_of_a_backbone_starts_by_its_rule() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("resnet18")  # trap 20, trap 21: the classifier too
    for name, module in backbone.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.weight.numel() > 30_000:
            n_in = module.weight[0].numel()
            assert module.weight.var().item() == pytest.approx(2 / n_in, rel=0.05), name
    assert backbone.get_parameter("layer2.0.downsample.0.weight").std().item() == pytest.approx(
        math.sqrt(2 / 64), rel=0.05
    )


def test_unknown_rules_are_named() -> None:
    with pytest.raises(UserError, match="did you mean 'he_fan_in'"):
        create_backbone("resnet18", init="he_fanin")
