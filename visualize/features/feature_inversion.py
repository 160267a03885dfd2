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
from typing import TYPE_CHECKING, Any, Literal

from ..core.result import Progress, Visualization

if TYPE_CHECKING:
    import torch
    from torch import Tensor

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


@dataclass(frozen=True, eq=False, kw_only=True)
class Inversion(Visualization):
    """A reconstruction: `array` is (P, C, H, W) float32 in [0, 1], for each of the P inputs.

    Attributes:
        error: relative error |F(x) - F(x0)|^2 / |F(x0)|^2; 0: identical features, 1: as far as zero features.
    """

    error: float


def feature_inversion(
    model: Any,
    image: Any,
    level: str,
    *,
    options: InversionOptions | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Inversion:
    """Reconstruct an image from the features of a level; the original and the reconstruction are drawn side by side.

    Args:
        model: see `inspect_model`.
        image: see `InspectedModel.take`.
        level: level of the backbone, or any layer.
        options: options of the optimization.
        progress: called after every step with the relative error.
        settings: options by name, instead of or over `options`.

    Raises:
        UserError: an unknown level, one that is 0 on this image, or an invalid option.
    """
    import numpy as np
    import torch

    from ...errors import UserError
    from ...tasks.device import use_bf16
    from ..core.images import to_uint8_image
    from ..core.model import inspect_model
    from .parameterization import FFTParam, PixelParam, alpha_norm, total_variation

    options = validate_options(replace(options or InversionOptions(), **settings))
    model = inspect_model(model)
    pixels = tuple(each.detach() for each in model.take(image).pixels)
    with torch.no_grad():
        target_activations = model.forward(pixels, (level,), run_output=False).levels[level].float()
    if not bool(target_activations.any()):
        raise UserError(f"'{level}' of {model.name} is 0 everywhere on this image; choose another level.")
    assert model.optimized_channels
    grays = [each.new_tensor(model.neutral_color).view(1, -1, 1, 1) for each in pixels]
    centered = [PIXEL_SCALE * (each - gray) for each, gray in zip(pixels, grays, strict=True)]
    squared_norm = float(torch.stack([each.square().sum() for each in centered]).sum()) or 1.0
    # Noise of the size of the inputs; for pixels, with the same distance from gray as the inputs.
    generator = torch.Generator("cpu").manual_seed(options.seed)
    init_std = math.sqrt(squared_norm / sum(each.numel() for each in pixels)) / PIXEL_SCALE
    parameterizations = []
    for each in pixels:
        channels, size = each.shape[1], (each.shape[2], each.shape[3])
        parameterizations.append(
            FFTParam(1, channels, size, generator, device=model.device)
            if options.param == "fft"
            else PixelParam(1, model.neutral_color, channels, size, generator, init_std=init_std, device=model.device)
        )
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
            if progress is not None:
                progress(step + 1, options.steps, {"relative error": float(error.detach())})
    images = tuple(parameterization.to_image().detach() for parameterization in parameterizations)
    with torch.no_grad():
        final_error = float(relative_error(images))
    pairs = zip(pixels, images, strict=True)
    rows = [np.concatenate([to_uint8_image(each) for each in pair], axis=1) for pair in pairs]
    note = f"After {options.steps} steps: relative error {final_error:.4f}."
    return Inversion(torch.cat(images).cpu().numpy(), np.concatenate(rows), (note,), error=final_error)


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
