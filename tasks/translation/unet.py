"""The U-Net generator of pix2pix: as many halvings as the picture allows, and a skip around each.

Isola, Zhu, Zhou, Efros: Image-to-Image Translation with Conditional Adversarial Networks. CVPR 2017, arXiv:1611.07004,
appendix 6.1.1. 54,413,955 parameters with eight halvings (256 pixels and more), 41,828,995 with seven (128); without
the skips, the paper's encoder-decoder, 39,075,459. 4x4 convolutions of stride 2, leaky ReLUs before those that go down,
ReLUs before those that go up.

Where the authors' Torch code and their PyTorch port differ, the port is the default:
- dropout follows the wide layers that read two maps, u2, u3 and u4 of eight (`dropout="port"`), or the three deepest,
  u1, u2 and u3 (`dropout="torch"`). With seven halvings the port has it behind u2 and u3;
- no convolution but the last has a bias, or all have one (`biased`, 54,419,459 parameters). The Torch code sets every
  bias to 0 before every step, so that it trains without any.
The deepest map has no normalisation: of a picture of 256 it is a single place, which has no spread.

A skip carries the activated map, which the port's in-place ReLU leaves in the block's input. Behind the ReLU of the way
up there is no difference: max(leaky(x), 0) is max(x, 0).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import UserError, unknown_name
from .layers import SLOPE, Norm, needs_bias, normalization, start
from .normalization import Noise

# Appendix 6.1.1: "C64-C128-C256-C512-C512-C512-C512-C512", and the same backwards.
WIDTH = 64
WIDEST = 8
"""Times `WIDTH`."""
DROPOUT = 0.5
PLACES = ("port", "torch")


class UNetGenerator(nn.Module):
    """A picture in, a picture out: `downs` halvings, as many doublings, and skips between them.

    Args:
        channels: of the picture that goes in.
        answers: channels of the answer.
        downs: how often the picture is halved, 2 or more.
        norm: "batch", or "instance", whose convolutions all have biases.
        dropout: where it lies, see the file's head.
        skips: whether a doubling also reads the map of its resolution on the way down.
        biased: a bias in every convolution.
        width: of the first map.

    Attributes:
        stride: the sides of pictures are multiples of it, 2 to the power of `downs`.
        smallest: the least sides of a picture.

    Raises:
        UserError: fewer than 2 halvings, or no such normalisation or place of the dropout.
    """

    def __init__(
        self,
        channels: int,
        answers: int,
        downs: int = 8,
        norm: Norm = "batch",
        dropout: Literal["port", "torch"] = "port",
        skips: bool = True,
        biased: bool = False,
        width: int = WIDTH,
    ) -> None:
        super().__init__()
        if downs < 2:
            raise UserError(f"A U-Net halves the picture at least twice, not {downs} times.")
        if dropout not in PLACES:
            raise unknown_name("place of the dropout", dropout, PLACES)
        self.stride = self.smallest = 2**downs
        self.skips = skips
        widths = [width * min(2**level, WIDEST) for level in range(downs)]
        bias = needs_bias(norm, biased)

        self.downs = nn.ModuleList()
        for level, (before, made) in enumerate(zip([channels, *widths], widths, strict=False)):
            down = nn.Sequential(nn.Conv2d(before, made, 4, 2, padding=1, bias=bias))
            if 0 < level < downs - 1:
                down.append(normalization(norm, made))
            self.downs.append(down)

        self.ups = nn.ModuleList()
        noisy = range(2, downs - 3) if dropout == "port" else range(1, 4)
        for place, level in enumerate(reversed(range(1, downs)), 1):
            read = widths[level] * (2 if skips and place > 1 else 1)
            up = nn.Sequential(
                nn.ConvTranspose2d(read, widths[level - 1], 4, 2, padding=1, bias=bias),
                normalization(norm, widths[level - 1]),
            )
            if place in noisy:
                up.append(Noise(DROPOUT))
            self.ups.append(up)
        self.predict = nn.ConvTranspose2d(widths[0] * (2 if skips else 1), answers, 4, 2, padding=1)
        start(self)

    def forward(self, picture: Tensor) -> Tensor:
        """The answer in front of its tanh.

        Args:
            picture: (B, channels, H, W) in [-1, 1], H and W multiples of `stride`.

        Returns:
            (B, answers, H, W), linear.
        """
        x = self.downs[0](picture)
        kept: list[Tensor] = []
        for down in self.downs[1:]:
            kept.append(functional.leaky_relu(x, SLOPE))
            x = down(kept[-1])
        for up in self.ups:
            x = up(functional.relu(x))
            skip = kept.pop()
            if self.skips:
                x = torch.cat((skip, x), dim=1)
        return self.predict(functional.relu(x))
