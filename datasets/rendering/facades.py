"""Facades: label maps and rendered buildings; which labels an image was made from can be read from it again.

A grammar says what there is (`elevations`); a style that the labels do not tell says what it is made of (`styles`,
`masonry`); the sun throws shadows from all that stands out, and a camera looks at it a little aslant. Every color
belongs to one part of a facade alone (`paints`), so that `read_labels` finds them in an image. Meters become shares of
the image's shorter side, so that the same generator shows the same building at any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from .elevations import Elevation, draw_elevation
from .grounds import pyramid
from .masonry import Corners, Part, build
from .materials import Dice
from .paints import NAMES, read_labels
from .styles import Style, draw_style

SUPERSAMPLING = 3
"""Odd: the middle one of the fine pixels lies at the center of the pixel, where its label is taken."""

FILLS = (0.86, 1.04)
"""How much of the image's shorter side a facade takes."""

ABOVE = 1.16
"""Heights of a facade that have room where its widths have one: above the cornice there is some sky or roof."""

ASLANT, TILT = 0.12, 1.2
"""How much farther one edge of the image may be than its middle, and how many degrees the camera may be turned."""

SUNNY, SUN, OVERCAST = 0.8, (0.52, 0.75), (0.05, 0.3)
"""How often the sun shines, and its share of the light if it does and if it does not."""

TILE = 2.4
"""Meters of a wall that a tile of its texture covers."""

_STEPS, _REACH = 20, 1.3
"""Where shadows are looked for: that many places up to this height in meters above what is shadowed."""

_GRAY, _DEEPEST = 150, 0.5
"""Steps of relief in a meter, and what is as deep as zero."""

_EVEN = 128
"""A texture where it is as bright as on average."""


class Drawn(NamedTuple):
    """An image and what it shows.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8, what is at the centers of the pixels: positions in `NAMES`.
    """

    image: np.ndarray
    labels: np.ndarray


class Sunlight(NamedTuple):
    """The light of a day.

    Attributes:
        sun: its share of the light on a wall.
        across, up: where it comes from: its slopes to the right and upwards against the line to the viewer.
        exposure: what is multiplied with all.
        tint: color of the sun about 1; shadows are of the opposite.
    """

    sun: float
    across: float
    up: float
    exposure: float
    tint: tuple[float, float, float]


def draw_facade(rng: np.random.Generator, height: int, width: int) -> Drawn:
    """One facade.

    Args:
        rng: the only source of the draw.
        height, width: of the image.
    """
    dice = Dice(rng, 512)
    elevation = draw_elevation(dice)
    return show(dice, elevation, _view(dice, elevation), (height, width))


def show(dice: Dice, elevation: Elevation, view: np.ndarray, size: tuple[int, int]) -> Drawn:
    """A facade in a style that is drawn here; the labels come from the elevation and the view alone."""
    style, light = draw_style(dice), _draw_light(dice)
    parts = build(dice, style, elevation)
    to_fine = _to_pixels(size) @ view
    owner = _lay([part.corners for part in parts], range(1, len(parts) + 1), to_fine, size)
    tables = _Tables.of(parts)
    lit = _lit(owner, tables, style, light, to_fine)
    image = cv2.resize(lit, size[::-1], interpolation=cv2.INTER_AREA)
    sky = cv2.resize((owner == 0).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    image *= _weather(dice, size)[..., None]
    image += _sky(dice, style, size) * sky[..., None]
    return Drawn(_developed(image * np.float32(light.exposure)), _labels(elevation, to_fine, size))


def _labels(elevation: Elevation, to_fine: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8: what is at the centers of the pixels; background where there is nothing."""
    numbers = [NAMES.index(element.name) for element in elevation.elements]
    fine = _lay([element.contour().tolist() for element in elevation.elements], numbers, to_fine, size)
    middle = SUPERSAMPLING // 2
    return fine[middle::SUPERSAMPLING, middle::SUPERSAMPLING].astype(np.uint8)


def _view(dice: Dice, elevation: Elevation) -> np.ndarray:
    """(3, 3) from meters on the wall to shares of the image's shorter side about its middle, y down."""
    scale = dice.uniform(*FILLS) / max(elevation.width, ABOVE * elevation.height)
    street = 0.5 - dice.uniform(0.03, 0.09)
    aside = dice.uniform(-0.04, 0.04)
    place = np.array([[scale, 0, aside - scale * elevation.width / 2], [0, -scale, street], [0, 0, 1]])
    angle = math.radians(dice.uniform(-TILT, TILT))
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    aslant = np.array([[1, 0, 0], [0, 1, 0], [dice.uniform(-ASLANT, ASLANT), dice.uniform(-ASLANT, ASLANT) / 2, 1]])
    return aslant @ turn @ place


def _to_pixels(size: tuple[int, int]) -> np.ndarray:
    """(3, 3) from shares to fine pixels; pixel centers are at integers, in the fine image too."""
    height, width = size
    side = SUPERSAMPLING * min(size)
    return np.array([
        [side, 0, (SUPERSAMPLING * width - 1) / 2],
        [0, side, (SUPERSAMPLING * height - 1) / 2],
        [0, 0, 1],
    ])  # fmt: skip


def _draw_light(dice: Dice) -> Sunlight:
    sun = dice.uniform(*(SUN if dice.chance(SUNNY) else OVERCAST))
    warm = dice.uniform(0.0, 0.05)
    return Sunlight(
        sun,
        across=dice.pick((-1, 1)) * dice.uniform(0.25, 1.0),
        up=dice.uniform(0.4, 1.0),
        exposure=dice.uniform(0.85, 1.1),
        tint=(1 + warm, 1.0, 1 - warm),
    )


class _Tables(NamedTuple):
    """What is known of every part by its number; number 0 is the sky."""

    paint: np.ndarray
    relief: np.ndarray
    rough: np.ndarray

    @classmethod
    def of(cls, parts: list[Part]) -> _Tables:
        relief = np.array([-_DEEPEST] + [part.relief for part in parts])
        return cls(
            np.array([np.zeros(3)] + [part.paint for part in parts], np.float32),
            np.clip((relief + _DEEPEST) * _GRAY, 0, 255).astype(np.uint8),
            np.array([0.0] + [part.rough for part in parts], np.float32),
        )


def _lay(outlines: Sequence[Corners], numbers: Sequence[int], to_fine: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The number of the last convex outline in which the middle of a fine pixel lies, 0 where there is none."""
    canvas = np.zeros((size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), np.uint16)
    points = np.array([corner for outline in outlines for corner in outline])
    moved = points @ to_fine[:, :2].T + to_fine[:, 2]
    corners = moved[:, :2] / moved[:, 2:]
    lengths = np.array([len(outline) for outline in outlines])
    ends = np.cumsum(lengths)
    # OpenCV fills every pixel that the edge touches, which is half a pixel too far.
    middles = np.repeat(np.add.reduceat(corners, ends - lengths) / lengths[:, None], lengths, axis=0)
    corners = corners + np.clip(middles - corners, -0.5, 0.5)
    fixed = np.round(corners * 16).astype(np.int32)
    for number, length, end in zip(numbers, lengths.tolist(), ends.tolist(), strict=True):
        cv2.fillConvexPoly(canvas, fixed[end - length : end], number, cv2.LINE_8, 4)
    return canvas


def _lit(owner: np.ndarray, tables: _Tables, style: Style, light: Sunlight, to_fine: np.ndarray) -> np.ndarray:
    """Linear light of every fine pixel, (h, w, 3) float32; the sky is black."""
    number = owner.astype(np.intp)
    relief = tables.relief.take(number)
    scale = _scale(to_fine)
    texture = 1 + tables.rough.take(number) * (_texture(style.wall, to_fine, owner.shape) * np.float32(1 / _EVEN) - 1)
    sun = _shadows(relief, light, scale) * np.float32(light.sun) * texture
    corner = max(1, round(0.25 * scale)) | 1
    hollow = cv2.subtract(cv2.blur(relief, (corner, corner)), relief)
    sky = (1 - np.minimum(hollow, 80) * np.float32(0.5 / 80)) * np.float32(1 - light.sun) * texture
    colors = cv2.merge([sun * np.float32(warm) + sky * np.float32(2 - warm) for warm in light.tint])
    return cv2.multiply(colors, tables.paint.take(number, axis=0), dst=colors)


def _scale(to_fine: np.ndarray) -> float:
    """Fine pixels per meter in the middle of the image; the view is too gentle for more than one number."""
    return math.sqrt(abs(np.linalg.det(to_fine)))


def _shadows(relief: np.ndarray, light: Sunlight, scale: float) -> np.ndarray:
    """The share of sunlight that arrives, (h, w) float32: none where something on the way to the sun is higher."""
    height, width = relief.shape
    top, lowered = relief.copy(), np.empty_like(relief)
    for step in range(1, _STEPS + 1):
        rise = _REACH * step / _STEPS
        x, y = round(light.across * rise * scale), round(-light.up * rise * scale)
        if abs(x) >= width or abs(y) >= height:
            break
        level = np.uint8(round(rise * _GRAY))
        np.subtract(np.maximum(relief, level, out=lowered), level, out=lowered)
        here = top[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
        there = lowered[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)]
        np.maximum(here, there, out=here)
    return 1 - np.minimum(cv2.subtract(top, relief), 12) * np.float32(1 / 12)


def _texture(name: str, to_fine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) uint8 about `_EVEN`: how bright the wall's texture is."""
    levels = _walls(name)
    texels = len(levels[0]) / TILE
    level = min(len(levels) - 1, max(0, round(math.log2(max(texels / _scale(to_fine), 1)))))
    to_texels = np.diag([texels / 2**level, texels / 2**level, 1]) @ np.linalg.inv(to_fine)
    # Texels are about as large as fine pixels, which are averaged later.
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpPerspective(levels[level], to_texels, shape[::-1], flags=flags, borderMode=cv2.BORDER_WRAP)


@cache
def _walls(name: str) -> list[np.ndarray]:
    """A tile of a wall's brightness about its mean, and smaller copies."""
    levels = [level if level.ndim == 2 else level.mean(-1) for level in pyramid(name)]
    return [np.round((level / levels[0].mean()).clip(0.4, 1.6) * _EVEN).astype(np.uint8) for level in levels]


def _weather(dice: Dice, size: tuple[int, int]) -> np.ndarray:
    """(H, W) float32: what rain and soot have left, in patches and in streaks."""
    strength = dice.uniform(0.05, 0.3)
    patches = _lattice(dice, 7, 7, size)
    streaks = _lattice(dice, 3, 30, size)
    return 1 - np.float32(strength) * (np.float32(0.6) * patches + np.float32(0.4) * streaks)


def _sky(dice: Dice, style: Style, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32 linear light: brighter towards the horizon, with clouds."""
    heaps = np.float32(0.65) * _lattice(dice, 4, 4, size) + np.float32(0.35) * _lattice(dice, 11, 8, size)
    clouds = np.clip(heaps * 3 - dice.uniform(0.8, 2.2), 0, 1)
    pale = np.linspace(0, dice.uniform(0, 0.5), size[0], dtype=np.float32)[:, None]
    share = (clouds + pale).clip(0, 1)[..., None]
    sky, cloud = (style.paints[thing].astype(np.float32) for thing in ("sky", "cloud"))
    return sky * (1 - share) + cloud * share


def _lattice(dice: Dice, rows: int, columns: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth noise in [0, 1], (H, W) float32."""
    values = np.array([dice.uniform() for _ in range(rows * columns)], np.float32).reshape(rows, columns)
    return cv2.resize(values, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)


def _developed(light: np.ndarray) -> np.ndarray:
    """Linear light coded as sRGB, uint8."""
    return cv2.convertScaleAbs(np.minimum(light, 1) ** np.float32(1 / 2.2) * 255)


__all__ = ["NAMES", "Drawn", "draw_facade", "read_labels", "show"]
