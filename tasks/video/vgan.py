"""VGAN: generators with two streams, a moving foreground in front of a static background, and their discriminator.

Vondrick, Pirsiavash, Torralba: Generating Videos with Scene Dynamics. NIPS 2016, arXiv:1609.02612, with the layers of
the authors' Torch code. A clip of 32 frames is

    clip = mask * foreground + (1 - mask) * background,   0 <= mask <= 1

| network | parameters |
| ------- | ---------- |
| from noise, two streams | 16,245,383: background 3,577,667, foreground 12,651,328, heads 12,291 and 4,097 |
| from noise, one stream | 12,663,619 |
| discriminator of both | 11,057,858 |
| from a frame, two streams | 68,216,455: encoder 11,021,696, background 11,018,883, foreground 46,143,104, heads 24,579 and 8,193 |
| its discriminator | 44,135,810 |

The network from a frame is twice as wide. Clips are (B, C, T, H, W), as 3-D convolutions need them, with values in [-1,
1]. Every convolution has a bias. Batch normalization has an epsilon of 1e-3 in discriminators and encoders, and torch's
default elsewhere.
"""  # noqa: E501

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...errors import UserError

NOISE = 100
"""Length of a noise vector."""
CLIP_FRAMES, CLIP_SIZE, STRIDE = 32, 64, 16
"""Frames of a clip, height and width of a clip from noise, and stride of the code that a clip is generated from."""
SLOPE, EPSILON = 0.2, 1e-3
WEIGHT_STD, SCALE_STD = 0.01, 0.02


class Layers(NamedTuple):
    """A generated clip and what it is composed of, in [-1, 1].

    Attributes:
        clip: (B, 3, T, H, W); of one stream, the foreground.
        mask: (B, 1, T, H, W) in [0, 1]; ones if there is one stream.
        foreground: (B, 3, T, H, W).
        background: (B, 3, 1, H, W); None if there is one stream.
    """

    clip: Tensor
    mask: Tensor
    foreground: Tensor
    background: Tensor | None


class Generator(nn.Module):
    """A code to a clip; `NoiseGenerator` and `FrameGenerator` say from what.

    Args:
        first: layers from the code to the first map of the foreground.
        background: layers from the code to the background; None for one stream.
        widths: channels of the maps of the foreground.
    """

    def __init__(self, first: list[nn.Module], background: nn.Module | None, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.foreground = nn.Sequential(*first)
        for channels, width in pairwise(widths):
            self.foreground += nn.Sequential(*_upsampling(nn.ConvTranspose3d, nn.BatchNorm3d, channels, width))
        self.foreground_head = nn.Sequential(nn.ConvTranspose3d(widths[-1], 3, 4, 2, 1), nn.Tanh())
        self.mask_head = self.background = None
        if background is not None:
            self.mask_head = nn.Sequential(nn.ConvTranspose3d(widths[-1], 1, 4, 2, 1), nn.Sigmoid())
            self.background = background

    def compose(self, code: Tensor) -> Layers:
        """The clip of a code, (B, C, h, w)."""
        features = self.foreground(code[:, :, None])
        foreground = self.foreground_head(features).float()
        if self.background is None or self.mask_head is None:
            return Layers(foreground, torch.ones_like(foreground[:, :1]), foreground, None)
        mask, background = self.mask_head(features).float(), self.background(code).float()[:, :, None]
        return Layers(mask * foreground + (1 - mask) * background, mask, foreground, background)


class NoiseGenerator(Generator):
    """(B, 100) noise to clips of 32 frames of 64x64.

    Args:
        width: channels of the first maps; 512 in the paper.
        two_streams: whether there are a mask and a background.
    """

    def __init__(self, width: int = 512, two_streams: bool = True) -> None:
        widths = (width, width // 2, width // 4, width // 8)
        first = [nn.ConvTranspose3d(NOISE, width, (2, 4, 4)), nn.BatchNorm3d(width), nn.ReLU()]
        code = [nn.ConvTranspose2d(NOISE, width, 4), nn.BatchNorm2d(width), nn.ReLU()]
        super().__init__(first, nn.Sequential(*code, *_image_layers(widths)) if two_streams else None, widths)
        init_weights(self)

    def forward(self, noise: Tensor) -> Layers:
        """(B, 100) to clips (B, 3, 32, 64, 64)."""
        return self.compose(noise[..., None, None])


class FrameGenerator(Generator):
    """Given frames to the clip of 32 frames that begins with the last of them.

    Args:
        in_channels: of the given frames together, 3 in the paper.
        width: channels of the code; 1024 in the paper.
        two_streams: whether there are a mask and a background.
    """

    def __init__(self, in_channels: int = 3, width: int = 1024, two_streams: bool = True) -> None:
        widths = (width, width // 2, width // 4, width // 8)
        first = [nn.ConvTranspose3d(width, width, (2, 1, 1)), nn.BatchNorm3d(width), nn.ReLU()]
        super().__init__(first, nn.Sequential(*_image_layers(widths)) if two_streams else None, widths)
        # No normalization of the first layer.
        self.encoder = nn.Sequential(nn.Conv2d(in_channels, widths[-1], 4, 2, 1), nn.ReLU())
        for channels, out in zip(widths[:0:-1], widths[-2::-1], strict=True):
            self.encoder += nn.Sequential(
                nn.Conv2d(channels, out, 4, 2, 1), nn.BatchNorm2d(out, eps=EPSILON), nn.ReLU()
            )
        init_weights(self)

    def forward(self, frames: Tensor) -> Layers:
        """(B, in_channels, H, W) in [-1, 1] to clips (B, 3, 32, H, W); H and W are multiples of 16."""
        return self.compose(self.encoder(frames))


class Discriminator(nn.Module):
    """A clip of 32 frames of 64x64 to two logits: generated, real.

    Args:
        width: channels of the first map; 64 in the paper for clips from noise, 128 for clips from a frame.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(3, width, 4, 2, 1), nn.LeakyReLU(SLOPE))
        for channels in (width, 2 * width, 4 * width):
            norm = nn.BatchNorm3d(2 * channels, eps=EPSILON)
            self.body += nn.Sequential(nn.Conv3d(channels, 2 * channels, 4, 2, 1), norm, nn.LeakyReLU(SLOPE))
        self.predict = nn.Conv3d(8 * width, 2, (2, 4, 4))
        init_weights(self)

    def forward(self, clip: Tensor) -> Tensor:
        """(B, 3, 32, 64, 64) in [-1, 1] to logits (B, 2).

        Raises:
            UserError: clips of another size.
        """
        if clip.shape[2:] != (CLIP_FRAMES, CLIP_SIZE, CLIP_SIZE):
            frames, height, width = clip.shape[2:]
            raise UserError(
                f"The discriminator reads {CLIP_FRAMES} frames of {CLIP_SIZE}x{CLIP_SIZE}, not {frames} of "
                f"{width}x{height}: set --image-size {CLIP_SIZE} {CLIP_SIZE} and --frames."
            )
        return self.predict(self.body(clip)).flatten(1).float()


def _upsampling(convolution: type, normalization: type, channels: int, width: int) -> list[nn.Module]:
    return [convolution(channels, width, 4, 2, 1), normalization(width), nn.ReLU()]


def _image_layers(widths: tuple[int, ...]) -> list[nn.Module]:
    """Layers from a map of the first width to an image in [-1, 1] at 16 times its size."""
    layers = []
    for channels, width in pairwise(widths):
        layers += _upsampling(nn.ConvTranspose2d, nn.BatchNorm2d, channels, width)
    return [*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh()]


def init_weights(module: nn.Module) -> None:
    """Initialize as the authors do: weights N(0, 0.01), scales of normalization N(1, 0.02), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.conv._ConvNd):
            nn.init.normal_(layer.weight, 0.0, WEIGHT_STD)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(layer.weight, 1.0, SCALE_STD)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
