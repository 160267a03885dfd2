"""Heads of pose estimation: heat maps by transposed convolutions (`Deconvolution`), coordinates by `Regression`.

`Deconvolution`. Xiao, Wu, Wei: Simple Baselines for Human Pose Estimation and Tracking. ECCV 2018, arXiv:1804.06208,
section 2: three times deconvolution 4x4 of stride 2 and width 256, batch normalization and ReLU, then 1x1. For 16
joints 33,999,440 parameters with ResNet-50, 52,991,568 with ResNet-101 and 68,635,216 with ResNet-152.

Deviations: there are as many deconvolutions as lead from the backbone's coarsest stride to 4, none to three for our
backbones, and they are not wider than the level that they read: a light backbone has a light head. Backbones that end
before stride 4 are average-pooled to it.

`Regression`. Toshev, Szegedy: DeepPose: Human Pose Estimation via Deep Neural Networks. CVPR 2014, arXiv:1312.4659,
section 3.1: a classifier whose last layer predicts coordinates instead.

Deviations: DeepPose keeps AlexNet's fully connected layers, which take one image size; here the deepest level is
averaged over all positions, as in a residual network, and normalized, so that any backbone and any size will do. The
output is added to the mean pose of the training set, at which training starts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Level
from ...backbones.initialization import gaussian, initialize
from ..heads.head import resize
from .heatmaps import STRIDE

MAX_WIDTH = 256
"""Maximum number of channels of a deconvolution."""
STD = 0.001
"""Standard deviation of the initial weights, as in the authors' code."""


class Deconvolution(nn.Module):
    """One heat map per joint, at a quarter of the image's resolution, from the deepest level.

    Args:
        levels: of the backbone.
        joints: number of joints.
        width: channels of every deconvolution; None: 256, or those of the deepest level if it has fewer.

    Attributes:
        stride: pad height and width of the image to multiples of it, so that the maps are aligned with its corner.
    """

    def __init__(self, levels: tuple[Level, ...], joints: int, width: int | None = None) -> None:
        super().__init__()
        coarsest = levels[-1]
        self.stride = max(coarsest.stride, STRIDE)
        self.pool_factor = max(STRIDE // coarsest.stride, 1)
        width = width or min(MAX_WIDTH, coarsest.channels)
        channels = coarsest.channels
        self.deconvolutions = nn.Sequential()
        for _ in range(math.ceil(math.log2(self.stride / STRIDE))):
            self.deconvolutions.append(
                nn.Sequential(
                    nn.ConvTranspose2d(channels, width, 4, 2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
                )
            )
            channels = width
        self.predict = nn.Conv2d(channels, joints, 1)
        initialize(self, "gaussian")
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                gaussian(layer.weight, std=STD)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Levels of the backbone to heat maps, (B, joints, ⌈height / 4⌉, ⌈width / 4⌉) float32, linear.

        They are evenly spaced over the image, whose (height, width) is `size`.
        """
        x = features[-1]
        if self.pool_factor > 1:
            x = functional.avg_pool2d(x, self.pool_factor, ceil_mode=True)
        maps = self.predict(self.deconvolutions(x)).float()
        # Backbones with unpadded convolutions lose cells at the border.
        return resize(maps, (math.ceil(size[0] / STRIDE), math.ceil(size[1] / STRIDE)))


HIDDEN = (1024, 1024)
"""Widths of the hidden layers."""
PREDICTION_STD = 0.001
"""Initial weights of the last layer: an untrained head predicts the mean pose, and the loss sees few outliers."""


class Regression(nn.Module):
    """Two numbers per joint from the spatial mean of the deepest level.

    Args:
        levels: of the backbone.
        joints: number of joints.

    Attributes:
        joints: number of joints.
    """

    def __init__(self, levels: tuple[Level, ...], joints: int) -> None:
        super().__init__()
        self.joints = joints
        width = levels[-1].channels
        # The scale of features differs between backbones, most of all before training.
        layers: list[nn.Module] = [nn.LayerNorm(width)]
        for hidden in HIDDEN:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        self.hidden = nn.Sequential(*layers)
        self.predict = nn.Linear(width, 2 * joints)
        initialize(self, "he_fan_in")
        gaussian(self.predict.weight, std=PREDICTION_STD)
        nn.init.zeros_(self.predict.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Levels of any size to offsets (B, joints, 2) float32 from the mean pose, in fractions of width and height."""
        return linear_float32(self.predict, self.hidden(features[-1].mean((2, 3)))).unflatten(1, (-1, 2))


def linear_float32(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """A linear layer in float32 under autocast too: half precision would round coordinates to about a pixel."""
    # autocast does not support the meta device, where nothing is rounded.
    device = "cpu" if inputs.is_meta else inputs.device.type
    with torch.autocast(device, enabled=False):
        return layer(inputs.float())
