"""What a training geometry may draw, and the draw: one geometry per sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .geometry import (
    Geometry,
    Size,
    Window,
    covering_size,
    cut_and_resize,
    mirroring,
    resize_and_crop,
    rotation,
    scaling,
    translation,
)

ASPECT = (3 / 4, 4 / 3)
"""Least and largest width / height of a window of `area`: Szegedy et al. 2014 (arXiv:1409.4842), section 6."""
TRIES = 10
"""Draws before the largest central window is taken instead."""
LARGEST_SHIFT, LARGEST_TURN, LARGEST_GROWTH = 0.03, 3.0, 1.03
"""Of the motion between frames: "a smaller transformation between the frames", Dosovitskiy et al. 2015, section 4.2."""


@dataclass(frozen=True)
class Augmentation:
    """What may be drawn. The window on the picture is found in one of three ways: `area`, else `scale`, else `zoom`.

    Attributes:
        flip: probability of a left-right flip.
        rotate: largest rotation to either side, in degrees.
        zoom: the picture is framed as `framing` says, magnified by a factor drawn log-uniformly from [1, zoom], or from
            [1 / zoom, zoom] where it fits or is stretched.
        framing: without zoom, the picture just covers the window ("cover"), just fits into it ("fit"), or takes its
            shape ("stretch").
        scale: the picture's short side in pixels, drawn evenly between the two; the window lies anywhere within.
        pad: with `scale`, pixels by which the window may reach beyond the picture on every side.
        area: least and largest share of the picture's area that becomes the window, its aspect between 3/4 and 4/3.
        between: strength in 0 to 1 of a motion of its own that the second and later frames get on top: at 1, up to
            `LARGEST_SHIFT` of the sides, `LARGEST_TURN` degrees and a factor of `LARGEST_GROWTH`.
    """

    flip: float = 0.0
    rotate: float = 0.0
    zoom: float = 1.0
    framing: Literal["cover", "fit", "stretch"] = "cover"
    scale: tuple[int, int] | None = None
    pad: int = 0
    area: tuple[float, float] | None = None
    between: float = 0.0


def sample_geometry(
    rng: np.random.Generator | None, source: Size, target: Size, augmentation: Augmentation
) -> Geometry:
    """Draw how a sample is moved: scaled, shifted, rotated, flipped.

    Args:
        rng: where the draws come from; None draws nothing and keeps the centre.
        source: (height, width) of the sample.
        target: (height, width) of the output.
        augmentation: what may be drawn.
    """
    zoom = angle = 0.0
    where, flipped = (0.5, 0.5), False
    if rng is not None:
        # All draws happen in any case, so that one switched off leaves the others as they were.
        zoom, angle = rng.uniform(0, 1), rng.uniform(-1, 1)
        where, flipped = (rng.uniform(0, 1), rng.uniform(0, 1)), bool(rng.uniform(0, 1) < augmentation.flip)
    if augmentation.area is not None and rng is not None:
        window = random_window(rng, source, augmentation.area)
        placed = cut_and_resize(window, target).matrix()
        zoom = _magnification(placed, source, target)
        if augmentation.rotate == 0 and augmentation.between == 0:
            return cut_and_resize(window, target, zoom, flipped)
    elif augmentation.scale is not None:
        least, largest = augmentation.scale
        # Evenly over the whole numbers from the least to the largest, both included.
        short = min(least + int(zoom * (largest - least + 1)), largest)
        height, width = (round(side * short / min(source)) for side in source)
        top, left = (
            math.floor(place * (side + 2 * augmentation.pad - window + 1)) - augmentation.pad
            for place, side, window in zip(where, (height, width), target, strict=True)
        )
        placed = resize_and_crop(source, (height, width), (top, left), target).matrix()
        zoom = _magnification(placed, source, target)
    else:
        both_ways = augmentation.framing != "cover" and rng is not None
        zoom = augmentation.zoom ** (2 * zoom - 1 if both_ways else zoom)
        height, width = (zoom * side for side in _framed(source, target, augmentation.framing))
        shift = translation(-where[0] * (width - target[1]), -where[1] * (height - target[0]))
        placed = shift @ scaling(width / source[1], height / source[0])
    centre = translation((target[1] - 1) / 2, (target[0] - 1) / 2)
    matrix = centre @ rotation(angle * augmentation.rotate) @ np.linalg.inv(centre) @ placed
    if flipped:
        matrix = mirroring(target[1]) @ matrix
    if augmentation.between == 0 or rng is None:
        return Geometry((matrix,), target, zoom)
    return Geometry((matrix, _small_motion(rng, target, augmentation.between) @ matrix), target, zoom)


def _framed(source: Size, target: Size, framing: str) -> tuple[float, float]:
    """The (height, width) of the whole picture before any zoom."""
    if framing == "cover":
        return covering_size(source, target)
    if framing == "stretch":
        return target
    factor = min(target[0] / source[0], target[1] / source[1])
    return source[0] * factor, source[1] * factor


def _small_motion(rng: np.random.Generator, size: Size, strength: float) -> np.ndarray:
    """(3, 3): a shift, a turn about the middle and a change of scale."""
    x, y, turn, growth = strength * rng.uniform(-1, 1, 4)
    middle = translation((size[1] - 1) / 2, (size[0] - 1) / 2)
    factor = LARGEST_GROWTH**growth
    about = middle @ rotation(LARGEST_TURN * turn) @ np.diag([factor, factor, 1.0]) @ np.linalg.inv(middle)
    return translation(LARGEST_SHIFT * x * size[1], LARGEST_SHIFT * y * size[0]) @ about


def random_window(rng: np.random.Generator, source: Size, area: tuple[float, float]) -> Window:
    """Top, left, height and width of a window, drawn as torchvision does: its share of the area evenly, its aspect
    log-evenly.

    Args:
        rng: where the draws come from.
        source: (height, width) of the picture.
        area: least and largest share of the picture's area.
    """
    height, width = source
    for _ in range(TRIES):
        share, shape = rng.uniform(*area), math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        h, w = round(math.sqrt(share * height * width / shape)), round(math.sqrt(share * height * width * shape))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    h, w = min(height, max(1, round(width / ASPECT[0]))), min(width, max(1, round(height * ASPECT[1])))
    return (height - h) // 2, (width - w) // 2, h, w


def _magnification(matrix: np.ndarray, source: Size, target: Size) -> float:
    """Relative to the picture that just covers the target."""
    height, width = covering_size(source, target)
    return math.sqrt(np.linalg.det(matrix[:2, :2]) * source[0] * source[1] / (height * width))
