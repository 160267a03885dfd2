"""Layers shared by the generators and the discriminator of pix2pix: normalization and weight initialization.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks. CVPR 2017, arXiv:1611.07004,
appendix 6.2.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from ...backbones.initialization import gaussian
from ...errors import unknown_name

SLOPE = 0.2
"""Negative slope of every leaky ReLU."""
STD = 0.02
"""Initial weights of convolutions are N(0, 0.02²), those of normalizations N(1, 0.02²), biases 0."""

Norm = Literal["batch", "instance"]
NORMS = ("batch", "instance")


def normalization(norm: Norm, width: int) -> nn.Module:
    """A normalization layer of `width` channels: batch, with scale and shift, or instance, without.

    Raises:
        UserError: no such normalization.
    """
    if norm not in NORMS:
        raise unknown_name("normalization", norm, NORMS)
    return nn.BatchNorm2d(width) if norm == "batch" else nn.InstanceNorm2d(width)


def needs_bias(norm: Norm, use_bias: bool) -> bool:
    """Whether a convolution before a normalization has a bias.

    Batch normalization has a shift of its own and cancels it; instance normalization cancels it too, but published
    weights contain it.
    """
    return use_bias or norm == "instance"


def init_weights(network: nn.Module) -> None:
    """Initialize every layer of `network` as in the paper, see `STD`."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            gaussian(layer.weight, std=STD)
        elif isinstance(layer, nn.BatchNorm2d) and layer.weight is not None:
            nn.init.normal_(layer.weight, 1.0, STD)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
