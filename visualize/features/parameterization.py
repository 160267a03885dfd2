"""Images as parameters of an optimization, their priors, and random transforms before every forward pass.

Pixels, or a Fourier spectrum with decorrelated colors.

Fourier: Olah, Mordvintsev, Schubert: Feature Visualization. Distill 2017, with the constants of its code, lucid. A
frequency of f cycles per pixel is scaled by 1 / f, as in natural images (`decay_power=1`, as in lucid; larger values
give larger shapes with more contrast), and colors are mixed with the correlations of natural images. A step then
changes large shapes as easily as small ones; with pixels this takes many small consistent steps.

Priors: regularizers of feature visualization and feature inversion.

    alpha norm        sum over pixels and channels of |x|^alpha, x about gray
    total variation   sum of ((right - here)^2 + (below - here)^2)^(beta / 2); at the last column and row the difference
                      is 0
    BN statistics     distance of the batch statistics at every batch normalization to its running statistics

The first two: Mahendran, Vedaldi: Understanding Deep Image Representations by Inverting Them. CVPR 2015,
arXiv:1412.0035, section 2. The third: Yin et al.: Dreaming to Distill. CVPR 2020, arXiv:1912.08795, equation 4. The
statistics are those of the entire batch: a single image cannot have the statistics of a data set.

Transforms, for robustness of feature visualization (Olah et al. 2017): lucid pads, jitters, scales, rotates and jitters
again. Here the five are composed to one affine transform and one interpolation, and the size is unchanged: the border
is filled with gray, like lucid's padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ...datasets.core.geometry import Size

COLOR_CORRELATION_SQRT = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""Square root of the covariance of R, G and B in natural images: maps three independent numbers to a color."""
INIT_STD = 0.01
"""Standard deviation of the initial parameters."""
CONTRAST = 0.25
"""Factor of the inverse transform, before the sigmoid."""
EPSILON = 1e-10
"""Minimum under a square root, whose gradient at 0 is infinite. The code of 2015 uses 1e-5 for squared bytes."""
FIRST_LAYER_WEIGHT = 10.0
"""Weight of the first normalization, which detects fine noise; in the code of 2020, not in the paper."""
SHIFTS = (8, 4)
"""Ranges of the two shifts, in pixels of 224, centered at 0."""
SCALES = tuple(1 + step / 100 for step in range(-10, 11, 2))
ANGLES = (*range(-10, 11), 0, 0, 0, 0, 0)
"""Degrees."""
GRAY = 0.5


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
    """Pixels, initialized with noise of standard deviation `init_std` about gray, a number or one per channel.

    After every step they are blurred by a Gaussian of `blur` pixels; 0: not.
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

    Three channels are decorrelated colors. Amplitudes are divided by the frequency to the power `decay_power`.
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


def alpha_norm(x: Tensor, alpha: float = 6.0) -> Tensor:
    """sum |x|^alpha, (B,) from (B, C, H, W) about 0; without the root."""
    return x.abs().pow(alpha).flatten(1).sum(1)


def total_variation(x: Tensor, beta: float = 2.0) -> Tensor:
    """Total variation, (B,) from (B, C, H, W). With beta below 2, edges cost less, and spikes too."""
    right = functional.pad(x.diff(dim=3), (0, 1))
    below = functional.pad(x.diff(dim=2), (0, 0, 0, 1))
    squares = right.square() + below.square()
    if beta != 2:
        squares = squares.clamp_min(EPSILON).pow(beta / 2)
    return squares.flatten(1).sum(1)


@contextmanager
def bn_statistics_loss(model: nn.Module) -> Iterator[Callable[[], Tensor]]:
    """Context that records the batch statistics of forward passes at every batch normalization.

    Yields:
        A function that returns the loss of the passes since its last call: the sum over the normalizations of the
        distances of the channels' means and variances, over all images and positions, to the running statistics.
    """
    distances: list[Tensor] = []

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = layer.running_mean, layer.running_var
        assert isinstance(mean, Tensor) and isinstance(variance, Tensor)
        maps = inputs[0].float()
        if maps.is_meta:
            return  # only shapes are traced
        distance = _distance(maps.mean((0, 2, 3)), mean) + _distance(maps.var((0, 2, 3), correction=0), variance)
        distances.append(distance if distances else FIRST_LAYER_WEIGHT * distance)

    def pop_loss() -> Tensor:
        distance = torch.stack(distances).sum() if distances else torch.zeros(())
        distances.clear()
        return distance

    hooks = [module.register_forward_pre_hook(hook) for module in model.modules() if _has_running_statistics(module)]
    try:
        yield pop_loss
    finally:
        for handle in hooks:
            handle.remove()


def _has_running_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None and not isinstance(module, nn.BatchNorm1d)


def _distance(batch_statistic: Tensor, running_statistic: Tensor) -> Tensor:
    return (batch_statistic - running_statistic).square().sum().clamp_min(EPSILON).sqrt()


def random_transform(generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Sample a (2, 3) matrix from the transformed image to the image, in units of half its size, like lucid's."""
    angle = math.radians(strength * _choice(ANGLES, generator))
    scale = _choice(SCALES, generator) ** strength
    shifts = torch.rand(len(SHIFTS), 2, generator=generator) - 0.5
    x, y = (shifts * torch.tensor(SHIFTS)[:, None]).sum(0) * strength * 2 / 224
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    return torch.tensor([[cosine, -sine, x], [sine, cosine, y]])


def apply_transform(image: Tensor, transform: Tensor) -> Tensor:
    """Transform (B, C, H, W) bilinearly at the same size."""
    height, width = image.shape[-2:]
    # Rotations are rotations in pixels also for images that are not square.
    aspect = torch.tensor([[1.0, height / width, 1.0], [width / height, 1.0, 1.0]])
    matrix = (transform * aspect).to(image)
    coordinates = functional.affine_grid(matrix.expand(len(image), 2, 3), list(image.shape), align_corners=False)
    return functional.grid_sample(image - GRAY, coordinates, padding_mode="zeros", align_corners=False) + GRAY


def _choice(values: tuple[float, ...], generator: torch.Generator) -> float:
    return values[int(torch.randint(len(values), (), generator=generator))]
