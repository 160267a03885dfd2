"""`densevision visualize maximize`: a picture that a class, a channel or any other probe answers to most.

Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks. 2013, arXiv:1312.6034, section 2: gradient ascent on
the score before the softmax, with a penalty on the picture's norm. Olah, Mordvintsev, Schubert: Feature Visualization.
Distill 2017: painted as waves, moved a little before every look.

By default the statistics of the network's batch normalisations hold the picture near the photographs it was trained on
(Yin et al. 2020, see `priors.py`): they make residual networks paint things in place of textures, best in several
classes painted together (`Each`), and a coarse beginning makes them large. Networks without batch normalisation paint
without, as with `natural=0`. For the picture of 2013: `canvas="pixels"`, `movement=0`, `natural=0`, `norm` above 0.

Deviations: the rate of Adam falls, where lucid's stays. The first paper starts at the mean picture, here noise of 1/100
is added to it. While nothing has changed because a ReLU in between is off, gradients pass through ReLUs that are off:
by the deconvnet's rule, where lucid has one of its own for 16 steps.
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

    from ...datasets.geometry import Size
    from .canvas import Canvas
    from .measures import Probe
    from .subject import Subject

COARSE = 0.7
"""Of the sides, at the beginning."""
COARSE_STEPS = 0.7
"""How long it usually lasts, of the steps."""
FIRST_STEPS = 16
"""Without the statistics, whose weight is found here."""


@dataclass(frozen=True, kw_only=True)
class Ascent(Painting):
    """How a picture is painted."""

    canvas: Literal["fourier", "pixels"] = "fourier"
    """Waves with decorrelated colours, or the pixels themselves; default: fourier."""
    falloff: float = 1.2
    """Power of a wave's frequency by which it is divided; lucid takes 1, with less contrast; default: 1.2."""
    coarse: float | None = None
    """Share of the steps at the beginning that paint waves at 0.7 of the size, where things become large and whole;
    default: 0.7 for a class of a network that takes any size, else 0."""
    steps: int = 100
    """Of Adam; default: 100."""
    rate: float = 0.05
    """Adam's learning rate at the start, from where it falls as a cosine; default: 0.05."""
    movement: float = 1.0
    """Shifts, scales and turns before every look, as a multiple of lucid's; 0: none; default: 1."""
    natural: float = 1.0
    """Weight of the distance to the statistics of the training, in units in which at 1 it weighs as much as what the
    pictures gained in the first 16 steps; default: 1."""
    norm: float = 0.0
    """Weight of the sum of |x - grey| ^ alpha; default: 0."""
    alpha: float = 2.0
    """Default: 2, as in 2013."""
    variation: float = 0.0
    """Weight of the total variation; default: 0."""
    beta: float = 2.0
    """Of the total variation; default: 2."""
    blur: float = 0.0
    """Pixels by which a canvas of pixels is smoothed after every step; default: 0."""


class Painted(NamedTuple):
    """What came out.

    Attributes:
        pixels: for every picture that goes in, (B, C, H, W) in [0, 1].
        scores: (B,) what the probe measures there.
    """

    pixels: tuple[Tensor, ...]
    scores: Tensor


Told = Callable[[int, "Tensor"], None]
"""Is told the step that was made, from 1, and the (B,) numbers that the probe measured in it."""


def maximize(
    subject: Subject,
    probe: Probe,
    size: Size | None = None,
    count: int = 1,
    ascent: Ascent | None = None,
    told: Told | None = None,
) -> Painted:
    """Paint by gradient ascent on a probe.

    Args:
        subject: the network.
        probe: what is raised; `-1 * probe` is lowered. `Each` has one for every picture.
        size: (height, width); None: at which the network usually sees pictures.
        count: B pictures from different noise. Their statistics are held near the training's together, not each's.
        ascent: how.
        told: of the progress.

    Raises:
        UserError: nothing that is painted changes the probe, or a number that makes no sense.
    """
    import torch

    from ...tasks.device import use_bf16
    from .priors import unnaturalness
    from .sensitivity import gradients, require_alive, score

    ascent = checked(ascent or Ascent(), count)
    stream = torch.Generator("cpu").manual_seed(ascent.seed)
    canvases = _canvases(subject, size or subject.size, count, ascent, stream)
    coarse = _usual_coarse(subject, probe, ascent) if ascent.coarse is None else ascent.coarse
    optimizer = torch.optim.Adam([canvas.numbers for canvas in canvases], ascent.rate, maximize=True)
    autocast = torch.autocast(subject.device.type, torch.bfloat16, enabled=use_bf16(ascent.amp, subject.device))
    start = most = torch.zeros(count, device=subject.device)
    weight = torch.zeros((), device=subject.device)
    with unnaturalness(subject.model) as distance, torch.enable_grad():
        for step in range(ascent.steps):
            optimizer.param_groups[0]["lr"] = ascent.rate * (1 + math.cos(math.pi * step / ascent.steps)) / 2
            part = COARSE if step < coarse * ascent.steps else 1.0
            pictures = tuple(canvas.picture(part) for canvas in canvases)
            shown = _moved(pictures, ascent.movement, stream)
            with autocast:
                measured = score(subject, shown, probe)[0].float()
                unnatural = distance().to(measured)
                if step == 0:
                    start = most = measured.detach()
                if bool((measured == start).any()):
                    measured = _woken(subject, shown, probe, measured)
            most = torch.maximum(most, measured.detach())
            if step == FIRST_STEPS:
                weight = ascent.natural * (most - start).sum() / unnatural.detach().clamp_min(1e-6)
            # Upwards, not down a negative: the deconvnet's rule lets pass what raises.
            wish = (measured - _penalties(subject, pictures, ascent)).sum() - weight * unnatural
            optimizer.zero_grad()
            wish.backward()
            optimizer.step()
            for canvas in canvases:
                canvas.settle()
            if told is not None:
                told(step + 1, measured.detach())
    pixels = tuple(canvas.picture().detach() for canvas in canvases)
    with torch.no_grad():
        scores = score(subject, pixels, probe)[0].detach()
    if torch.equal(scores, start):
        require_alive(subject, pixels, probe, gradients(subject, pixels, probe))
    return Painted(pixels, scores)


def checked(ascent: Ascent, count: int = 1) -> Ascent:
    """The same, if it makes sense.

    Raises:
        UserError: a number that does not.
    """
    from ...errors import UserError

    if count < 1 or ascent.steps < 1:
        raise UserError(f"--count {count} --steps {ascent.steps}: both must be at least 1.")
    for name in ("rate", "falloff", "movement", "natural", "norm", "variation", "blur"):
        value = getattr(ascent, name)
        if not value >= 0:
            raise UserError(f"--{name} is {value:g}; it may not be below 0.")
    if min(ascent.alpha, ascent.beta) < 1:
        raise UserError(f"--alpha {ascent.alpha:g} --beta {ascent.beta:g}: neither may be below 1.")
    if ascent.coarse and (ascent.canvas != "fourier" or not 0 <= ascent.coarse <= 1):
        raise UserError(
            f"--coarse is {ascent.coarse:g}; it is a share of the steps, 0 to 1, in which waves are painted."
        )
    if ascent.blur and ascent.canvas != "pixels":
        raise UserError(f"--blur {ascent.blur:g} is for pixels, of which waves have none; add --canvas pixels.")
    return ascent


def painted_channels(subject: Subject) -> list[int]:
    """The channels of every picture that goes in.

    Raises:
        UserError: one is a map of labels, between which there is nothing.
    """
    from ...datasets.fields import Labels
    from ...errors import UserError

    kinds = subject.fields
    if subject.task is not None:
        kinds = {name: subject.task.prepared(kinds)[name] for name in subject.task.inputs(kinds)}
    if any(isinstance(kind, Labels) for kind in kinds.values()):
        raise UserError(f"{subject.name} reads maps of labels, and those cannot be painted step by step.")
    return [getattr(kind, "channels", 3) for kind in kinds.values()]


def _usual_coarse(subject: Subject, probe: Probe, ascent: Ascent) -> float:
    """Most of the steps where nothing stands against it: a place in the picture, or a network of one size."""
    from .measures import Each, Score

    trunk, asked = subject.trunk, probe.probes if isinstance(probe, Each) else (probe,)
    any_size = trunk is not None and trunk.fixed_size is None and trunk.classifier_size is None
    classes = all(isinstance(each, Score) for each in asked)
    return COARSE_STEPS if ascent.canvas == "fourier" and classes and any_size else 0.0


def _canvases(subject: Subject, size: Size, count: int, ascent: Ascent, stream: torch.Generator) -> list[Canvas]:
    from .canvas import Fourier, Pixels

    device = subject.device
    if ascent.canvas == "pixels":
        return [
            Pixels(count, subject.grey, channels, size, stream, ascent.blur, device=device)
            for channels in painted_channels(subject)
        ]
    return [Fourier(count, channels, size, stream, ascent.falloff, device) for channels in painted_channels(subject)]


def _moved(pictures: tuple[Tensor, ...], largest: float, stream: torch.Generator) -> tuple[Tensor, ...]:
    """All under one movement: two pictures that go in together stay together."""
    from .robustness import moved, small_movement

    if not largest:
        return pictures
    movement = small_movement(stream, largest)
    return tuple(moved(each, movement) for each in pictures)


def _woken(subject: Subject, pixels: tuple[Tensor, ...], probe: Probe, measured: Tensor) -> Tensor:
    """The same numbers; of pictures that nothing reaches, with gradients that pass through ReLUs that are off."""
    import torch

    from .back_propagation import other_relus
    from .sensitivity import require_alive, score

    reaching = _reaching(measured, pixels)
    if bool(reaching.all()):
        return measured
    with other_relus("deconvnet"):
        helped = score(subject, pixels, probe)[0].float()
    if not bool((reaching | _reaching(helped, pixels)).any()):
        require_alive(subject, tuple(each.detach() for each in pixels), probe, ())
    return torch.where(reaching, measured, helped)


def _reaching(measured: Tensor, pixels: tuple[Tensor, ...]) -> Tensor:
    """(B,): whether any pixel changes the number."""
    import torch

    if not measured.requires_grad:
        return torch.zeros_like(measured, dtype=torch.bool)
    found = torch.autograd.grad(measured.sum(), pixels, retain_graph=True, allow_unused=True)
    return torch.stack([each.flatten(1).any(1) for each in found if each is not None]).any(0)


def _penalties(subject: Subject, pictures: tuple[Tensor, ...], ascent: Ascent) -> Tensor:
    """(B,) what the explicit priors cost."""
    import torch

    from .priors import alpha_norm, total_variation

    total = torch.zeros(len(pictures[0]), device=pictures[0].device)
    for picture in pictures:
        if ascent.norm:
            grey = picture.new_tensor(subject.grey).view(1, -1, 1, 1)
            total = total + ascent.norm * alpha_norm(picture - grey, ascent.alpha)
        if ascent.variation:
            total = total + ascent.variation * total_variation(picture, ascent.beta)
    return total


def show_maximize(
    asked: Annotated[Network, Parameter(name="*")],
    ascent: Annotated[Ascent | None, Parameter(name="*")] = None,
    *,
    probe: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    out: Path,
    size: tuple[int, int] | None = None,
    count: int = 1,
) -> None:
    """Paint a picture that the probe answers to most: what a class or a channel looks for.

    Args:
        probe: What is raised: class:tabby, layer3:17, depth@120,80 (densevision visualize probes). Several are painted
            together, which makes classes better.
        out: Picture to write (.png); the raw array lies beside it (.npy).
        size: Height and width in pixels; default: at which the network usually sees pictures.
        count: Pictures to paint of each, from different noise; default: 1.
    """
    import numpy as np

    from .drawing import checked_out, photograph, write_both
    from .measures import Each
    from .probes import parse_probe

    checked_out(out)
    ascent = checked(ascent or Ascent(amp="auto"), count)
    subject = asked.subject()
    measured = Each(tuple(parse_probe(each, subject) for each in probe for _ in range(count)))

    def told(step: int, scores: Tensor) -> None:
        if step % 32 == 0 or step == ascent.steps:
            said = (f"{each} {score:.4g}" for each, score in zip(measured.probes, scores.tolist(), strict=True))
            print(f"step {step} of {ascent.steps}: {', '.join(said)}")

    made = maximize(subject, measured, size, len(measured.probes), ascent, told)
    drawn = [np.concatenate([photograph(each) for each in pixels], axis=1) for pixels in made.pixels]
    array = np.concatenate([pixels.cpu().numpy() for pixels in made.pixels])
    print(f"Wrote {' and '.join(map(str, write_both(out, np.concatenate(drawn), array)))}.")
