"""The generators of pix2pix: U-Net and ResNet.

**U-Net**: downsampling as often as the image allows, with a skip connection at each resolution.
Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks. CVPR 2017, arXiv:1611.07004,
appendix 6.1.1. 54,413,955 parameters with eight downsamplings (256 pixels and more), 41,828,995 with seven (128);
without the skips, the paper's encoder-decoder, 39,075,459. 4x4 convolutions of stride 2, leaky ReLUs before those of
the encoder, ReLUs before those of the decoder.

Where the authors' Torch code and their PyTorch port differ, the port is the default:
- dropout follows the wide layers that read two maps, u2, u3 and u4 of eight (`dropout="port"`), or the three deepest,
  u1, u2 and u3 (`dropout="torch"`). With seven downsamplings the port has it after u2 and u3;
- no convolution but the last has a bias, or all have one (`use_bias`, 54,419,459 parameters). The Torch code sets every
  bias to 0 before every step, so it trains without any.
The deepest map has no normalization: for an image of 256 it is 1x1, which has no variance.

A skip carries the activated map, which the port's in-place ReLU leaves in the block's input. After the decoder's ReLU
there is no difference: max(leaky(x), 0) is max(x, 0).

**ResNet generator**: two downsamplings, residual blocks at a quarter of the resolution, two upsamplings.
Johnson, Alahi, Fei-Fei: Perceptual Losses for Real-Time Style Transfer and Super-Resolution. ECCV 2016,
arXiv:1603.08155, in the form of the PyTorch port of pix2pix and CycleGAN (Zhu, Park, Isola, Efros 2017,
arXiv:1703.10593, appendix 7.2). 11,383,427 parameters with nine blocks (images of 256 pixels), 7,841,411 with six
(128); with instance normalization, which has biases and no scale and shift, 11,378,179 and 7,837,699.

Deviations of the port from the first paper: reflection padding around every 3x3 of a block, where the paper has none
and crops the shortcut; no ReLU follows a block's sum; upsampling is by transposed 3x3 convolutions; every block
contains dropout, off with `dropout=0`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import UserError, unknown_name
from .layers import MAX_WIDTH_FACTOR, SLOPE, WIDTH, EvalDropout, Norm, init_weights, needs_bias, normalization

DROPOUT = 0.5
DROPOUT_VARIANTS = ("port", "torch")
RESNET_WIDTHS = (64, 128, 256)
"""Channels at full, half and quarter resolution."""


class UNetGenerator(nn.Module):
    """An image in, an image out: an encoder, a decoder, and skips between them.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        num_downs: number of downsamplings by 2, 2 or more.
        norm: "batch", or "instance", whose convolutions all have biases.
        dropout: its position, see the module's docstring.
        skips: whether the decoder also reads the encoder's map of the same resolution.
        use_bias: a bias in every convolution.
        width: channels of the first map.

    Attributes:
        stride: height and width of images are multiples of it, 2 to the power of `num_downs`.
        min_size: minimum height and width of an image.

    Raises:
        UserError: fewer than 2 downsamplings, or no such normalization or dropout variant.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_downs: int = 8,
        norm: Norm = "batch",
        dropout: Literal["port", "torch"] = "port",
        skips: bool = True,
        use_bias: bool = False,
        width: int = WIDTH,
    ) -> None:
        super().__init__()
        if num_downs < 2:
            raise UserError(f"A U-Net generator has at least 2 downsamplings, not {num_downs}.")
        if dropout not in DROPOUT_VARIANTS:
            raise unknown_name("dropout variant", dropout, DROPOUT_VARIANTS)
        self.stride = self.min_size = 2**num_downs
        self.skips = skips
        widths = [width * min(2**level, MAX_WIDTH_FACTOR) for level in range(num_downs)]
        bias = needs_bias(norm, use_bias)

        self.downs = nn.ModuleList()
        for level, (before, after) in enumerate(zip([in_channels, *widths], widths, strict=False)):
            down = nn.Sequential(nn.Conv2d(before, after, 4, 2, padding=1, bias=bias))
            if 0 < level < num_downs - 1:
                down.append(normalization(norm, after))
            self.downs.append(down)

        self.ups = nn.ModuleList()
        with_dropout = range(2, num_downs - 3) if dropout == "port" else range(1, 4)
        for number, level in enumerate(reversed(range(1, num_downs)), 1):
            before = widths[level] * (2 if skips and number > 1 else 1)
            up = nn.Sequential(
                nn.ConvTranspose2d(before, widths[level - 1], 4, 2, padding=1, bias=bias),
                normalization(norm, widths[level - 1]),
            )
            if number in with_dropout:
                up.append(EvalDropout(DROPOUT))
            self.ups.append(up)
        self.predict = nn.ConvTranspose2d(widths[0] * (2 if skips else 1), out_channels, 4, 2, padding=1)
        init_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) in [-1, 1], multiples of `stride`, to (B, out_channels, H, W) before the tanh."""
        x = self.downs[0](image)
        activated: list[Tensor] = []
        for down in self.downs[1:]:
            activated.append(functional.leaky_relu(x, SLOPE))
            x = down(activated[-1])
        for up in self.ups:
            x = up(functional.relu(x))
            skip = activated.pop()
            if self.skips:
                x = torch.cat((skip, x), dim=1)
        return self.predict(functional.relu(x))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with reflection padding and a dropout between them, beside the identity."""

    def __init__(self, width: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        bias = needs_bias(norm, False)
        self.branch = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            normalization(norm, width),
            nn.ReLU(),
            EvalDropout(dropout),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            normalization(norm, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape, h and w at least 2."""
        return x + self.branch(x)


class ResNetGenerator(nn.Module):
    """An image in, an image out, by residual blocks at a quarter of the resolution.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        blocks: number of residual blocks, 9 or 6 in the papers.
        norm: "batch" or "instance".
        dropout: probability in every block.

    Attributes:
        stride: height and width of images are multiples of it.
        min_size: minimum height and width of an image, for two cells at a quarter of the resolution, which can be
            padded by reflection and normalized.

    Raises:
        UserError: a negative number of blocks, or no such normalization.
    """

    stride = 4
    min_size = 8

    def __init__(
        self, in_channels: int, out_channels: int, blocks: int = 9, norm: Norm = "batch", dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        if blocks < 0:
            raise UserError(f"A ResNet generator has 0 or more blocks, not {blocks}.")
        bias = needs_bias(norm, False)
        full, half, quarter = RESNET_WIDTHS
        self.body = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(in_channels, full, 7, bias=bias))
        self.body.extend((normalization(norm, full), nn.ReLU()))
        for before, width in ((full, half), (half, quarter)):
            down = nn.Conv2d(before, width, 3, 2, padding=1, bias=bias)
            self.body.extend((down, normalization(norm, width), nn.ReLU()))
        self.body.extend(ResidualBlock(quarter, norm, dropout) for _ in range(blocks))
        for before, width in ((quarter, half), (half, full)):
            up = nn.ConvTranspose2d(before, width, 3, 2, padding=1, output_padding=1, bias=bias)
            self.body.extend((up, normalization(norm, width), nn.ReLU()))
        self.body.append(nn.ReflectionPad2d(3))
        self.predict = nn.Conv2d(full, out_channels, 7)
        init_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) in [-1, 1], multiples of 4 from 8 on, to (B, out_channels, H, W) before the tanh."""
        return self.predict(self.body(image))
