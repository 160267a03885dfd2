"""Backgrounds of figures: textures or photos with clutter, and flat objects that occlude a part."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np

from .grounds import GROUNDS, ground
from .materials import Dice
from .outlines import FRAGMENTS, OUTLINES

PHOTOED = 0.85
"""How often the backdrop is a photo, where there are some."""

HORIZON, BLURRED = 0.6, 0.3
"""How often something else begins above a line, and how often the backdrop is out of focus."""

CLUTTER = (2, 9)
"""Least and most things on a ground; a photo has enough of its own."""

_GROUNDS, _OUTLINES = tuple(GROUNDS), tuple(outline[0] for outline in OUTLINES.values())


def draw_backdrop(dice: Dice, size: tuple[int, int], photos: Sequence[np.ndarray] = ()) -> np.ndarray:
    """(H, W, 3) uint8."""
    if photos and dice.chance(PHOTOED):
        image = _cut(dice, dice.pick(photos), size)
        count = dice.integer(0, 2)
    else:
        image = _landscape(dice, size)
        count = dice.integer(*CLUTTER)
    for _ in range(count):
        contour, color = _thing(dice, size, 0.03, 0.22), draw_color(dice)
        fill(image, contour, 0.7 * color)
        fill(image, contour * 0.92 + contour.mean(0) * 0.08, color)
    if dice.chance(BLURRED):
        cv2.GaussianBlur(image, (0, 0), dice.uniform(0.004, 0.02) * max(size), image)
    return image


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


def draw_color(dice: Dice) -> np.ndarray:
    """(3,) in [0, 255], of any hue and rarely strong."""
    return 255 * np.array(colorsys.hsv_to_rgb(dice.uniform(), dice.uniform() ** 2, dice.uniform(0.1, 0.95)))


def fill(image: np.ndarray, contour: np.ndarray, color: np.ndarray) -> None:
    """Paint a contour in pixels over an image."""
    cv2.fillPoly(image, [np.round(contour * 16).astype(np.int32)], color.tolist(), cv2.LINE_AA, shift=4)


def _cut(dice: Dice, photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A part of a photo, or its mirror image, in the shape of the image."""
    (height, width), (rows, columns) = size, photo.shape[:2]
    share = dice.uniform(0.5, 1) * min(rows / height, columns / width)
    rows_cut, columns_cut = max(1, int(height * share)), max(1, int(width * share))
    top, left = int(dice.uniform() * (rows - rows_cut + 1)), int(dice.uniform() * (columns - columns_cut + 1))
    step = -1 if dice.chance(0.5) else 1
    cut = photo[top : top + rows_cut, left : left + columns_cut][:, ::step]
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
