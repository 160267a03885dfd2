"""U-Net's expanding path on any trunk.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
arXiv:1505.04597, figure 1, right half: upsample, concatenate the skip of that resolution, convolve 3x3 twice.

Deviations: upsampling is bilinear, not a 2x2 up-convolution; convolutions are padded and batch-normalised, so that
the answer has the picture's size; widths follow the stride and not the trunk, so that a wide trunk does not make a
slow decoder. The path stops at the trunk's finest stride: nothing is convolved at stride 1 unless the trunk did so.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...backbones.backbone import Level
from ...backbones.initialization import initialize
from .head import Head, distinct_strides, resize

# Widths double with the stride: 16 at strides 1 and 2, 32 at 4, 64 at 8, 128 at 16. On a ResNet-18 the head then
# costs two fifths of the trunk; with twice these widths, as segmentation-models-pytorch has, as much as the trunk.
WIDTH_PER_STRIDE = 8
SMALLEST_WIDTH, LARGEST_WIDTH = 16, 256


class UNet(Head):
    """From the coarsest level to the finest stride, one skip per stride; see `Head`.

    Of several levels of one stride the deepest is the skip.
    """

    def __init__(self, levels: tuple[Level, ...], channels: int) -> None:
        super().__init__(levels, channels)
        *self.skips, self.coarsest = distinct_strides(levels)
        width = levels[self.coarsest].channels
        self.stages = nn.ModuleList()
        for skip in reversed(self.skips):
            narrower = min(max(WIDTH_PER_STRIDE * levels[skip].stride, SMALLEST_WIDTH), LARGEST_WIDTH)
            self.stages.append(_two_convolutions(width + levels[skip].channels, narrower))
            width = narrower
        self.predict = nn.Conv2d(width, channels, 3, padding=1)
        initialize(self, "he_fan_in")

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """(B, channels, *size); see `Head.forward`."""
        x = features[self.coarsest]
        for skip, stage in zip(reversed(self.skips), self.stages, strict=True):
            finer = features[skip]
            x = stage(torch.cat((resize(x, (finer.shape[-2], finer.shape[-1])), finer), dim=1))
        return resize(self.predict(x), size)


def _two_convolutions(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )
