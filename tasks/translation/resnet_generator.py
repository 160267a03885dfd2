"""ResNet generator: two downsamplings, residual blocks at a quarter of the resolution, two upsamplings.

Johnson, Alahi, Fei-Fei: Perceptual Losses for Real-Time Style Transfer and Super-Resolution. ECCV 2016,
arXiv:1603.08155, in the form of the PyTorch port of pix2pix and CycleGAN (Zhu, Park, Isola, Efros 2017,
arXiv:1703.10593, appendix 7.2). 11,383,427 parameters with nine blocks (images of 256 pixels), 7,841,411 with six
(128); with instance normalization, which has biases and no scale and shift, 11,378,179 and 7,837,699.

Deviations of the port from the first paper: reflection padding around every 3x3 of a block, where the paper has none
and crops the shortcut; no ReLU follows a block's sum; upsampling is by transposed 3x3 convolutions; every block
contains dropout, off with `dropout=0`.
"""

from __future__ import annotations

from torch import Tensor, nn

from ...errors import UserError
from .layers import EvalDropout, Norm, init_weights, needs_bias, normalization

WIDTHS = (64, 128, 256)
"""Channels at full, half and quarter resolution."""
DROPOUT = 0.5


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
        full, half, quarter = WIDTHS
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
        """The output before the tanh.

        Args:
            image: (B, in_channels, H, W) in [-1, 1], H and W multiples of 4 and at least 8.

        Returns:
            (B, out_channels, H, W), linear.
        """
        return self.predict(self.body(image))
