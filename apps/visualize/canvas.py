"""What is painted on: a picture as numbers that are changed. "pixels" are the picture, "fourier" its waves.

Fourier: Olah, Mordvintsev, Schubert: Feature Visualization. Distill 2017, and the constants of its code, lucid. A wave
of f cycles a pixel is scaled by 1 / f, as it is in photographs (`falloff=1`, lucid's; more makes larger shapes with
more contrast), and colours are mixed as they occur together: a step changes large shapes as easily as small ones, which
as pixels would need many small steps that agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ...datasets.geometry import Size

COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""Root of the covariance of R, G and B in photographs: from three independent numbers to a colour."""
SPREAD = 0.01
"""Standard deviation of the numbers at the start."""
CONTRAST = 0.25
"""Of the waves' sum, in front of the sigmoid."""


class Canvas:
    """A batch of pictures as numbers.

    Attributes:
        numbers: what is changed; it requires gradients.
    """

    numbers: Tensor

    def picture(self, part: float = 1.0) -> Tensor:
        """(B, C, H, W), differentiable with respect to the numbers; of waves also smaller, by a `part` of the sides."""
        raise NotImplementedError

    def settle(self) -> None:
        """Bring the numbers back to what a picture can be, after a step."""


class Pixels(Canvas):
    """The picture itself, from noise about grey.

    Args:
        count: B.
        grey: the colour of nothing, in [0, 1] a channel; a single number stands for all channels.
        channels: C.
        size: (height, width).
        stream: of the noise at the start, drawn on the CPU.
        blur: standard deviation, in pixels, of what smooths the picture after every step; 0: nothing does.
        spread: standard deviation of the noise at the start.
        device: where it lies; None: the CPU.
    """

    def __init__(
        self,
        count: int,
        grey: Sequence[float],
        channels: int,
        size: Size,
        stream: torch.Generator,
        blur: float = 0.0,
        spread: float = SPREAD,
        device: torch.device | None = None,
    ) -> None:
        self.blur = blur
        noise = spread * _noise(count, (channels, *size), stream)
        self.numbers = (noise + noise.new_tensor(grey).view(1, -1, 1, 1)).to(device).requires_grad_()

    def picture(self, part: float = 1.0) -> Tensor:
        return self.numbers

    @torch.no_grad()
    def settle(self) -> None:
        if self.blur:
            self.numbers.copy_(blurred(self.numbers, self.blur))
        self.numbers.clamp_(0, 1)


class Fourier(Canvas):
    """A spectrum, made natural and brought to (0, 1) by a sigmoid; noise at the start.

    Args:
        count: B.
        channels: C; of three, the colours are mixed.
        size: (height, width), odd ones too.
        stream: of the noise, drawn on the CPU.
        falloff: power of the frequency by which waves are divided.
        device: where the numbers lie; None: the CPU.
    """

    def __init__(
        self,
        count: int,
        channels: int,
        size: Size,
        stream: torch.Generator,
        falloff: float = 1.0,
        device: torch.device | None = None,
    ) -> None:
        self.size = size
        self.scale = wave_scale(size, falloff).to(device)
        noise = SPREAD * _noise(count, (channels, *self.scale.shape, 2), stream)
        self.numbers = noise.to(device).requires_grad_()

    def picture(self, part: float = 1.0) -> Tensor:
        waves = torch.view_as_complex(self.numbers) * self.scale
        whole, (height, width) = self.size[0], (max(1, round(part * side)) for side in self.size)
        # A smaller picture leaves the short waves out: it is the larger one's at every so many pixels, without them.
        waves = torch.cat((waves[:, :, : (height + 1) // 2], waves[:, :, whole - height // 2 :]), 2)
        # torch is told the width, so that odd ones need no column more.
        mixed = torch.fft.irfft2(waves[..., : width // 2 + 1], s=(height, width), norm="forward")
        mixed = CONTRAST / (self.size[0] * self.size[1]) * mixed
        if mixed.shape[1] == len(COLOURS):
            mixed = torch.einsum("oc,bchw->bohw", colour_mixture().to(mixed), mixed)
        return mixed.sigmoid()


def wave_scale(size: Size, falloff: float = 1.0) -> Tensor:
    """(H, W // 2 + 1): sqrt(H W) / f^falloff, where f is no less than one cycle over the longer side."""
    height, width = size
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    return math.sqrt(height * width) / frequency.clamp_min(1 / max(height, width)).pow(falloff)


def colour_mixture() -> Tensor:
    """`COLOURS` with the longest column of length 1, a row for R, G and B each."""
    mixture = torch.tensor(COLOURS)
    return mixture / mixture.norm(dim=0).max()


def _noise(count: int, shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
    """Normal noise, drawn picture by picture: the first is the same however many there are."""
    return torch.stack([torch.randn(shape, generator=stream) for _ in range(count)])


def blurred(x: Tensor, sigma: float) -> Tensor:
    """(B, C, H, W) under a Gaussian of `sigma` pixels, reflected at the border."""
    reach = min(math.ceil(3 * sigma), min(x.shape[-2:]) - 1)
    bell = torch.exp(-torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device).square() / (2 * sigma**2))
    bell = (bell / bell.sum()).expand(x.shape[1], 1, 1, -1)
    padded = functional.pad(x, (reach,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(padded, bell, groups=x.shape[1]), bell.mT, groups=x.shape[1])
