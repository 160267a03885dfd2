"""U-Net decoder (expanding path) on any backbone.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015,
arXiv:1505.04597, figure 1, right half: upsample, concatenate the skip of that resolution, convolve 3x3 twice.

Deviations: upsampling is bilinear, not a 2x2 up-convolution; convolutions are padded and batch-normalized, so that
the output has the size of the image; widths depend on the stride and not on the backbone, so that a wide backbone does
not give a slow decoder. The path ends at the finest stride of the backbone: no convolution at stride 1 unless the
backbone has one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...backbones.backbone import Level
from ...backbones.initialization import initialize
from .head import Head, distinct_strides, resize

# Widths double with the stride: 16 at strides 1 and 2, 32 at 4, 64 at 8, 128 at 16. On a ResNet-18 the head then
# costs two fifths of the backbone; with twice these widths, as in segmentation-models-pytorch, as much as the backbone.
WIDTH_PER_STRIDE = 8
MIN_WIDTH, MAX_WIDTH = 16, 256


class UNet(Head):
    """U-Net decoder from the coarsest level to the finest stride, with one skip connection per stride; see `Head`.

    If several levels have the same stride, the deepest is used.
    """

    def __init__(self, levels: tuple[Level, ...], channels: int) -> None:
        super().__init__(levels, channels)
        *self.skips, self.coarsest = distinct_strides(levels)
        width = levels[self.coarsest].channels
        self.stages = nn.ModuleList()
        for skip in reversed(self.skips):
            narrower = min(max(WIDTH_PER_STRIDE * levels[skip].stride, MIN_WIDTH), MAX_WIDTH)
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
