"""Feature inversion: reconstruct an image from the features of a level.

Mahendran, Vedaldi: Understanding Deep Image Representations by Inverting Them. CVPR 2015, arXiv:1412.0035. With F the
level, x the image about gray in units of 1/255, and x0 the original, its authors' code minimizes

    |F(x) - F(x0)|^2 / |F(x0)|^2 + (tv_weight / 2 TV(x) + l_alpha_weight / 2 sum |x|^6) / |x0|^2

Deviations: Adam with cosine decay, whose steps suit every model; the authors' momentum and schedule are
`optimizer="momentum"`. Pixels are clamped to [0, 1] after every step. `param="fft"` is a Fourier parameterization (see
`parameterization.py`), which recovers more of the scene from deep levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..core.result import Progress, Visualization

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..core.model import InspectedModel
    from .parameterization import Parameterization

ALPHA = 6.0
PIXEL_SCALE = 255.0
"""The authors' pixels are in units of 1/255."""
MOMENTUM = 0.9
LR_SCHEDULE = ((0.25, 0.004), (0.75, 0.0004), (1.0, 0.00004))
"""End, as a fraction of the steps, and learning rate: 100, 200 and 100 of 400 steps. Changes reset the momentum."""


@dataclass(frozen=True, kw_only=True)
class InversionOptions:
    """Options of feature inversion."""

    seed: int = 0
    """Random seed."""
    amp: Literal["auto", "bf16", "off"] = "off"
    """Run the model in bfloat16: if the hardware supports it (auto), always (bf16) or never (off)."""
    steps: int = 400
    """Number of optimization steps; the authors use 400."""
    param: Literal["pixel", "fft"] = "pixel"
    """Image parameterization: pixel, or fft, a Fourier spectrum with decorrelated colors."""
    optimizer: Literal["adam", "momentum"] = "adam"
    """Optimizer: adam, or momentum, the authors' optimizer and schedule (--param pixel)."""
    lr: float = 0.05
    """Initial learning rate of Adam; it decays with a cosine schedule."""
    tv_weight: float = 10.0
    """Weight of the total variation; the authors use 1 for the first levels, then 10, and 100 for the last convolutions
    and the classifier."""
    tv_beta: float = 2.0
    """Exponent of the total variation; 1 gives spikes for strided levels."""
    l_alpha_weight: float = 8e-10
    """Weight of the sum of sixth powers of the pixels."""


class InversionResult(NamedTuple):
    """Reconstruction.

    Attributes:
        pixels: (1, C, H, W) in [0, 1], for every model input.
        error: relative error |F(x) - F(x0)|^2 / |F(x0)|^2; 0: identical features, 1: as far as zero features.
    """

    pixels: tuple[Tensor, ...]
    error: float


def invert_features(
    model: InspectedModel,
    pixels: tuple[Tensor, ...],
    level: str,
    options: InversionOptions | None = None,
    callback: Callable[[int, float], None] | None = None,
) -> InversionResult:
    """Optimize an image, from noise, until its features match those of the original.

    Args:
        model: the model.
        pixels: x0, (1, C, H, W) in [0, 1] each.
        level: F, a level of the backbone or any submodule.
        options: options of the optimization.
        callback: called after every step with its number, from 1, and the relative error.

    Raises:
        UserError: an unknown level, one that is 0 on this image, or an invalid option.
    """
    import torch

    from ...errors import UserError
    from ...tasks.device import use_bf16
    from .parameterization import alpha_norm, total_variation

    options = validate_options(options or InversionOptions())
    pixels = tuple(each.detach().to(model.device) for each in pixels)
    with torch.no_grad():
        target_activations = model.forward(pixels, (level,), run_output=False).levels[level].float()
    if not bool(target_activations.any()):
        raise UserError(f"'{level}' of {model.name} is 0 everywhere on this image; choose another level.")
    grays = [each.new_tensor(model.neutral_color).view(1, -1, 1, 1) for each in pixels]
    centered = [PIXEL_SCALE * (each - gray) for each, gray in zip(pixels, grays, strict=True)]
    squared_norm = float(torch.stack([each.square().sum() for each in centered]).sum()) or 1.0
    parameterizations = _parameterizations(model, pixels, squared_norm, options)
    optimizer, set_lr = _optimizer(parameterizations, options, squared_norm)
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=use_bf16(options.amp, model.device))

    def relative_error(images: tuple[Tensor, ...]) -> Tensor:
        activations = model.forward(images, (level,), run_output=False).levels[level].float()
        return (activations - target_activations).square().sum() / target_activations.square().sum()

    with torch.enable_grad():
        for step in range(options.steps):
            images = tuple(parameterization.to_image() for parameterization in parameterizations)
            with autocast:
                error = relative_error(images)
            loss = error
            for image, gray in zip(images, grays, strict=True):
                x = PIXEL_SCALE * (image - gray)
                smoothness = options.tv_weight / 2 * total_variation(x, options.tv_beta)
                loss = loss + ((smoothness + options.l_alpha_weight / 2 * alpha_norm(x, ALPHA)) / squared_norm).sum()
            set_lr(step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for parameterization in parameterizations:
                parameterization.clamp()
            if callback is not None:
                callback(step + 1, float(error.detach()))
    images = tuple(parameterization.to_image().detach() for parameterization in parameterizations)
    with torch.no_grad():
        return InversionResult(images, float(relative_error(images)))


def validate_options(options: InversionOptions) -> InversionOptions:
    """Check the options."""
    from ...errors import UserError

    if options.steps < 1:
        raise UserError(f"--steps is {options.steps}; it must be at least 1.")
    for name in ("lr", "tv_weight", "l_alpha_weight"):
        if not getattr(options, name) >= 0:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(options, name):g}; it must be at least 0.")
    if options.tv_beta < 1:
        raise UserError(f"--tv-beta is {options.tv_beta:g}; it must be at least 1.")
    if options.optimizer == "momentum" and options.param != "pixel":
        raise UserError("--optimizer momentum is for pixels only; use --optimizer adam with --param fft.")
    return options


def _parameterizations(
    model: InspectedModel, pixels: tuple[Tensor, ...], squared_norm: float, options: InversionOptions
) -> list[Parameterization]:
    """Noise of the size of the inputs; for pixels, with the same distance from gray as the inputs."""
    import torch

    from .parameterization import FFTParam, PixelParam

    assert model.optimized_channels
    generator = torch.Generator("cpu").manual_seed(options.seed)
    init_std = math.sqrt(squared_norm / sum(each.numel() for each in pixels)) / PIXEL_SCALE
    parameterizations: list[Parameterization] = []
    for each in pixels:
        channels, image_size = each.shape[1], (each.shape[2], each.shape[3])
        if options.param == "fft":
            parameterizations.append(FFTParam(1, channels, image_size, generator, device=model.device))
        else:
            parameterizations.append(
                PixelParam(
                    1, model.neutral_color, channels, image_size, generator, init_std=init_std, device=model.device
                )
            )
    return parameterizations


def _optimizer(
    parameterizations: list[Parameterization], options: InversionOptions, squared_norm: float
) -> tuple[torch.optim.Optimizer, Callable[[int], None]]:
    """The optimizer, and a function that sets its learning rate before a step."""
    import torch

    params = [parameterization.params for parameterization in parameterizations]
    if options.optimizer == "adam":
        adam = torch.optim.Adam(params, options.lr)

        def cosine(step: int) -> None:
            adam.param_groups[0]["lr"] = options.lr * (1 + math.cos(math.pi * step / options.steps)) / 2

        return adam, cosine
    # The authors' learning rates refer to |x0|^2 times the loss, with pixels in units of 1/255.
    sgd = torch.optim.SGD(params, LR_SCHEDULE[0][1], momentum=MOMENTUM)

    def scheduled(step: int) -> None:
        step_size = next(step_size for end, step_size in LR_SCHEDULE if step < end * options.steps)
        lr = step_size * squared_norm / PIXEL_SCALE**2
        if sgd.param_groups[0]["lr"] != lr:
            sgd.state.clear()
            sgd.param_groups[0]["lr"] = lr

    return sgd, scheduled


def feature_inversion(
    model: Any,
    image: Any,
    level: str,
    *,
    options: InversionOptions | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Visualization:
    """Reconstruct an image from the features of a level; the original and the reconstruction are drawn side by side.

    Args:
        model: see `inspect_model`.
        image: see `InspectedModel.take`.
        level: level of the backbone, or any layer.
        options: options of the optimization.
        progress: called after every step with the relative error.
        settings: options by name, instead of or over `options`.

    Returns:
        array: (P, C, H, W) float32, the reconstruction of each of the P inputs.

    Raises:
        UserError: an unknown level, one that is 0 on this image, or an invalid option.
    """
    import numpy as np

    from ..core.images import to_uint8_image
    from ..core.model import inspect_model

    options = validate_options(replace(options or InversionOptions(), **settings))
    model = inspect_model(model)
    pixels = model.take(image).pixels

    def report(step: int, error: float) -> None:
        if progress is not None:
            progress(step, options.steps, {"relative error": error})

    result = invert_features(model, pixels, level, options, report)
    rows = [
        np.concatenate([to_uint8_image(one), to_uint8_image(other)], axis=1)
        for one, other in zip(pixels, result.pixels, strict=True)
    ]
    array = np.concatenate([each.cpu().numpy() for each in result.pixels])
    note = f"After {options.steps} steps: relative error {result.error:.4f}."
    return Visualization(array, np.concatenate(rows), (note,))
