"""U-Net generator of pix2pix: downsampling as often as the image allows, with a skip connection at each resolution.

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
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import UserError, unknown_name
from .layers import SLOPE, EvalDropout, Norm, init_weights, needs_bias, normalization

# Appendix 6.1.1: "C64-C128-C256-C512-C512-C512-C512-C512", and the same backwards.
WIDTH = 64
MAX_WIDTH_FACTOR = 8
"""Maximum width over `WIDTH`."""
DROPOUT = 0.5
DROPOUT_VARIANTS = ("port", "torch")


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
        """The output before the tanh.

        Args:
            image: (B, in_channels, H, W) in [-1, 1], H and W multiples of `stride`.

        Returns:
            (B, out_channels, H, W), linear.
        """
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
