"""`densevision visualize invert`: what a level still knows of a picture, as another that it cannot tell from it.

Mahendran, Vedaldi: Understanding Deep Image Representations by Inverting Them. CVPR 2015, arXiv:1412.0035. With F the
level, x a picture about grey in steps of 1/255, and norms those of F(x0) and x0, its authors' code makes small

    |F(x) - F(x0)|^2 / |F(x0)|^2 + (variation / 2 TV(x) + norm / 2 sum |x|^6) / |x0|^2

Deviations: Adam, whose steps suit every network, falling as a cosine; the authors' momentum and schedule are
`optimizer="momentum"`. Pixels are brought back to [0, 1] after every step. `canvas="fourier"` paints waves (see
`canvas.py`), which from deep levels brings more of the scene back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from cyclopts import Parameter

from .asked import Network
from .painting import Painting

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .canvas import Canvas
    from .subject import Subject

ALPHA = 6.0
STEP = 255.0
"""In which the authors count pixels."""
MOMENTUM = 0.9
RATES = ((0.25, 0.004), (0.75, 0.0004), (1.0, 0.00004))
"""Until which share of the steps, and how fast: 100, 200 and 100 steps of 400. Every switch forgets the momentum."""


@dataclass(frozen=True, kw_only=True)
class Inversion(Painting):
    """How a level is inverted."""

    steps: int = 400
    """Default: 400, as the authors."""
    canvas: Literal["pixels", "fourier"] = "pixels"
    """Pixels, or waves with decorrelated colours; default: pixels."""
    optimizer: Literal["adam", "momentum"] = "adam"
    """Adam, or what the authors did; default: adam."""
    rate: float = 0.05
    """Adam's learning rate at the start; default: 0.05."""
    variation: float = 10.0
    """Weight of the total variation; the authors take 1 near the picture, then 10, and 100 for the last convolutions
    and the classifier; default: 10."""
    beta: float = 2.0
    """Of the total variation; 1 makes spikes where levels have strides; default: 2."""
    norm: float = 8e-10
    """Weight of the sum of sixth powers; default: 8e-10."""


class Inverted(NamedTuple):
    """What came out.

    Attributes:
        pixels: for every picture that goes in, (1, C, H, W) in [0, 1].
        error: |F(x) - F(x0)|^2 / |F(x0)|^2 there; 0 would be the same for the level, and 1 is as far as nothing.
    """

    pixels: tuple[Tensor, ...]
    error: float


def invert(
    subject: Subject,
    pixels: tuple[Tensor, ...],
    level: str,
    inversion: Inversion | None = None,
    told: Callable[[int, float], None] | None = None,
) -> Inverted:
    """Paint a picture from noise until a level sees in it what it saw in another.

    Args:
        subject: the network.
        pixels: x0, (1, C, H, W) in [0, 1] each.
        level: F, a level of the trunk or any submodule.
        inversion: how.
        told: is told the step that was made, from 1, and the relative error in it.

    Raises:
        UserError: no such level, one that sees nothing in the picture, or a number that makes no sense.
    """
    import torch

    from ...errors import UserError
    from ...tasks.device import use_bf16
    from .priors import alpha_norm, total_variation

    inversion = checked(inversion or Inversion())
    pixels = tuple(each.detach().to(subject.device) for each in pixels)
    with torch.no_grad():
        wanted = subject.look(pixels, (level,), answer=False).levels[level].float()
    if not bool(wanted.any()):
        raise UserError(f"'{level}' of {subject.name} is 0 everywhere on this picture; name another level.")
    greys = [each.new_tensor(subject.grey).view(1, -1, 1, 1) for each in pixels]
    about = [STEP * (each - grey) for each, grey in zip(pixels, greys, strict=True)]
    size = float(torch.stack([each.square().sum() for each in about]).sum()) or 1.0
    canvases = _canvases(subject, pixels, size, inversion)
    step_of, rate_at = _optimizer(canvases, inversion, size)
    autocast = torch.autocast(subject.device.type, torch.bfloat16, enabled=use_bf16(inversion.amp, subject.device))

    def error_of(pictures: tuple[Tensor, ...]) -> Tensor:
        seen = subject.look(pictures, (level,), answer=False).levels[level].float()
        return (seen - wanted).square().sum() / wanted.square().sum()

    with torch.enable_grad():
        for step in range(inversion.steps):
            pictures = tuple(canvas.picture() for canvas in canvases)
            with autocast:
                error = error_of(pictures)
            loss = error
            for picture, grey in zip(pictures, greys, strict=True):
                x = STEP * (picture - grey)
                rough = inversion.variation / 2 * total_variation(x, inversion.beta)
                loss = loss + ((rough + inversion.norm / 2 * alpha_norm(x, ALPHA)) / size).sum()
            rate_at(step)
            step_of.zero_grad()
            loss.backward()
            step_of.step()
            for canvas in canvases:
                canvas.settle()
            if told is not None:
                told(step + 1, float(error.detach()))
    made = tuple(canvas.picture().detach() for canvas in canvases)
    with torch.no_grad():
        return Inverted(made, float(error_of(made)))


def checked(inversion: Inversion) -> Inversion:
    """The same, if it makes sense.

    Raises:
        UserError: a number that does not.
    """
    from ...errors import UserError

    if inversion.steps < 1:
        raise UserError(f"--steps is {inversion.steps}; it must be at least 1.")
    for name in ("rate", "variation", "norm"):
        if not getattr(inversion, name) >= 0:
            raise UserError(f"--{name} is {getattr(inversion, name):g}; it may not be below 0.")
    if inversion.beta < 1:
        raise UserError(f"--beta is {inversion.beta:g}; it may not be below 1.")
    if inversion.optimizer == "momentum" and inversion.canvas != "pixels":
        raise UserError("The authors' schedule is for pixels; take --optimizer adam with --canvas fourier.")
    return inversion


def _canvases(subject: Subject, pixels: tuple[Tensor, ...], size: float, inversion: Inversion) -> list[Canvas]:
    """Noise of the pictures' size; pixels as far from grey as the pictures are."""
    import torch

    from .canvas import Fourier, Pixels
    from .maximize import painted_channels

    painted_channels(subject)
    stream = torch.Generator("cpu").manual_seed(inversion.seed)
    spread = math.sqrt(size / sum(each.numel() for each in pixels)) / STEP
    canvases: list[Canvas] = []
    for each in pixels:
        channels, side = each.shape[1], (each.shape[2], each.shape[3])
        if inversion.canvas == "fourier":
            canvases.append(Fourier(1, channels, side, stream, device=subject.device))
        else:
            canvases.append(Pixels(1, subject.grey, channels, side, stream, spread=spread, device=subject.device))
    return canvases


def _optimizer(
    canvases: list[Canvas], inversion: Inversion, size: float
) -> tuple[torch.optim.Optimizer, Callable[[int], None]]:
    """What makes steps, and what sets its rate before each."""
    import torch

    numbers = [canvas.numbers for canvas in canvases]
    if inversion.optimizer == "adam":
        adam = torch.optim.Adam(numbers, inversion.rate)

        def cosine(step: int) -> None:
            adam.param_groups[0]["lr"] = inversion.rate * (1 + math.cos(math.pi * step / inversion.steps)) / 2

        return adam, cosine
    # The authors step along |x0|^2 times the loss's gradient, in steps of 1/255.
    heavy = torch.optim.SGD(numbers, RATES[0][1], momentum=MOMENTUM)

    def scheduled(step: int) -> None:
        rate = next(rate for until, rate in RATES if step < until * inversion.steps)
        scaled = rate * size / STEP**2
        if heavy.param_groups[0]["lr"] != scaled:
            heavy.state.clear()
            heavy.param_groups[0]["lr"] = scaled

    return heavy, scheduled


def show_invert(
    asked: Annotated[Network, Parameter(name="*")],
    inversion: Annotated[Inversion | None, Parameter(name="*")] = None,
    *,
    image: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    level: str,
    out: Path,
) -> None:
    """Paint a picture that a level cannot tell from a photograph; both are drawn, the photograph first.

    Args:
        image: Photograph; two for a network that takes two.
        level: Level of the trunk, or any layer.
        out: Picture to write (.png); the painted picture lies beside it as an array (.npy).
    """
    import numpy as np

    from .drawing import checked_out, photograph, write_both

    checked_out(out)
    inversion = checked(inversion or Inversion(amp="auto"))
    subject = asked.subject()
    pixels = subject.pixels(*image)

    def told(step: int, error: float) -> None:
        if step % 50 == 0 or step == inversion.steps:
            print(f"step {step} of {inversion.steps}: relative error {error:.4f}")

    made = invert(subject, pixels, level, inversion, told)
    rows = [
        np.concatenate([photograph(one), photograph(other)], axis=1)
        for one, other in zip(pixels, made.pixels, strict=True)
    ]
    array = np.concatenate([each.cpu().numpy() for each in made.pixels])
    print(f"Wrote {' and '.join(map(str, write_both(out, np.concatenate(rows), array)))}.")
