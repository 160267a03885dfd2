"""Decoders of segmentation-models-pytorch on any trunk of ours.

The library's decoders expect a pyramid whose levels halve exactly. Ours is made for them: its sizes are those of the
picture rounded up to the coarsest stride, and every place takes the trunk's deepest level of that stride, or the
nearest one, averaged down or interpolated up. For a trunk that has every stride, at a size that divides, the
pyramid is the trunk's own levels.

The classes below differ in their tables only.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones.backbone import Level
from ...errors import UserError
from .head import Head, resize

FEWEST_STRIDES = 3


class SmpHead(Head):
    """One decoder of the library; see `Head`.

    Attributes:
        title: for messages.
        strides: of the pyramid, fine to coarse.
        normalises_pictures: the decoder normalises one value per picture, which a batch of one leaves without a
            spread to train on.

    Raises:
        UserError: the trunk has fewer than three strides.
    """

    title: ClassVar[str]
    strides: ClassVar[tuple[int, ...]] = (2, 4, 8, 16, 32)
    normalises_pictures: ClassVar[bool] = False

    def __init__(self, levels: tuple[Level, ...], channels: int) -> None:
        super().__init__(levels, channels)
        found = sorted({level.stride for level in levels})
        if len(found) < FEWEST_STRIDES:
            raise UserError(
                f"{self.title} needs levels of at least {FEWEST_STRIDES} strides and this trunk has "
                f"{', '.join(map(str, found))}; build more of its levels or take the head 'unet'."
            )
        self.stride = max(self.stride, *self.strides)
        self.chosen = [_nearest(levels, stride) for stride in self.strides[:-1]] + [len(levels) - 1]
        # The decoders expect the picture itself in front and never look at it.
        widths = [3] + [levels[position].channels for position in self.chosen]
        self.decoder, width = self._decoder(widths)
        self.predict = nn.Conv2d(width, channels, 3, padding=1)

    def _decoder(self, widths: list[int]) -> tuple[nn.Module, int]:
        """The library's decoder for a pyramid of these channels, picture first, and the channels of its answer."""
        raise NotImplementedError

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """(B, channels, *size); see `Head.forward`.

        Raises:
            UserError: a batch of one while training, where the decoder cannot normalise it.
        """
        if self.training and self.normalises_pictures and len(features[0]) == 1:
            raise UserError(f"{self.title} normalises one value per picture; train it with a batch of 2 or more.")
        coarsest = max(self.strides)
        height, width = (math.ceil(side / coarsest) * coarsest for side in size)
        pyramid = [
            _at(features[position], (height // stride, width // stride), self.levels[position].stride < stride)
            for position, stride in zip(self.chosen, self.strides, strict=True)
        ]
        decoded: Any = self.decoder([pyramid[0], *pyramid])
        return resize(self.predict(decoded), size)


class FPN(SmpHead):
    """Feature pyramid network, its four levels summed at stride 4.

    Lin et al. 2017 (arXiv:1612.03144); the summed form: Kirillov et al. 2019 (arXiv:1901.02446), figure 3. The
    library interpolates between the corners of the picture, so that tiles are not the whole.
    """

    title = "FPN"
    takes = "whole"

    def _decoder(self, widths: list[int]) -> tuple[nn.Module, int]:
        from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder

        return FPNDecoder(widths, encoder_depth=len(self.strides)), 128


class UNetPlusPlus(SmpHead):
    """U-Net++: skips that are themselves small U-Nets. Zhou et al. 2018 (arXiv:1807.10165)."""

    title = "U-Net++"
    widths: ClassVar[tuple[int, ...]] = (256, 128, 64, 32, 16)

    def _decoder(self, widths: list[int]) -> tuple[nn.Module, int]:
        from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder

        return UnetPlusPlusDecoder(widths, self.widths, n_blocks=len(self.strides)), self.widths[-1]


class DeepLabV3Plus(SmpHead):
    """Atrous convolutions and image pooling at stride 16, joined with the level of stride 4.

    Chen et al. 2018 (arXiv:1802.02611), figure 2. The trunk is not dilated: its coarsest level is interpolated to
    stride 16.
    """

    title = "DeepLabV3+"
    takes = "whole"
    strides = (2, 4, 8, 16, 16)
    normalises_pictures = True

    def _decoder(self, widths: list[int]) -> tuple[nn.Module, int]:
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

        decoder = DeepLabV3PlusDecoder(
            widths,
            encoder_depth=5,
            out_channels=256,
            atrous_rates=(12, 24, 36),
            output_stride=16,
            aspp_separable=True,
            aspp_dropout=0.5,
        )
        return decoder, 256


class UPerNet(SmpHead):
    """Pyramid pooling on the coarsest level, then a feature pyramid. Xiao et al. 2018 (arXiv:1807.10221)."""

    title = "UPerNet"
    takes = "whole"
    normalises_pictures = True

    def _decoder(self, widths: list[int]) -> tuple[nn.Module, int]:
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

        return UPerNetDecoder(widths, encoder_depth=len(self.strides)), 256


def _nearest(levels: tuple[Level, ...], stride: int) -> int:
    """Position of the level whose stride is nearest on a logarithmic scale; of equal ones the deepest."""
    return min(range(len(levels)), key=lambda position: (abs(math.log2(levels[position].stride / stride)), -position))


def _at(maps: Tensor, size: tuple[int, int], averaged: bool) -> Tensor:
    if averaged and tuple(maps.shape[-2:]) != size:
        return F.adaptive_avg_pool2d(maps, size)
    return resize(maps, size)
