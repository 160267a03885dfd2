"""Decoders of segmentation-models-pytorch (FPN, U-Net++, DeepLabV3+, UPerNet) on any backbone.

The library's decoders expect a pyramid whose levels halve exactly. It is built here: sizes are those of the image
rounded up to the coarsest stride, and each stride takes the deepest level of the backbone with that stride, or the
nearest one, averaged down or interpolated up. For a backbone with all strides and an image size that is a multiple of
the coarsest, the pyramid is the backbone's own levels.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones.backbone import Level
from ...errors import UserError
from .head import Head, resize

MIN_STRIDES = 3


class SmpHead(Head):
    """A decoder of the library; see `Head`.

    Attributes:
        title: name for error messages.
        strides: strides of the pyramid, fine to coarse.
        normalizes_images: whether the decoder normalizes one value per image over the batch, which cannot be trained
            with a batch of one.

    Raises:
        UserError: the backbone has fewer than three strides.
    """

    title: ClassVar[str]
    strides: ClassVar[tuple[int, ...]] = (2, 4, 8, 16, 32)
    normalizes_images: ClassVar[bool] = False

    def __init__(self, levels: tuple[Level, ...], channels: int) -> None:
        super().__init__(levels, channels)
        strides = sorted({level.stride for level in levels})
        if len(strides) < MIN_STRIDES:
            raise UserError(
                f"{self.title} needs levels of at least {MIN_STRIDES} strides and this backbone has "
                f"{', '.join(map(str, strides))}; build more of its levels or use the head 'unet'."
            )
        self.stride = max(self.stride, *self.strides)
        self.level_indices = [_nearest(levels, stride) for stride in self.strides[:-1]] + [len(levels) - 1]
        # The decoders expect the image as the first level, but do not use it.
        widths = [3] + [levels[position].channels for position in self.level_indices]
        self.decoder, width = self._decoder(widths)
        self.predict = nn.Conv2d(width, channels, 3, padding=1)

    def _decoder(self, widths: list[int]) -> tuple[nn.Module, int]:
        """The library's decoder for a pyramid of these channels (image first), and its number of output channels."""
        raise NotImplementedError

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """(B, channels, *size); see `Head.forward`.

        Raises:
            UserError: a batch of one while training, where the decoder cannot normalize it.
        """
        if self.training and self.normalizes_images and len(features[0]) == 1:
            raise UserError(f"{self.title} normalizes one value per image; train it with a batch size of 2 or more.")
        coarsest = max(self.strides)
        height, width = (math.ceil(length / coarsest) * coarsest for length in size)
        pyramid = [
            _resize_level(
                features[position], (height // stride, width // stride), self.levels[position].stride < stride
            )
            for position, stride in zip(self.level_indices, self.strides, strict=True)
        ]
        decoded: Any = self.decoder([pyramid[0], *pyramid])
        return resize(self.predict(decoded), size)


class FPN(SmpHead):
    """Feature pyramid network (FPN) with its four levels summed at stride 4.

    Lin et al. 2017 (arXiv:1612.03144); the summed form: Kirillov et al. 2019 (arXiv:1901.02446), figure 3. The
    library interpolates with aligned corners, so that the output of tiles differs from that of the complete image.
    """

    title = "FPN"
    input_policy = "whole"

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
    """DeepLabV3+: atrous convolutions and image pooling at stride 16, joined with the level of stride 4.

    Chen et al. 2018 (arXiv:1802.02611), figure 2. The backbone is not dilated: its coarsest level is interpolated to
    stride 16.
    """

    title = "DeepLabV3+"
    input_policy = "whole"
    strides = (2, 4, 8, 16, 16)
    normalizes_images = True

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
    """UPerNet: pyramid pooling on the coarsest level, then a feature pyramid. Xiao et al. 2018 (arXiv:1807.10221)."""

    title = "UPerNet"
    input_policy = "whole"
    normalizes_images = True

    def _decoder(self, widths: list[int]) -> tuple[nn.Module, int]:
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

        return UPerNetDecoder(widths, encoder_depth=len(self.strides)), 256


def _nearest(levels: tuple[Level, ...], stride: int) -> int:
    """Index of the level whose stride is nearest on a logarithmic scale, the deepest of equal ones."""
    return min(range(len(levels)), key=lambda position: (abs(math.log2(levels[position].stride / stride)), -position))


def _resize_level(maps: Tensor, size: tuple[int, int], average: bool) -> Tensor:
    if average and tuple(maps.shape[-2:]) != size:
        return F.adaptive_avg_pool2d(maps, size)
    return resize(maps, size)
