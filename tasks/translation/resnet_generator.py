"""The ResNet generator: two halvings, units of two convolutions at a quarter of the sides, two doublings.

Johnson, Alahi, Fei-Fei: Perceptual Losses for Real-Time Style Transfer and Super-Resolution. ECCV 2016,
arXiv:1603.08155, in the form of the PyTorch port of pix2pix and CycleGAN (Zhu, Park, Isola, Efros 2017,
arXiv:1703.10593, appendix 7.2). 11,383,427 parameters with nine units (pictures of 256 pixels), 7,841,411 with six
(128); with normalisation by pictures, which has biases and no scale and shift, 11,378,179 and 7,837,699.

Deviations of the port from the first paper: borders are reflected around every 3x3 of a unit, where the paper has none
and crops the shortcut; no ReLU follows a unit's sum; the doublings are transposed 3x3 convolutions; a dropout lies
inside every unit, off with `dropout=0`.
"""

from __future__ import annotations

from torch import Tensor, nn

from ...errors import UserError
from .layers import Norm, needs_bias, normalization, start
from .normalization import Noise

WIDTHS = (64, 128, 256)
"""At the picture's sides, their half and their quarter."""
DROPOUT = 0.5


class ResidualUnit(nn.Module):
    """Two reflected 3x3 convolutions with a dropout between them, beside the identity."""

    def __init__(self, width: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        bias = needs_bias(norm, False)
        self.branch = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            normalization(norm, width),
            nn.ReLU(),
            Noise(dropout),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3, bias=bias),
            normalization(norm, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) of the same, h and w at least 2."""
        return x + self.branch(x)


class ResNetGenerator(nn.Module):
    """A picture in, a picture out, by residual units at a quarter of its sides.

    Args:
        channels: of the picture that goes in.
        answers: channels of the answer.
        blocks: residual units, 9 or 6 in the papers.
        norm: "batch" or "instance".
        dropout: probability in every unit.

    Attributes:
        stride: the sides of pictures are multiples of it.
        smallest: the least sides of a picture: its quarter has two places then, which can be reflected and normalised.

    Raises:
        UserError: fewer than no units, or no such normalisation.
    """

    stride = 4
    smallest = 8

    def __init__(
        self, channels: int, answers: int, blocks: int = 9, norm: Norm = "batch", dropout: float = DROPOUT
    ) -> None:
        super().__init__()
        if blocks < 0:
            raise UserError(f"A ResNet generator has 0 or more units, not {blocks}.")
        bias = needs_bias(norm, False)
        whole, half, quarter = WIDTHS
        self.body = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(channels, whole, 7, bias=bias))
        self.body.extend((normalization(norm, whole), nn.ReLU()))
        for before, width in ((whole, half), (half, quarter)):
            down = nn.Conv2d(before, width, 3, 2, padding=1, bias=bias)
            self.body.extend((down, normalization(norm, width), nn.ReLU()))
        self.body.extend(ResidualUnit(quarter, norm, dropout) for _ in range(blocks))
        for before, width in ((quarter, half), (half, whole)):
            up = nn.ConvTranspose2d(before, width, 3, 2, padding=1, output_padding=1, bias=bias)
            self.body.extend((up, normalization(norm, width), nn.ReLU()))
        self.body.append(nn.ReflectionPad2d(3))
        self.predict = nn.Conv2d(whole, answers, 7)
        start(self)

    def forward(self, picture: Tensor) -> Tensor:
        """The answer in front of its tanh.

        Args:
            picture: (B, channels, H, W) in [-1, 1], H and W multiples of 4 and at least 8.

        Returns:
            (B, answers, H, W), linear.
        """
        return self.predict(self.body(picture))
