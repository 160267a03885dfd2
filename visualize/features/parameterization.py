"""Image parameterizations for optimization: pixels, or a Fourier spectrum with decorrelated colors.

Fourier: Olah, Mordvintsev, Schubert: Feature Visualization. Distill 2017, with the constants of its code, lucid. A
frequency of f cycles per pixel is scaled by 1 / f, as in natural images (`decay_power=1`, as in lucid; larger values
give larger shapes with more contrast), and colors are mixed with the correlations of natural images. A step then
changes large shapes as easily as small ones; with pixels this takes many small consistent steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ...datasets.core.geometry import Size

COLOR_CORRELATION_SQRT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""Square root of the covariance of R, G and B in natural images: maps three independent numbers to a color."""
INIT_STD = 0.01
"""Standard deviation of the initial parameters."""
CONTRAST = 0.25
"""Factor of the inverse transform, before the sigmoid."""


class Parameterization:
    """A batch of images as optimizable parameters.

    Attributes:
        params: the parameters; they require gradients.
    """

    params: Tensor

    def to_image(self, scale: float = 1.0) -> Tensor:
        """(B, C, H, W), differentiable with respect to the parameters; FFT images can be downscaled by `scale`."""
        raise NotImplementedError

    def clamp(self) -> None:
        """Project the parameters to valid images after a step."""


class PixelParam(Parameterization):
    """Pixels, initialized with noise about gray.

    Args:
        count: B.
        gray: neutral color, in [0, 1] per channel; a single number is used for all channels.
        channels: C.
        size: (height, width).
        generator: generates the initial noise, on the CPU.
        blur: standard deviation, in pixels, of a Gaussian blur after every step; 0: none.
        init_std: standard deviation of the initial noise.
        device: device of the parameters; None: the CPU.
    """

    def __init__(
        self,
        count: int,
        gray: Sequence[float],
        channels: int,
        size: Size,
        generator: torch.Generator,
        blur: float = 0.0,
        init_std: float = INIT_STD,
        device: torch.device | None = None,
    ) -> None:
        self.blur = blur
        noise = init_std * _noise(count, (channels, *size), generator)
        self.params = (noise + noise.new_tensor(gray).view(1, -1, 1, 1)).to(device).requires_grad_()

    def to_image(self, scale: float = 1.0) -> Tensor:
        return self.params

    @torch.no_grad()
    def clamp(self) -> None:
        if self.blur:
            self.params.copy_(gaussian_blur(self.params, self.blur))
        self.params.clamp_(0, 1)


class FFTParam(Parameterization):
    """Fourier spectrum, scaled by frequency and mapped to (0, 1) by a sigmoid; initialized with noise.

    Args:
        count: B.
        channels: C; three channels are decorrelated colors.
        size: (height, width), even or odd.
        generator: generates the initial noise, on the CPU.
        decay_power: power of the frequency by which amplitudes are divided.
        device: device of the parameters; None: the CPU.
    """

    def __init__(
        self,
        count: int,
        channels: int,
        size: Size,
        generator: torch.Generator,
        decay_power: float = 1.0,
        device: torch.device | None = None,
    ) -> None:
        self.size = size
        self.frequency_scale = frequency_scale(size, decay_power).to(device)
        noise = INIT_STD * _noise(count, (channels, *self.frequency_scale.shape, 2), generator)
        self.params = noise.to(device).requires_grad_()

    def to_image(self, scale: float = 1.0) -> Tensor:
        spectrum = torch.view_as_complex(self.params) * self.frequency_scale
        full_height, (height, width) = self.size[0], (max(1, round(scale * length)) for length in self.size)
        # Downscale in the frequency domain, by leaving out the high frequencies.
        spectrum = torch.cat((spectrum[:, :, : (height + 1) // 2], spectrum[:, :, full_height - height // 2 :]), 2)
        # irfft2 needs the width, because odd and even widths have spectra of the same size.
        pixels = torch.fft.irfft2(spectrum[..., : width // 2 + 1], s=(height, width), norm="forward")
        pixels = CONTRAST / (self.size[0] * self.size[1]) * pixels
        if pixels.shape[1] == len(COLOR_CORRELATION_SQRT):
            pixels = torch.einsum("oc,bchw->bohw", color_correlation().to(pixels), pixels)
        return pixels.sigmoid()


def frequency_scale(size: Size, decay_power: float = 1.0) -> Tensor:
    """(H, W // 2 + 1): sqrt(H W) / f^decay_power, where f is at least one cycle over the longer side."""
    height, width = size
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    return math.sqrt(height * width) / frequency.clamp_min(1 / max(height, width)).pow(decay_power)


def color_correlation() -> Tensor:
    """`COLOR_CORRELATION_SQRT` normalized so that its longest column has length 1; one row for each of R, G and B."""
    mixture = torch.tensor(COLOR_CORRELATION_SQRT)
    return mixture / mixture.norm(dim=0).max()


def _noise(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Normal noise, generated image by image, so that the first images do not depend on the count."""
    return torch.stack([torch.randn(shape, generator=generator) for _ in range(count)])


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, H, W) with `sigma` pixels and reflection padding."""
    radius = min(math.ceil(3 * sigma), min(x.shape[-2:]) - 1)
    kernel = torch.exp(-torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device).square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    padded = functional.pad(x, (radius,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(padded, kernel, groups=x.shape[1]), kernel.mT, groups=x.shape[1])
