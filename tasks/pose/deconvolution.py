"""Heat maps of joints from any trunk: transposed convolutions up to stride 4, then one map a joint.

Xiao, Wu, Wei: Simple Baselines for Human Pose Estimation and Tracking. ECCV 2018, arXiv:1804.06208, section 2: three
times deconvolution 4x4 of stride 2 and width 256, batch normalisation and ReLU, then 1x1. For 16 joints 33,999,440
parameters with ResNet-50, 52,991,568 with ResNet-101 and 68,635,216 with ResNet-152.

Deviations: there are as many deconvolutions as lead from the trunk's coarsest stride to 4, from none to three for our
trunks, and they are no wider than the level that they begin from: a light trunk has a light head. Trunks that end
before stride 4 are averaged down to it.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Level
from ...backbones.initialization import gaussian, initialize
from ..heads.head import resize
from .heatmaps import STRIDE

WIDTH = 256
"""Of every deconvolution, at most."""
STD = 0.001
"""Of the initial weights, as in the authors' code."""


class Deconvolution(nn.Module):
    """One map a joint, at a quarter of the picture's sides, from the deepest level.

    Args:
        levels: of the trunk.
        joints: how many.
        width: of every deconvolution; None is 256, or what the deepest level has where that is less.

    Attributes:
        stride: what the sides of a picture have to be multiples of, for maps that begin at its corner.
    """

    def __init__(self, levels: tuple[Level, ...], joints: int, width: int | None = None) -> None:
        super().__init__()
        coarsest = levels[-1]
        self.stride = max(coarsest.stride, STRIDE)
        self.finer = max(STRIDE // coarsest.stride, 1)
        width = width or min(WIDTH, coarsest.channels)
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
        """(B, joints, ⌈height / 4⌉, ⌈width / 4⌉) float32, linear; a map's cells lie evenly over the picture.

        Args:
            features: the trunk's levels, (B, C, h, w).
            size: (height, width) of the picture.
        """
        x = features[-1]
        if self.finer > 1:
            x = functional.avg_pool2d(x, self.finer, ceil_mode=True)
        maps = self.predict(self.deconvolutions(x)).float()
        # Trunks that pad less than they reach have fewer cells than the picture has quarters.
        return resize(maps, (math.ceil(size[0] / STRIDE), math.ceil(size[1] / STRIDE)))
