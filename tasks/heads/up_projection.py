"""Up-projection decoder of FCRN on any backbone.

Laina, Rupprecht, Belagiannis, Tombari, Navab: Deeper Depth Prediction with Fully Convolutional Residual Networks.
3DV 2016, arXiv:1606.00373, section 3 and figures 2 and 3. `tasks/depth/networks.py` has the complete model.

An up-convolution doubles a map by inserting zeros (each value goes top left in its 2x2 cell) and convolves it 5x5.
Its fast form convolves the small map with the four parts of that kernel and interleaves the results: three quarters
of the plain form's products are with inserted zeros. With `pad="after"` both forms are the same function
(`to_fast` converts the weights). The authors' TensorFlow code for NYU pads the two-tap kernels before, which is a
6x6 kernel instead; `pad="before"` is for the weights they released, and has no plain form. With "before-swapped", the
2x3 and the 3x2 part also exchange their positions, as in the PyTorch port of XPFly1989, which was trained that way.

The paper's head has no skips and no activation after its first 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones.backbone import Level
from ...errors import UserError
from .head import Head, resize

Form = Literal["fast", "plain"]
Pad = Literal["after", "before", "before-swapped"]
PADS = ("after", "before", "before-swapped")

# Figure 3: kernel (height, width) for each position of a 2x2 cell, and its taps in the 5x5 kernel.
PARTS: dict[str, tuple[tuple[int, int], tuple[slice, slice]]] = {
    "k3x3": ((3, 3), (slice(0, None, 2), slice(0, None, 2))),
    "k3x2": ((3, 2), (slice(0, None, 2), slice(1, None, 2))),
    "k2x3": ((2, 3), (slice(1, None, 2), slice(0, None, 2))),
    "k2x2": ((2, 2), (slice(1, None, 2), slice(1, None, 2))),
}
FINEST_STRIDE = 2
MIN_WIDTH = 16


class UpConvolution(nn.Module):
    """Unpool 2x2, then convolve 5x5 (figure 2a): (B, channels, h, w) to (B, out_channels, 2h, 2w).

    Args:
        channels, out_channels: channels of input and output.
        form: "fast" or "plain"; the same function up to rounding when `pad` is "after".
        pad: side on which the two-tap kernels of the fast form are padded.

    Raises:
        UserError: the plain form with another `pad` than "after".
    """

    def __init__(self, channels: int, out_channels: int, form: Form = "fast", pad: Pad = "after") -> None:
        super().__init__()
        if form not in ("fast", "plain") or pad not in PADS:
            raise UserError(f"An up-convolution is 'fast' or 'plain' and pads 'after' or 'before', not {form}, {pad}.")
        if form == "plain" and pad != "after":
            raise UserError("Padding before is a property of the fast form; the plain form always pads after.")
        self.form, self.pad = form, pad
        if form == "plain":
            self.k5x5 = nn.Conv2d(channels, out_channels, 5, padding=2)
        else:
            for name, (kernel, _) in PARTS.items():
                self.add_module(name, nn.Conv2d(channels, out_channels, kernel))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, out_channels, 2h, 2w)."""
        if self.form == "plain":
            unpooled = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
            unpooled[:, :, ::2, ::2] = x
            return self.k5x5(unpooled)
        after, before = (1, 0) if self.pad == "after" else (0, 1)
        cells = []
        for name, ((height, width), _) in PARTS.items():
            # Three taps need one pixel of padding on both sides, two taps on one side only.
            left, right = (1, 1) if width == 3 else (before, after)
            top, bottom = (1, 1) if height == 3 else (before, after)
            cells.append(self.get_submodule(name)(F.pad(x, (left, right, top, bottom))))
        if self.pad == "before-swapped":
            cells[1], cells[2] = cells[2], cells[1]
        # PARTS lists the positions of a cell row by row, in the order of pixel_shuffle.
        return F.pixel_shuffle(torch.stack(cells, dim=2).flatten(1, 2), 2)


class UpProjection(nn.Module):
    """Two branches from two up-convolutions, summed (figure 2c, d): (B, channels, h, w) to (B, width, 2h, 2w)."""

    def __init__(self, channels: int, width: int, form: Form = "fast", pad: Pad = "after") -> None:
        super().__init__()
        self.up1 = UpConvolution(channels, width, form, pad)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width)
        self.up2 = UpConvolution(channels, width, form, pad)
        self.bn3 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, width, 2h, 2w)."""
        long = self.bn2(self.conv(F.relu(self.bn1(self.up1(x)))))
        return F.relu(long + self.bn3(self.up2(x)))


class SingleUpConvolution(nn.Module):
    """One up-convolution with normalization and ReLU, which the paper compares with up-projection (table 1)."""

    def __init__(self, channels: int, width: int, form: Form = "fast", pad: Pad = "after") -> None:
        super().__init__()
        self.up = UpConvolution(channels, width, form, pad)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, width, 2h, 2w)."""
        return F.relu(self.bn(self.up(x)))


class UpProjectionHead(Head):
    """FCRN's decoder on the coarsest level of a backbone; see `Head`.

    A 1x1 convolution halves the channels; blocks double the size and halve the channels until stride 2; a 3x3
    convolution predicts. A backbone of coarsest stride 32 gets four blocks, one of stride 4 gets one.

    Args:
        levels: see `Head`.
        channels: see `Head`.
        form: see `UpConvolution`.
        pad: see `UpConvolution`.
        dropout: dropout probability before the last convolution.
    """

    block: type[UpProjection] | type[SingleUpConvolution] = UpProjection

    def __init__(
        self,
        levels: tuple[Level, ...],
        channels: int,
        form: Form = "fast",
        pad: Pad = "after",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(levels, channels)
        width = max(levels[-1].channels // 2, MIN_WIDTH)
        self.conv = nn.Conv2d(levels[-1].channels, width, 1)
        self.bn = nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        stride = levels[-1].stride
        while stride >= 2 * FINEST_STRIDE:
            narrower = max(width // 2, MIN_WIDTH)
            blocks.append(self.block(width, narrower, form, pad))
            width, stride = narrower, stride // 2
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.predict = nn.Conv2d(width, channels, 3, padding=1)

    def native(self, features: list[Tensor]) -> Tensor:
        """(B, channels, h, w) at the head's own resolution: the coarsest level, doubled once per block."""
        return self.predict(self.dropout(self.blocks(self.bn(self.conv(features[-1])))))

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """(B, channels, *size); see `Head.forward`."""
        return resize(self.native(features), size)


class UpConvolutionHead(UpProjectionHead):
    """`UpProjectionHead` with one up-convolution per block: the paper's ResNet-UpConv."""

    block = SingleUpConvolution


def to_fast(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights of the plain form to the fast form with `pad="after"`, the same function.

    Weights trained in the fast form cannot be converted back: their four biases may differ.

    Args:
        state: state dict with plain `UpConvolution`s under any names; other entries are passed through.
    """
    fast: dict[str, Tensor] = {}
    for name, value in state.items():
        prefix, plain, parameter = name.rpartition("k5x5.")
        if not plain:
            fast[name] = value
            continue
        for part, (_, taps) in PARTS.items():
            fast[f"{prefix}{part}.{parameter}"] = (value[:, :, *taps] if parameter == "weight" else value).clone()
    return fast
