"""Feature visualization: activation maximization of a class, a channel or any other target.

Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks. 2013, arXiv:1312.6034, section 2: gradient ascent on
the class score before the softmax, with a penalty on the norm of the image. Olah, Mordvintsev, Schubert: Feature
Visualization. Distill 2017: Fourier parameterization, and random transforms before every forward pass.

By default, a loss on the batch normalization statistics keeps the images close to the training images (Yin et al. 2020;
see `parameterization.py`). With it, residual networks give objects instead of textures, best with several classes
optimized in one batch (`PerImage`), and a coarse phase at the beginning makes the objects large. For models without
batch normalization it has no effect, as with `bn_weight=0`. For the images of the 2013 paper: `param="pixel"`,
`transform_strength=0`, `bn_weight=0`, `l_alpha_weight` above 0.

Deviations: Adam's learning rate decays, lucid's is constant. The first paper starts from the mean image; here noise of
standard deviation 1/100 is added to it. While a score has no gradient because a ReLU is inactive, gradients
pass through inactive ReLUs by the deconvnet rule; lucid uses a rule of its own for the first 16 steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ..core.result import Progress, Visualization

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from ..core.model import InspectedModel
    from ..core.objectives import Objective

COARSE_SCALE = 0.7
"""Relative image size in the coarse phase."""
COARSE_FRACTION = 0.7
"""Default fraction of the steps for the coarse phase."""
MAX_COUNT = 1000
"""Images per target."""
MAXIMA = {"transform_strength": 10.0, "blur": 100.0}
"""Values of options beyond which nothing of an image is left."""
BN_WARMUP_STEPS = 16
"""Steps without the BN statistics loss, after which its weight is calibrated."""


@dataclass(frozen=True, kw_only=True)
class OptimizationOptions:
    """Options of activation maximization."""

    seed: int = 0
    """Random seed."""
    amp: Literal["auto", "bf16", "off"] = "off"
    """Run the model in bfloat16: if the hardware supports it (auto), always (bf16) or never (off)."""
    param: Literal["fft", "pixel"] = "fft"
    """Image parameterization: fft, a Fourier spectrum with decorrelated colors, or pixel."""
    decay_power: float = 1.2
    """Power of the frequency by which Fourier amplitudes are divided; lucid uses 1, which gives less contrast."""
    coarse_fraction: float | None = None
    """Fraction of the steps, at the beginning, that optimize the image at 0.7 of its size, for larger and more complete
    objects (--param fft); if not stated, 0.7 for a class of a model that accepts any size, otherwise 0."""
    steps: int = 100
    """Number of optimization steps."""
    lr: float = 0.05
    """Initial learning rate of Adam; it decays with a cosine schedule."""
    transform_strength: float = 1.0
    """Strength of the random shifts, scalings and rotations before every step, as a multiple of lucid's; 0: none."""
    bn_weight: float = 1.0
    """Weight of the BN statistics loss, relative to the score gained in the first 16 steps; at 1, both have equal
    weight."""
    l_alpha_weight: float = 0.0
    """Weight of the L-alpha norm, the sum of |x - gray| ^ alpha."""
    alpha: float = 2.0
    """Exponent of the L-alpha norm; the 2013 paper uses 2."""
    tv_weight: float = 0.0
    """Weight of the total variation."""
    tv_beta: float = 2.0
    """Exponent of the total variation."""
    blur: float = 0.0
    """Standard deviation, in pixels, of a Gaussian blur after every step (--param pixel)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SynthesizedImages(Visualization):
    """Optimized images: `array` is (P B, C, H, W) float32 in [0, 1], the B images of all targets for each of P inputs.

    Attributes:
        scores: (B,) float32, scores of the targets.
    """

    scores: np.ndarray


def feature_visualization(
    model: Any,
    target: Any,
    *,
    size: tuple[int, int] | None = None,
    count: int = 1,
    options: OptimizationOptions | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> SynthesizedImages:
    """Synthesize an image that maximizes a target (activation maximization).

    Args:
        model: see `inspect_model`.
        target: target to maximize: class:tabby, layer3:17, depth@120,80 in pixels of the result. Several targets
            are optimized in one batch, which improves classes.
        size: height and width in pixels; the usual input size of the model if not stated.
        count: number of images per target, from different noise.
        options: options of the optimization.
        progress: called after every step with the score of each target.
        settings: options by name, instead of or over `options`.

    Raises:
        UserError: the image does not change a target, or an invalid option.
    """
    import numpy as np
    import torch

    from ...tasks.device import use_bf16
    from ..core.images import to_uint8_image, valid_size
    from ..core.model import inspect_model
    from ..core.objectives import PerImage, check_nonzero_gradient, evaluate_objective, gradients
    from ..core.targets import resolve_target
    from .parameterization import FFTParam, PixelParam, bn_statistics_loss

    options = validate_options(replace(options or OptimizationOptions(), **settings), count)
    model = inspect_model(model)
    targets = target if isinstance(target, (tuple, list)) else (target,)
    objectives = tuple(resolve_target(each, model) for each in targets for _ in range(count))
    names = [f"{each} ({number})" if count > 1 else str(each) for number, each in enumerate(objectives)]
    objective = objectives[0] if len(targets) == 1 else PerImage(objectives)
    generator = torch.Generator("cpu").manual_seed(options.seed)
    image_size, batch, device = valid_size(size or model.size), len(objectives), model.device
    parameterizations = [
        PixelParam(batch, model.neutral_color, channels, image_size, generator, options.blur, device=device)
        if options.param == "pixel"
        else FFTParam(batch, channels, image_size, generator, options.decay_power, device)
        for channels in model.optimized_channels
    ]
    coarse = (
        _default_coarse_fraction(model, objectives, options)
        if options.coarse_fraction is None
        else options.coarse_fraction
    )
    optimizer = torch.optim.Adam([each.params for each in parameterizations], options.lr, maximize=True)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=use_bf16(options.amp, device))
    start = maximum = torch.zeros(batch, device=device)
    weight = torch.zeros((), device=device)
    with bn_statistics_loss(model.module) as pop_bn_loss, torch.enable_grad():
        for step in range(options.steps):
            optimizer.param_groups[0]["lr"] = options.lr * (1 + math.cos(math.pi * step / options.steps)) / 2
            scale = COARSE_SCALE if step < coarse * options.steps else 1.0
            images = tuple(parameterization.to_image(scale) for parameterization in parameterizations)
            inputs = _transform(images, options.transform_strength, generator)
            with autocast:
                scores = evaluate_objective(model, inputs, objective)[0].float()
                bn_loss = pop_bn_loss().to(scores)
                if step == 0:
                    start = maximum = scores.detach()
                if bool((scores == start).any()):
                    scores = _with_gradients(model, inputs, objective, scores)
            maximum = torch.maximum(maximum, scores.detach())
            if step == BN_WARMUP_STEPS:
                weight = options.bn_weight * (maximum - start).sum() / bn_loss.detach().clamp_min(1e-6)
            # Maximize instead of minimizing the negative: the deconvnet rule passes positive gradients only.
            objective_value = (scores - _penalties(model, images, options)).sum() - weight * bn_loss
            optimizer.zero_grad()
            objective_value.backward()
            optimizer.step()
            for parameterization in parameterizations:
                parameterization.clamp()
            if progress is not None:
                progress(step + 1, options.steps, dict(zip(names, scores.tolist(), strict=True)))
    pixels = tuple(parameterization.to_image().detach() for parameterization in parameterizations)
    with torch.no_grad():
        scores = evaluate_objective(model, pixels, objective)[0].detach()
    if torch.equal(scores, start):
        check_nonzero_gradient(model, pixels, objective, gradients(model, pixels, objective))
    rows = [np.concatenate([to_uint8_image(image) for image in each], axis=1) for each in pixels]
    named = (f"{name} {score:.4g}" for name, score in zip(names, scores.tolist(), strict=True))
    return SynthesizedImages(
        torch.cat(pixels).cpu().numpy(),
        np.concatenate(rows),
        (f"After {options.steps} steps: {', '.join(named)}.",),
        scores=scores.float().cpu().numpy(),
    )


def validate_options(options: OptimizationOptions, count: int = 1) -> OptimizationOptions:
    """Check the options."""
    from ...errors import UserError

    if not 1 <= count <= MAX_COUNT or options.steps < 1:
        raise UserError(
            f"--count {count} --steps {options.steps}: both must be at least 1, and the count at most {MAX_COUNT}."
        )
    for name in ("lr", "decay_power", "transform_strength", "bn_weight", "l_alpha_weight", "tv_weight", "blur"):
        value = getattr(options, name)
        if not 0 <= value <= MAXIMA.get(name, math.inf):
            largest = f", and at most {MAXIMA[name]:g}" if name in MAXIMA else ""
            raise UserError(f"--{name.replace('_', '-')} is {value:g}; it must be at least 0{largest}.")
    if min(options.alpha, options.tv_beta) < 1:
        raise UserError(f"--alpha {options.alpha:g} --tv-beta {options.tv_beta:g}: both must be at least 1.")
    if options.coarse_fraction and (options.param != "fft" or not 0 <= options.coarse_fraction <= 1):
        raise UserError(f"--coarse-fraction is {options.coarse_fraction:g}; it must be 0 to 1, and needs --param fft.")
    if options.blur and options.param != "pixel":
        raise UserError(f"--blur {options.blur:g} is for pixels only; add --param pixel.")
    return options


def _default_coarse_fraction(
    model: InspectedModel, objectives: tuple[Objective, ...], options: OptimizationOptions
) -> float:
    """`COARSE_FRACTION` if the objectives are classes, and the model accepts any size; otherwise 0."""
    from ..core.objectives import ClassLogit

    backbone = model.backbone
    any_size = backbone is not None and backbone.fixed_size is None and backbone.classifier_input_size is None
    classes = all(isinstance(each, ClassLogit) for each in objectives)
    return COARSE_FRACTION if options.param == "fft" and classes and any_size else 0.0


def _transform(images: tuple[Tensor, ...], strength: float, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Apply the same random transform to all inputs."""
    from .parameterization import apply_transform, random_transform

    if not strength:
        return images
    transform = random_transform(generator, strength)
    return tuple(apply_transform(each, transform) for each in images)


def _with_gradients(model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective, scores: Tensor) -> Tensor:
    """The same scores; those without a gradient with that of the deconvnet rule, which passes inactive ReLUs."""
    import torch

    from ..attribution.guided_backprop import relu_backward_rule
    from ..core.objectives import check_nonzero_gradient, evaluate_objective

    has_gradient = _has_gradient(scores, pixels)
    if bool(has_gradient.all()):
        return scores
    with relu_backward_rule("deconvnet"):
        fallback = evaluate_objective(model, pixels, objective)[0].float()
    if not bool((has_gradient | _has_gradient(fallback, pixels)).any()):
        check_nonzero_gradient(model, tuple(each.detach() for each in pixels), objective, ())
    return torch.where(has_gradient, scores, fallback)


def _has_gradient(scores: Tensor, pixels: tuple[Tensor, ...]) -> Tensor:
    """(B,) bool: whether any pixel has a nonzero gradient."""
    import torch

    if not scores.requires_grad:
        return torch.zeros_like(scores, dtype=torch.bool)
    grads = torch.autograd.grad(scores.sum(), pixels, retain_graph=True, allow_unused=True)
    return torch.stack([each.flatten(1).any(1) for each in grads if each is not None]).any(0)


def _penalties(model: InspectedModel, images: tuple[Tensor, ...], options: OptimizationOptions) -> Tensor:
    """(B,) weighted sum of the explicit priors."""
    import torch

    from .parameterization import alpha_norm, total_variation

    total = torch.zeros(len(images[0]), device=images[0].device)
    for image in images:
        if options.l_alpha_weight:
            gray = image.new_tensor(model.neutral_color).view(1, -1, 1, 1)
            total = total + options.l_alpha_weight * alpha_norm(image - gray, options.alpha)
        if options.tv_weight:
            total = total + options.tv_weight * total_variation(image, options.tv_beta)
    return total
