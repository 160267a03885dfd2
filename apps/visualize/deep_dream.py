"""`densevision visualize dream`: a photograph in which a level sees more and more of what it already sees a little.

Mordvintsev, Olah, Tyka: Inceptionism, and the notebook DeepDream. Google 2015. Gradient ascent on half the squared
activations of a level, at several sizes (octaves), the smallest first: what was added there is enlarged and added to
the photograph's next size. Pixels go round in a circle by a random shift before every look. With a guide picture, every
place of the level is led to the guide's activation that is most like its own.

Deviations: the notebook's steps of 1.5 in pixels of 255 are here in pixels of [0, 1]; it clips every channel where the
network's input ends, here all end at 0 and 1, which is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .asked import Network
from .painting import Painting

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...datasets.geometry import Size
    from .measures import Probe
    from .subject import Subject

SMALLEST = 16
"""Pixels of an octave's shorter side, below which networks see nothing."""
FLOOR = 1e-8
"""Of the mean size of a gradient, by which steps are divided."""
RATE = 24
"""Frames a second of a film."""


@dataclass(frozen=True, kw_only=True)
class Dream(Painting):
    """How deep a dream is."""

    octaves: int = 4
    """Sizes; default: 4."""
    factor: float = 1.4
    """Between two sizes; default: 1.4."""
    steps: int = 10
    """At each size; default: 10."""
    rate: float = 1.5
    """By how much a step changes a pixel on average, in units of 1/255; default: 1.5."""
    jitter: int = 32
    """Pixels of the largest shift before a look; default: 32."""


def deep_dream(
    subject: Subject,
    pixels: tuple[Tensor, ...],
    probe: Probe,
    dream: Dream | None = None,
    told: Callable[[int, Size, float], None] | None = None,
) -> tuple[Tensor, ...]:
    """Let a network dream in a photograph.

    Args:
        subject: the network.
        pixels: (1, C, H, W) in [0, 1] each, of any size that the network takes.
        probe: what is raised: `dreams.Activity` of a level, `dreams.Alike` to a guide, a channel, a class. Probes with
            a place in the picture need `octaves=1`.
        dream: how deep.
        told: is told the octave that was dreamt, from 1, its (height, width), and what the probe measures there.

    Returns:
        (1, C, H, W) in [0, 1] each, as large as the photograph.

    Raises:
        UserError: an octave so small that nothing can be seen, a probe that nothing changes, or a number that makes no
            sense.
    """
    import torch

    from ...errors import UserError
    from .dreams import levels_only

    dream = checked(dream or Dream())
    subject = levels_only(subject, probe)
    stream = torch.Generator("cpu").manual_seed(dream.seed)
    pixels = tuple(each.detach().to(subject.device) for each in pixels)
    details = tuple(torch.zeros_like(each) for each in pixels)
    made = pixels
    for octave, size in enumerate(octave_sizes((pixels[0].shape[2], pixels[0].shape[3]), dream), 1):
        bases = tuple(resized(each, size) for each in pixels)
        made = tuple(base + resized(detail, size) for base, detail in zip(bases, details, strict=True))
        measured = 0.0
        for _ in range(dream.steps):
            try:
                made, measured = _step(subject, made, probe, dream, stream)
            except RuntimeError as error:
                raise UserError(
                    f"{subject.name} sees nothing in an octave of {size[0]}x{size[1]}; take fewer --octaves or a larger"
                    " photograph."
                ) from error
        details = tuple(each - base for each, base in zip(made, bases, strict=True))
        if told is not None:
            told(octave, size, measured)
    return made


def octave_sizes(size: Size, dream: Dream) -> list[Size]:
    """(height, width) of every octave, the smallest first, the photograph's own last.

    Raises:
        UserError: the smallest is too small.
    """
    from ...errors import UserError

    sizes = [
        (round(size[0] / dream.factor**octave), round(size[1] / dream.factor**octave))
        for octave in reversed(range(dream.octaves))
    ]
    if min(sizes[0]) < SMALLEST:
        raise UserError(
            f"The smallest of {dream.octaves} octaves is {sizes[0][1]} wide and {sizes[0][0]} high; take fewer"
            " --octaves or a larger photograph."
        )
    return sizes


def resized(x: Tensor, size: Size) -> Tensor:
    """(B, C, H, W) at another size, bilinearly; smaller ones without aliasing."""
    from torch.nn import functional

    return functional.interpolate(x, size, mode="bilinear", antialias=True) if x.shape[-2:] != size else x


def zoom(
    subject: Subject, pixels: tuple[Tensor, ...], probe: Probe, dream: Dream, frames: int, share: float = 0.05
) -> Iterator[tuple[Tensor, ...]]:
    """Dream, go closer, dream again: the frames of a film.

    Args:
        subject, pixels, probe, dream: as in `deep_dream`; every frame has a seed of its own.
        frames: how many.
        share: of the sides by which the picture shrinks from one frame to the next.
    """
    from dataclasses import replace

    for frame in range(frames):
        pixels = deep_dream(subject, pixels, probe, replace(dream, seed=dream.seed + frame))
        yield pixels
        pixels = tuple(closer(each, share) for each in pixels)


def closer(x: Tensor, share: float) -> Tensor:
    """The middle of (B, C, H, W), without `share` of its sides, at the same size, bilinearly."""
    import torch
    from torch.nn import functional

    matrix = torch.tensor([[1 - share, 0.0, 0.0], [0.0, 1 - share, 0.0]]).to(x).expand(len(x), 2, 3)
    places = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, places, padding_mode="border", align_corners=False)


def checked(dream: Dream) -> Dream:
    """The same, if it makes sense.

    Raises:
        UserError: a number that does not.
    """
    from ...errors import UserError

    if min(dream.octaves, dream.steps) < 1:
        raise UserError(f"--octaves {dream.octaves} --steps {dream.steps}: both must be at least 1.")
    if dream.factor <= 1:
        raise UserError(f"--factor is {dream.factor:g}; it must be above 1.")
    if min(dream.rate, dream.jitter) < 0:
        raise UserError(f"--rate {dream.rate:g} --jitter {dream.jitter}: neither may be below 0.")
    return dream


def _step(
    subject: Subject, pixels: tuple[Tensor, ...], probe: Probe, dream: Dream, stream: torch.Generator
) -> tuple[tuple[Tensor, ...], float]:
    """One step up, and what was measured before it."""
    import torch

    from ...tasks.device import use_bf16
    from .sensitivity import require_alive, score

    down, right = torch.randint(-dream.jitter, dream.jitter + 1, (2,), generator=stream).tolist()
    rolled = tuple(each.roll((down, right), (2, 3)).requires_grad_() for each in pixels)
    autocast = torch.autocast(subject.device.type, torch.bfloat16, enabled=use_bf16(dream.amp, subject.device))
    with torch.enable_grad():
        with autocast:
            measured = score(subject, rolled, probe)[0].sum()
        found = torch.autograd.grad(measured, rolled, allow_unused=True)
    slopes = [torch.zeros_like(each) if one is None else one for each, one in zip(rolled, found, strict=True)]
    require_alive(subject, tuple(each.detach() for each in rolled), probe, slopes)
    stepped = []
    for each, slope in zip(rolled, slopes, strict=True):
        # Over the whole picture: a mean for each channel would change the colours.
        length = slope.abs().mean().clamp_min(FLOOR)
        changed = (each.detach() + dream.rate / 255 * slope / length).clamp(0, 1)
        stepped.append(changed.roll((-down, -right), (2, 3)))
    return tuple(stepped), float(measured.detach())


def show_dream(
    asked: Annotated[Network, Parameter(name="*")],
    dream: Annotated[Dream | None, Parameter(name="*")] = None,
    *,
    image: Path,
    probe: str,
    out: Path,
    guide: Path | None = None,
    size: int | None = None,
    film: Path | None = None,
    frames: int = 48,
    closer: float = 0.05,
) -> None:
    """Dream in a photograph.

    Args:
        image: Photograph.
        probe: What is raised: a whole level by its name (layer3), or any probe (layer3:17, class:tabby).
        out: Picture to write (.png); the raw array lies beside it (.npy).
        guide: Photograph whose activations of the level are dreamt of; default: the level's own.
        size: Pixels of the whole photograph's longer side; default: the part that the network usually sees.
        film: Video to write (.mp4) that goes deeper and deeper, of which --out is the first frame; default: none.
        frames: Of the film; default: 48.
        closer: Share of the sides by which the picture shrinks from one frame to the next; default: 0.05.
    """
    from ...errors import UserError
    from .drawing import checked_out, photograph, write_both
    from .dreams import parse_dream

    checked_out(out)
    dream = checked(dream or Dream(amp="auto"))
    if film is not None and (film.suffix.lower() != ".mp4" or frames < 1 or not 0 <= closer < 1):
        raise UserError(f"--film {film} --frames {frames} --closer {closer:g}: a .mp4 of 1 or more, and 0 to 1.")
    if size is not None and size < SMALLEST:
        raise UserError(f"--size is {size}; it must be at least {SMALLEST}.")
    subject = asked.subject()
    pixels = whole(subject, image, size) if size else subject.pixels(image)
    wish = parse_dream(probe, subject, None if guide is None else subject.pixels(guide))

    def told(octave: int, at: Size, measured: float) -> None:
        print(f"octave {octave} of {dream.octaves}, {at[1]}x{at[0]}: {wish} {measured:.4g}")

    made = deep_dream(subject, pixels, wish, dream, told)
    print(f"Wrote {' and '.join(map(str, write_both(out, photograph(made[0]), made[0].cpu().numpy())))}.")
    if film is not None:
        from .film import write_film

        seen = zoom(subject, pixels, wish, dream, frames, closer)
        print(f"Wrote {write_film(film, (photograph(each[0]) for each in seen), RATE)}.")


def whole(subject: Subject, image: Path, longer: int) -> tuple[Tensor]:
    """A photograph as (1, C, H, W) in [0, 1] whose longer side has so many pixels, without any crop."""
    import torch

    from ...tasks.pictures import picture_of
    from .maximize import painted_channels

    picture = torch.from_numpy(picture_of(image, painted_channels(subject)[0])).float() / 255
    picture = picture.reshape(*picture.shape[:2], -1).movedim(2, 0)[None]
    scale = longer / max(picture.shape[2:])
    return (resized(picture, (round(picture.shape[2] * scale), round(picture.shape[3] * scale))).clamp(0, 1),)
