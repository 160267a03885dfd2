"""Networks that estimate depth: any trunk with any head, and FCRN as published.

Both take pictures in [0, 1] and apply their trunk's preprocessing themselves, outside the trunk.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ...backbones import create_backbone
from ...backbones.backbone import Backbone
from ..dense import DenseNetwork
from ..heads.head import Head
from ..heads.up_projection import Form, Pad, UpProjectionHead, to_fast
from ..task import Network

__all__ = ["FCRN", "DepthNetwork", "fcrn", "fcrn_plain", "to_fast"]

INITIAL_DEPTH = 2.5
"""Metres that an untrained network answers: the middle of a room."""

LOG_RANGE = (-5.0, 5.3)
"""ln metres: 7 mm to 200 m. Beyond it the answer is clamped and its gradient is 0; no loss can overflow."""

PREDICTION_STD = 0.01


class DepthNetwork(DenseNetwork):
    """A trunk and a head that predict the logarithm of depth.

    Args:
        backbone: any trunk.
        head: built on the trunk's levels with one channel. Its last layer is started anew, so that the first answer
            is about `INITIAL_DEPTH` everywhere.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__(backbone, head)
        _start_at(head.predict, math.log(INITIAL_DEPTH))

    def forward(self, image: Tensor) -> Tensor:
        """Depth of every pixel.

        Args:
            image: (B, C, H, W) in [0, 1], C as the trunk's `in_channels`.

        Returns:
            (B, 1, H, W) float32 metres, 0.007 to 200.
        """
        return self.raw(image).clamp(*LOG_RANGE).exp()


class FCRN(Network):
    """The fully convolutional residual network of Laina, Rupprecht, Belagiannis, Tombari, Navab 2016.

    3DV 2016, arXiv:1606.00373, figure 1 and table 1: ResNet-50 whose stride is in the 1x1, then four up-projections
    without skips. Input 228 x 304, output 128 x 160. 63,572,673 parameters in the fast form, 63,566,913 in the plain.

    Deviations: normalisations keep PyTorch's eps of 1e-5 (released weights were trained with 1e-4: `bn_eps`). The
    max pool pads both sides, where TensorFlow pads the far side only. The dropout's rate is not published; 0.5 is
    ours. The authors' graph ends in a ReLU, behind which a unit that starts negative never learns: with `relu` (the
    default) the last layer starts with small weights and a bias of 2.5 m, so that every pixel starts alive.

    Args:
        form: "fast" or "plain"; `to_fast` turns the weights of the latter into the former's.
        pad: "after" (the paper's 5x5 kernel) or "before" (the weights released for NYU; fast form only).
        relu: end in a ReLU. Exact zeros are then possible: clamp before logarithms.
        dropout: probability of dropping a unit before the last layer.
        bn_eps: eps of every normalisation; None keeps PyTorch's.
        weights: of the trunk, as `create_backbone` takes them. Published ImageNet weights of torchvision have the
            stride in the 3x3 and are refused.

    Raises:
        UserError: an unknown form or pad, or weights of another network.

    Attributes:
        takes, stride: see `DepthNetwork`. Only sizes that are multiples of the stride come back at exactly half.
    """

    takes = "tiled"
    stride = 32

    def __init__(
        self,
        form: Form = "fast",
        pad: Pad = "after",
        *,
        relu: bool = True,
        dropout: float = 0.5,
        bn_eps: float | None = None,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.backbone = create_backbone("resnet50", weights, classes=0, stride_in="1x1")
        self.head = UpProjectionHead(self.backbone.levels, 1, form, pad, dropout)
        self.activation = nn.ReLU() if relu else nn.Identity()
        _start_at(self.head.predict, INITIAL_DEPTH)
        if bn_eps is not None:
            for layer in self.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = bn_eps

    def forward(self, image: Tensor) -> Tensor:
        """Depth at the network's own resolution.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 1, 16 ⌈H / 32⌉, 16 ⌈W / 32⌉) float32 metres.
        """
        features = self.backbone.features(self.backbone.preprocessing(image))
        return self.activation(self.head.native(features)).float()


def fcrn() -> FCRN:
    """FCRN in the fast form, as `--network fcrn` builds it."""
    return FCRN("fast")


def fcrn_plain() -> FCRN:
    """FCRN with zero-insertion and whole 5x5 convolutions: the same function, slower."""
    return FCRN("plain")


def _start_at(predict: nn.Conv2d, value: float) -> None:
    """Let a last layer answer about `value` everywhere before it has learned anything."""
    assert predict.bias is not None
    with torch.no_grad():
        nn.init.normal_(predict.weight, 0.0, PREDICTION_STD)
        nn.init.constant_(predict.bias, value)
