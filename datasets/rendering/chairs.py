"""Chairs: pairs of images in which everything moves, each thing by its own affine map, so that the motion is exact.

After the set of Dosovitskiy et al. 2015 (arXiv:1504.06852, section 4.1): things in front of a background, the motion of
each composed with the background's, nearer ones hiding farther ones. What things are covered with are photos that
the caller gives, or this package's own grounds and patterns. Lengths are shares of the image's width, so that the
same generator shows the same scene at any size.

Every surface is an endless plane (a photo goes on as its mirror image), so that what enters the image is as
exact as what was in it. Things are drawn into both frames from the same outline and surface: nothing is resampled from
one frame to the other, and the second frame has no trace of the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from .grounds import GROUNDS, PATTERNS, pyramid
from .materials import Dice
from .outlines import FRAGMENTS, OUTLINES, Outline

THINGS = (4, 14)
"""Least and most things before the background."""

STATIC, ALIKE, GENTLE = 0.12, 0.1, 0.25
"""How often the background stands still, a thing moves with the background, and a scene hardly moves at all."""

BACKGROUND_SHIFT, THING_SHIFT, SPREAD = 0.028, 0.03, 1.0
"""Median lengths of a shift in widths, and the spread of its logarithm: most are small and few are very large."""

LARGEST_SHIFT = 0.35

CLIP_STEP = 0.4
"""Share of a motion that a thing moves from one frame of a clip to the next."""

TEXELS = (220.0, 420.0)
"""Least and most pixels of a surface in an image's width: at usual sizes nothing is reduced by half."""

SURFACES = 72
"""How many surfaces are painted when no photos are given; each use has colors of its own."""
_SEED = 201506

Surface = tuple[np.ndarray, int]
"""(h, w, 3) uint8 and how it goes on beyond its edges: OpenCV's border."""


class Thing(NamedTuple):
    """One layer: what it looks like, where it is in the first frame, and how it moves to the second.

    Attributes:
        outline: contours in the thing's own units; None covers everything.
        surface: what it is covered with.
        covering: (3, 3) from pixels of the surface to the thing's units.
        place: (3, 3) from the thing's units to pixels of the first frame.
        motion: (3, 3) from pixels of the first frame to pixels of the second.
    """

    outline: Outline | None
    surface: Surface
    covering: np.ndarray
    place: np.ndarray
    motion: np.ndarray


def draw_chairs(
    rng: np.random.Generator, height: int, width: int, photos: Sequence[np.ndarray] = ()
) -> dict[str, np.ndarray]:
    """One pair.

    Args:
        rng: the only source of the draw.
        height, width: of both frames.
        photos: (h, w, 3) uint8 each, what things are covered with; none: grounds and patterns.

    Returns:
        `first` and `second`, (H, W, 3) uint8; `flow`, (H, W, 2) float32, pixels from the first to the second, known
        everywhere; `visible`, (H, W) bool: what the first frame shows and the second does too.
    """
    things = draw_scene(Dice(rng), width, height / width, photos)
    first, owner = _frame(things, [thing.place for thing in things], (height, width))
    second, owner_after = _frame(things, [thing.motion @ thing.place for thing in things], (height, width))
    motions = np.stack([thing.motion[:2] for thing in things])[owner]
    y, x = np.mgrid[:height, :width].astype(np.float64)
    to_x, to_y = (motions[..., row, 0] * x + motions[..., row, 1] * y + motions[..., row, 2] for row in (0, 1))
    column, row = np.floor(to_x + 0.5).astype(np.int64), np.floor(to_y + 0.5).astype(np.int64)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    visible = owner_after[np.where(inside, row, 0), np.where(inside, column, 0)] == owner
    flow = np.stack([to_x - x, to_y - y], axis=-1).astype(np.float32)
    return {"first": first, "second": second, "flow": flow, "visible": inside & visible}


def draw_moving(
    rng: np.random.Generator, frames: int, height: int, width: int, photos: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """A clip, (T, H, W, 3) uint8: every layer of a scene takes the same step from each frame to the next.

    Args:
        rng: the only source of the draw.
        frames: T.
        height, width: of the frames.
        photos: see `draw_chairs`.
    """
    things = draw_scene(Dice(rng), width, height / width, photos)
    steps = [np.eye(3) + CLIP_STEP * (thing.motion - np.eye(3)) for thing in things]
    places, clip = [thing.place for thing in things], []
    for _ in range(frames):
        clip.append(_frame(things, places, (height, width))[0])
        places = [step @ place for step, place in zip(steps, places, strict=True)]
    return np.stack(clip)


def draw_scene(dice: Dice, width: int, shape: float, photos: Sequence[np.ndarray] = ()) -> list[Thing]:
    """The layers of a scene, the farthest first.

    Args:
        dice: the only source of the draw.
        width: of the image, pixels.
        shape: height / width.
        photos: see `draw_chairs`.
    """
    strength = dice.uniform(0.05, 0.3) if dice.chance(GENTLE) else 1.0
    middle = np.array([0.5, shape / 2])
    still = dice.chance(STATIC)
    motion = _motion(dice, middle, 0.0 if still else BACKGROUND_SHIFT, 2.5, 0.03, strength)
    # Pixel centers are at integers: the image reaches from -1/2 to width - 1/2.
    to_pixels = np.array([[width, 0, -0.5], [0, width, -0.5], [0, 0, 1.0]])
    to_widths = np.linalg.inv(to_pixels)
    background, covering = _covered(dice, photos, 1.0, background=True)
    layers = [Thing(None, background, covering, to_pixels, to_pixels @ motion @ to_widths)]
    for _ in range(dice.integer(*THINGS)):
        radius = 0.035 * (0.26 / 0.035) ** dice.uniform()
        where = np.array([dice.uniform(-0.03, 1.03), dice.uniform(-0.03, shape + 0.03)])
        own = np.eye(3)
        if not dice.chance(ALIKE):
            own = _motion(dice, where, THING_SHIFT, 7.0, 0.08, strength)
        angle, squeeze = dice.uniform(0, 2 * math.pi), dice.uniform(0.6, 1.0)
        place = to_pixels @ _similar(where, angle, radius) @ np.diag([1.0, squeeze, 1.0])
        surface, covering = _covered(dice, photos, 1 / radius)
        layers.append(Thing(_outline(dice), surface, covering, place, to_pixels @ own @ motion @ to_widths))
    return layers


def _motion(dice: Dice, about: np.ndarray, shift: float, turn: float, growth: float, strength: float) -> np.ndarray:
    """(3, 3) affine, in widths: a shift of log-normal length, a turn and a change of both scales about a point."""
    length = min(shift * math.exp(SPREAD * _normal(dice)), LARGEST_SHIFT) * strength
    direction = dice.uniform(0, 2 * math.pi)
    turned = math.radians(turn * _normal(dice)) * strength if shift else 0.0
    grown = [math.exp(growth * _normal(dice) * strength) if shift else 1.0 for _ in range(2)]
    # Both scales change mostly alike: a thing comes nearer more often than it is stretched.
    along, across = grown[0], grown[0] * grown[1] ** 0.3
    matrix = _similar(np.zeros(2), turned, 1.0) @ np.diag([along, across, 1.0])
    matrix[:2, 2] = about - matrix[:2, :2] @ about
    matrix[:2, 2] += length * np.array([math.cos(direction), math.sin(direction)])
    return matrix


def _normal(dice: Dice) -> float:
    """A normal number, by Box and Muller."""
    return math.sqrt(-2 * math.log(1 - dice.uniform())) * math.cos(2 * math.pi * dice.uniform())


def _similar(where: np.ndarray, angle: float, scale: float) -> np.ndarray:
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[c, -s, where[0]], [s, c, where[1]], [0, 0, 1.0]])


def _covered(
    dice: Dice, photos: Sequence[np.ndarray], width: float, background: bool = False
) -> tuple[Surface, np.ndarray]:
    """A surface and how it lies.

    Args:
        dice: the source of the draw.
        photos: to pick from.
        width: of the image in the thing's units.
        background: a photo then covers almost the complete image, as far as its resolution allows.
    """
    shift, angle, texels = (-dice.uniform(), -dice.uniform()), dice.uniform(-0.3, 0.3), dice.uniform(*TEXELS)
    if photos:
        pixels = dice.pick(photos)
        surface = pixels, cv2.BORDER_REFLECT_101
        if background:
            texels, shift = min(texels * 1.2, 0.9 * pixels.shape[1]), (-0.05 * dice.uniform(), -0.05 * dice.uniform())
    else:
        surface = _drawn_surface(dice), cv2.BORDER_WRAP
    step = width / texels
    return surface, _similar(np.array(shift) * surface[0].shape[1::-1] * step, angle, step)


def _drawn_surface(dice: Dice) -> np.ndarray:
    """(256, 256, 3) uint8 that tiles, in colors of its own."""
    gain = np.array([dice.uniform(0.55, 1.15) for _ in range(3)]) * dice.uniform(0.7, 1.0)
    offset = np.array([dice.uniform(0, 70) for _ in range(3)])
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)
    return cv2.LUT(dice.pick(_surfaces()), table[None])


@cache
def _surfaces() -> list[np.ndarray]:
    """Grounds, grounds in the pattern of others, and grounds under paint; painted once, from a fixed seed."""
    rng, painted = np.random.default_rng(_SEED), []
    grounds, patterns = ([pyramid(name)[0] for name in names] for names in (GROUNDS, PATTERNS))
    for number in range(SURFACES):
        first, second = grounds[number % len(grounds)], grounds[rng.integers(len(grounds))]
        if number >= len(grounds):
            covering = 0.6 * rng.uniform(0, 1, 2)
            first, second = (
                (1 - share) * ground + share * rng.uniform(0, 1, 3)
                for share, ground in zip(covering, (first, second), strict=True)
            )
            first = first + patterns[rng.integers(len(patterns))][..., None] * (second - first)
        painted.append(np.clip(np.round(first * 255), 0, 255).astype(np.uint8))
    return painted


def _outline(dice: Dice) -> Outline:
    kind = dice.uniform()
    if kind < 0.3:
        return _chair(dice)
    if kind < 0.6:
        return [_blob(dice)]
    if kind < 0.8:
        return [dice.pick(FRAGMENTS)(dice)]
    return OUTLINES[dice.pick(list(OUTLINES))]


def _blob(dice: Dice) -> np.ndarray:
    """A smooth closed line of no particular shape, within the unit circle."""
    angle = 2 * math.pi * np.arange(48) / 48
    radius = np.full(48, 0.68)
    for wave in range(2, 7):
        radius += dice.uniform(-0.3, 0.3) / wave * np.cos(wave * angle + dice.uniform(0, 6.3))
    radius = np.clip(radius, 0.15, 1)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _chair(dice: Dice) -> Outline:
    """A chair from its side: two legs, a seat, a back, perhaps with a gap in it. Thin parts are what is hard."""
    leg, seat, lean = dice.uniform(0.05, 0.14), dice.uniform(0.08, 0.2), dice.uniform(-0.05, 0.25)
    left, right, top = -dice.uniform(0.4, 0.65), dice.uniform(0.4, 0.65), -dice.uniform(0.55, 0.75)
    back = dice.uniform(0.08, 0.35)
    body = np.array([
        (left - lean, top), (left - lean + back, top), (left + back, -seat), (right, -seat), (right, 0.0),
        (right, 0.72), (right - leg, 0.72), (right - leg, seat * 0.5), (left + leg, seat * 0.5), (left + leg, 0.72),
        (left, 0.72),
    ])  # fmt: skip
    if back < 0.2:
        return [body]
    bottom, slope = -seat - 0.08, lean / (-seat - top)
    shift = [slope * (-seat - y) for y in (top + 0.08, bottom)]
    gap = np.array([
        (left + 0.06 - shift[0], top + 0.08), (left + back - 0.06 - shift[0], top + 0.08),
        (left + back - 0.06 - shift[1], bottom), (left + 0.06 - shift[1], bottom),
    ])  # fmt: skip
    return [body, gap]


def _frame(
    things: Sequence[Thing], places: Sequence[np.ndarray], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The image, (H, W, 3) uint8, and which layer each pixel's middle shows, (H, W) integers."""
    background = things[0]
    matrix = (places[0] @ background.covering)[:2]
    pixels, border = background.surface
    image = cv2.warpAffine(pixels, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=border)
    owner = np.zeros(size, np.int64)
    for number, (thing, place) in enumerate(zip(things[1:], places[1:], strict=True), 1):
        _lay(image, owner, number, thing, place)
    return image, owner


def _lay(image: np.ndarray, owner: np.ndarray, number: int, thing: Thing, place: np.ndarray) -> None:
    assert thing.outline is not None
    contours = [contour @ place[:2, :2].T + place[:2, 2] for contour in thing.outline]
    corners = np.concatenate(contours)
    left, top = (max(0, math.floor(low) - 1) for low in corners.min(0))
    right, bottom = (
        min(side, math.ceil(high) + 2) for side, high in zip(owner.shape[::-1], corners.max(0), strict=True)
    )
    if left >= right or top >= bottom:
        return
    cover = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(cover, [np.round((c - (left, top)) * 16).astype(np.int32) for c in contours], 255, cv2.LINE_AA, 4)
    matrix = (place @ thing.covering)[:2].copy()
    matrix[:, 2] -= (left, top)
    pixels, border = thing.surface
    surface = cv2.warpAffine(pixels, matrix, cover.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=border)
    beneath = image[top:bottom, left:right]
    share = cover[..., None].astype(np.uint16)
    beneath[:] = ((surface * share + beneath * (255 - share) + 127) // 255).astype(np.uint8)
    owner[top:bottom, left:right][cover >= 128] = number
