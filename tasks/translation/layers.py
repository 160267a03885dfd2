"""What the generators and the discriminator of pix2pix share: how they normalise, and how their weights begin.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks. CVPR 2017, arXiv:1611.07004,
appendix 6.2.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from ...backbones.initialization import gaussian
from ...errors import unknown_name

SLOPE = 0.2
"""Of every leaky ReLU."""
STD = 0.02
"""Weights of convolutions start as N(0, 0.02²), those of normalisations as N(1, 0.02²), biases at 0."""

Norm = Literal["batch", "instance"]
NORMS = ("batch", "instance")


def normalization(norm: Norm, width: int) -> nn.Module:
    """A normalisation of `width` channels: by batches, with scale and shift, or by pictures, without.

    Raises:
        UserError: no such normalisation.
    """
    if norm not in NORMS:
        raise unknown_name("normalisation", norm, NORMS)
    return nn.BatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width)


def needs_bias(norm: Norm, biased: bool) -> bool:
    """Whether a convolution in front of a normalisation has a bias.

    One by batches has a shift of its own and cancels it; one by pictures cancels it too, and published weights hold it.
    """
    return biased or norm == "instance"


def start(network: nn.Module) -> None:
    """Give every layer below `network` the paper's initial weights, see `STD`."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            gaussian(layer.weight, std=STD)
        elif isinstance(layer, nn.BatchNorm2d) and layer.weight is not None:
            nn.init.normal_(layer.weight, 1.0, STD)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
