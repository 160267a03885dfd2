"""What figures stand before: grounds or photographs with clutter on them, and the flat things that hide a part."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np

from .grounds import GROUNDS, ground
from .materials import Dice
from .outlines import FRAGMENTS, OUTLINES

PHOTOGRAPHED = 0.85
"""How often the backdrop is a photograph, where there are some."""

HORIZON, BLURRED = 0.6, 0.3
"""How often something else begins above a line, and how often the backdrop is out of focus."""

CLUTTER = (2, 9)
"""Least and most things on a ground; a photograph has enough of its own."""

_GROUNDS, _OUTLINES = tuple(GROUNDS), tuple(outline[0] for outline in OUTLINES.values())


def draw_backdrop(dice: Dice, size: tuple[int, int], photographs: Sequence[np.ndarray] = ()) -> np.ndarray:
    """(H, W, 3) uint8."""
    if photographs and dice.chance(PHOTOGRAPHED):
        picture = _cut(dice, dice.pick(photographs), size)
        count = dice.integer(0, 2)
    else:
        picture = _landscape(dice, size)
        count = dice.integer(*CLUTTER)
    for _ in range(count):
        contour, colour = _thing(dice, size, 0.03, 0.22), draw_colour(dice)
        fill(picture, contour, 0.7 * colour)
        fill(picture, contour * 0.92 + contour.mean(0) * 0.08, colour)
    if dice.chance(BLURRED):
        cv2.GaussianBlur(picture, (0, 0), dice.uniform(0.004, 0.02) * max(size), picture)
    return picture


def draw_screen(dice: Dice, size: tuple[int, int]) -> np.ndarray:
    """Something flat that may hide a part of who is behind: a wall's edge, or a thing; a contour, (P, 2) pixels."""
    if dice.chance(0.5):
        return _thing(dice, size, 0.07, 0.14)
    # Along the bottom, the left or the right.
    height, width = size
    near, far = (dice.uniform(0.04, 0.2) for _ in range(2))
    edge = dice.integer(0, 2)
    if edge == 0:
        return np.array([(-1, height * (1 - near)), (width, height * (1 - far)), (width, height), (-1, height)])
    corners = np.array([(-1, -1), (width * near, -1), (width * far, height), (-1, height)])
    return corners if edge == 1 else (width - 1, 0) + corners * (-1, 1)


def draw_colour(dice: Dice) -> np.ndarray:
    """(3,) in [0, 255], of any hue and rarely strong."""
    return 255 * np.array(colorsys.hsv_to_rgb(dice.uniform(), dice.uniform() ** 2, dice.uniform(0.1, 0.95)))


def fill(picture: np.ndarray, contour: np.ndarray, colour: np.ndarray) -> None:
    """Paint a contour in pixels over a picture."""
    cv2.fillPoly(picture, [np.round(contour * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, shift=4)


def _cut(dice: Dice, photograph: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A part of a photograph, or its mirror image, in the shape of the picture."""
    (height, width), (rows, columns) = size, photograph.shape[:2]
    share = dice.uniform(0.5, 1) * min(rows / height, columns / width)
    rows_cut, columns_cut = max(1, int(height * share)), max(1, int(width * share))
    top, left = int(dice.uniform() * (rows - rows_cut + 1)), int(dice.uniform() * (columns - columns_cut + 1))
    step = -1 if dice.chance(0.5) else 1
    cut = photograph[top : top + rows_cut, left : left + columns_cut][:, ::step]
    return cv2.resize(np.ascontiguousarray(cut), size[::-1], interpolation=cv2.INTER_AREA)


def _landscape(dice: Dice, size: tuple[int, int]) -> np.ndarray:
    views = []
    for scale in (dice.uniform(0.5, 1.5), dice.uniform(0.7, 2)):
        view = ground(dice.pick(_GROUNDS), scale, dice.uniform(-0.3, 0.3), (dice.uniform(), dice.uniform()), size)
        tint = [255 * dice.uniform(0.75, 1.1) * dice.uniform(0.9, 1.1) for _ in range(3)]
        views.append(cv2.convertScaleAbs(view * np.array(tint, np.float32)))
    below, above = views
    if dice.chance(HORIZON):
        line = round(size[0] * dice.uniform(0.2, 0.75))
        below[:line] = above[:line]
    return below


def _thing(dice: Dice, size: tuple[int, int], least: float, most: float) -> np.ndarray:
    """A contour somewhere; its radius in shares of the shorter side."""
    kind = dice.uniform()
    if kind < 0.4:
        contour = dice.pick(_OUTLINES)
    elif kind < 0.7:
        contour = dice.pick(FRAGMENTS)(dice)
    else:
        width = dice.uniform(0.05, 0.9)
        contour = np.array([(-width, -1), (width, -1), (width, 1), (-width, 1)])
    angle = dice.pick((0.0, dice.uniform(0, 2 * math.pi)))
    c, s = math.cos(angle), math.sin(angle)
    radius = dice.uniform(least, most) * min(size)
    middle = dice.uniform(0, size[1] - 1), dice.uniform(0, size[0] - 1)
    return contour @ np.array([[c, s], [-s, c]]) * radius + middle
