"""Restoration models: any backbone with any head, two of them in a row, and the network of Eigen, Krishnan, Fergus.

Inputs are images in [0, 1]; outputs are images that may slightly exceed this range.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones import create_backbone
from ...backbones.backbone import Backbone
from ...backbones.initialization import gaussian
from ..heads import create_head
from ..heads.head import Head
from ..network import EncoderDecoder, Network

# Section 3.1: input channels, output channels, kernel; tanh between the layers; the last one is a full convolution.
EIGEN_TABLE = ((3, 512, 16), (512, 512, 1), (512, 3, 8))
EIGEN_STD = 0.001

PAD = 11
"""Padding of the input, so that the output can be cropped to pixels that are covered by 64 output patches."""
CROP = 7
"""Border that is cropped from the output, where fewer than 64 output patches overlap: 8 - 1."""
BAND = 64
"""Rows that are computed at once: 512 feature maps of a photo would not fit into memory."""


class RestorationNetwork(EncoderDecoder):
    """A backbone and a head that predict a residual, which is added to the degraded image.

    Args:
        backbone: any backbone.
        head: a head on the levels of the backbone with as many channels as the image. Its last layer is initialized
            to 0: the initial prediction is the degraded input.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__(backbone, head)
        assert head.predict.bias is not None
        nn.init.zeros_(head.predict.weight)
        nn.init.zeros_(head.predict.bias)

    def forward(self, degraded: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3, H, W) float32, about [0, 1]."""
        return degraded + self.logits(degraded)


class CameraWeather(RestorationNetwork):
    """Two restoration networks in a row: one for what cameras and files do (noise, blur, compression, low resolution),
    and one for the weather in front of them (dirt, rain): the reverse of the order in which light meets them.

    Each may be trained alone, so that neither forgets what the other learns. VGG-19 to its second block with a U-Net
    is the backbone and head of this network; ResNet-20 for CIFAR with a U-Net is `camera`. 583,286 parameters.
    """

    def __init__(self) -> None:
        vgg, cifar = create_backbone("vgg19", None, 0, levels=2), create_backbone("resnet20_cifar", None, 0)
        super().__init__(vgg, create_head("unet", vgg.levels, 3))
        self.camera = RestorationNetwork(cifar, create_head("unet", cifar.levels, 3))
        self.stride = max(self.stride, self.camera.stride)

    def forward(self, degraded: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3, H, W) float32, about [0, 1]."""
        return super().forward(self.camera(degraded))


class Eigen(Network):
    """The patch network of Eigen, Krishnan, Fergus: Restoring an Image Taken through a Window Covered with Dirt or
    Rain. ICCV 2013, section 3.

    Convolution 16x16 to 512, tanh, 1x1 to 512, tanh, and an 8x8 RGB patch at every position; overlapping patches are
    averaged. 754,691 parameters. For an input of 64x64, the feature maps are 49x49 and the output 56x56: the input
    without a border of 4 pixels.

    The mean divides by the number of patches that cover a pixel: 64 in the interior, 1 in the corner; a constant 64
    would darken the border. The last bias is added before that division, as in equation 3. Inputs are centered to ±0.5.

    In training, the output is the interior only, as in the paper. Otherwise the image is padded by reflection, so that
    every pixel is covered 64 times and the output has the size of the image.

    Attributes:
        input_policy, stride: see `Network`.
    """

    input_policy = "tiled"
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
        """(B, 3, H, W) in [0, 1], H and W at least 16, to (B, 3, H - 8, W - 8) float32: mean of overlapping patches.

        Pixel (y, x) corresponds to (y + 4, x + 4) of the input.
        """
        maps = torch.tanh(self.conv2(torch.tanh(self.conv1(degraded - 0.5))))
        patch = self.conv3.kernel_size
        ones = torch.ones(1, 1, *maps.shape[-2:], device=maps.device)
        coverage = F.conv_transpose2d(ones, torch.ones(1, 1, *patch, device=maps.device))
        return self.conv3(maps).float() / coverage + 0.5

    def forward(self, degraded: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3, H, W) float32; in training (B, 3, H - 8, W - 8), see `interior`."""
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
