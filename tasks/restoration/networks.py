"""Networks that restore pictures: any trunk with any head, and the network of Eigen, Krishnan, Fergus as published.

Both take pictures in [0, 1] and answer with pictures, which may reach a little beyond.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones.backbone import Backbone
from ...backbones.initialization import gaussian
from ..dense import DenseNetwork
from ..heads.head import Head
from ..task import Network

# Section 3.1: channels in, channels out, kernel. Between the layers a tanh; the last one is a full convolution.
EIGEN_TABLE = ((3, 512, 16), (512, 512, 1), (512, 3, 8))
EIGEN_STD = 0.001

PAD = 11
"""Pixels added on every side before, so that the answer can be cropped to pixels that 64 output patches cover."""
CROP = 7
"""Pixels cut off on every side behind, where fewer output patches overlap: 8 - 1."""
LOST = 8
"""By how much the answer for the interior is smaller than the input, PAD apart: 4 on every side."""
BAND = 64
"""Rows that are answered at once: 512 maps of a photograph would not fit into memory."""


class RestorationNetwork(DenseNetwork):
    """A trunk and a head that predict what is to be added to the picture.

    Args:
        backbone: any trunk.
        head: built on the trunk's levels with as many channels as the picture. Its last layer is started at 0: the
            first answer is the picture as it came.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__(backbone, head)
        assert head.predict.bias is not None
        nn.init.zeros_(head.predict.weight)
        nn.init.zeros_(head.predict.bias)

    def forward(self, degraded: Tensor) -> Tensor:
        """The picture, restored.

        Args:
            degraded: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 3, H, W) float32, about [0, 1].
        """
        return degraded + self.raw(degraded)


class Eigen(Network):
    """The patch network of Eigen, Krishnan, Fergus: Restoring an Image Taken through a Window Covered with Dirt or
    Rain. ICCV 2013, section 3.

    Convolution 16x16 to 512, tanh, 1x1 to 512, tanh, and an 8x8 patch of colours from every place; where patches
    overlap, their mean. 754,691 parameters. For a patch of 64 the maps have 49x49 places and the answer 56x56 pixels,
    those of the input without 4 on every side.

    The mean divides by how many patches cover a pixel: 64 in the interior, 1 in the corner; the constant 64 would
    darken the border. The last bias is added before that division, as in equation 3. Values are centred to ±0.5.

    In training it answers for the interior only, as the paper's did; else the picture is continued by its mirror image
    so far that every pixel is covered 64 times and the answer has the picture's size.

    Attributes:
        takes, stride: see `Network`.
    """

    takes = "tiled"
    stride = 1

    def __init__(self) -> None:
        super().__init__()
        (c1, w1, k1), (c2, w2, k2), (c3, w3, k3) = EIGEN_TABLE
        self.conv1 = nn.Conv2d(c1, w1, k1)
        self.conv2 = nn.Conv2d(c2, w2, k2)
        self.conv3 = nn.ConvTranspose2d(c3, w3, k3)
        for layer in (self.conv1, self.conv2, self.conv3):
            gaussian(layer.weight, std=EIGEN_STD)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def interior(self, degraded: Tensor) -> Tensor:
        """The overlapping patches of a picture and their mean.

        Args:
            degraded: (B, 3, H, W) in [0, 1], H and W at least 16.

        Returns:
            (B, 3, H - 8, W - 8) float32; pixel (y, x) is the input's (y + 4, x + 4).
        """
        maps = torch.tanh(self.conv2(torch.tanh(self.conv1(degraded - 0.5))))
        patch = self.conv3.kernel_size
        places = torch.ones(1, 1, *maps.shape[-2:], device=maps.device)
        covering = F.conv_transpose2d(places, torch.ones(1, 1, *patch, device=maps.device))
        return self.conv3(maps).float() / covering + 0.5

    def forward(self, degraded: Tensor) -> Tensor:
        """The picture, restored.

        Args:
            degraded: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 3, H, W) float32; in training (B, 3, H - 8, W - 8), see `interior`.
        """
        if self.training:
            return self.interior(degraded)
        height, width = degraded.shape[-2:]
        mode = "reflect" if min(height, width) > PAD else "replicate"
        padded = F.pad(degraded, (PAD, PAD, PAD, PAD), mode=mode)
        bands = [
            self.interior(padded[..., top : top + BAND + 2 * PAD, :])[..., CROP:-CROP, CROP:-CROP]
            for top in range(0, height, BAND)
        ]
        return torch.cat(bands, dim=-2)
