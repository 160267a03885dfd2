"""Shapes to name: a textured, lit shape on a ground among fragments, drawn from a generator alone.

The draw does not depend on the image's size, so the same generator shows the same image at any size. Each class
has a hue that it prefers: color helps to name a shape and does not suffice, and can partly be guessed from a gray
image. So can the grounds' colors, from how they look.
"""

from __future__ import annotations

import colorsys
import math
from typing import NamedTuple

import cv2
import numpy as np

from .grounds import GROUNDS, PATTERNS, ground
from .materials import Dice
from .outlines import FRAGMENTS, OUTLINES, Outline

NAMES = tuple(OUTLINES)
"""The classes, in the order of their labels."""

PREFERRED_SHARE = 0.7
"""This share of a class's shapes has about its preferred hue, the rest any hue."""

PREFERRED_HUES = {
    "heart": 0.98, "disc": 0.07, "star": 0.14, "arrow": 0.24, "triangle": 0.38,
    "cross": 0.48, "drop": 0.58, "crescent": 0.67, "ring": 0.78, "square": 0.89,
}  # fmt: skip
"""Of a circle that begins and ends at red."""

HUE_SPREAD = 0.03
RADIUS = (0.24, 0.42)
"""Of the shape, in the shorter side of the image."""

CONTRAST = 0.24
"""The least difference in luma between a shape and its ground."""

SUPERSAMPLING = 4
_LUMA = np.array((0.299, 0.587, 0.114), np.float32)
_GROUNDS, _PATTERNS = tuple(GROUNDS), tuple(PATTERNS)


class Drawn(NamedTuple):
    """An image, (H, W, 3) uint8 RGB; where its shape is, (H, W) bool; and the shape's place in `NAMES`."""

    image: np.ndarray
    mask: np.ndarray
    category: int


def draw_shape(rng: np.random.Generator, height: int, width: int, name: str | None = None) -> Drawn:
    """One image with one shape.

    Args:
        rng: all that is random.
        height, width: of the image in pixels, from 32 on.
        name: the shape; by chance where None.
    """
    dice = Dice(rng, 128)
    chosen = dice.pick(NAMES)
    name = chosen if name is None else name
    light = dice.uniform(0, 2 * math.pi)
    towards_light = np.array([math.cos(light), math.sin(light)])
    canvas = _draw_ground(dice, (height, width))
    luma = float(canvas.mean((0, 1)) @ _LUMA)

    radius = dice.uniform(*RADIUS) * min(height, width)
    middle = np.array([dice.uniform(radius, extent - 1 - radius) for extent in (width, height)])
    _strew_fragments(dice, canvas, middle, radius, towards_light)
    angle, squeeze = dice.uniform(0, 2 * math.pi), dice.uniform(0.9, 1.0)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    placed = [contour * (radius, radius * squeeze) @ turn.T + middle for contour in OUTLINES[name]]
    cover = _cover(placed, (height, width))

    surface = _draw_surface(dice, name, luma, angle, (height, width))
    surface = _shade(dice, surface, cover, radius, towards_light)
    canvas *= _shadow(dice, cover, radius, towards_light)[..., None]
    canvas += cover[..., None] * (surface - canvas)
    _expose(dice, canvas, towards_light)
    image = cv2.convertScaleAbs(canvas, alpha=255)
    return Drawn(image, cover > 0.5, NAMES.index(name))


def _draw_ground(dice: Dice, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1]."""
    name, scale, shift = dice.pick(_GROUNDS), dice.uniform(0.35, 0.8), (dice.uniform(), dice.uniform())
    angle = dice.uniform(-0.15, 0.15) if name in ("sky", "water") else dice.uniform(0, 2 * math.pi)
    tint = dice.uniform(0.85, 1.12) * np.array([dice.uniform(0.95, 1.05) for _ in range(3)], np.float32)
    return ground(name, scale, angle, shift, size) * tint


def _strew_fragments(
    dice: Dice, canvas: np.ndarray, shape: np.ndarray, shape_radius: float, towards_light: np.ndarray
) -> None:
    """Small things that are no shape of the list, each with its shadow, none under the shape's middle."""
    height, width = canvas.shape[:2]
    image = cv2.convertScaleAbs(canvas, alpha=255)
    for _ in range(dice.integer(2, 7)):
        contour, angle = dice.pick(FRAGMENTS)(dice), dice.uniform(0, 2 * math.pi)
        radius = dice.uniform(0.07, 0.15) * min(height, width)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        middle = np.array([dice.uniform(0, width - 1), dice.uniform(0, height - 1)])
        color = 255 * _color(dice.uniform(), dice.uniform(0.15, 0.8), dice.uniform(0.4, 0.95))
        # Half covered, it could pass for a part of the shape.
        if math.dist(middle, shape) < shape_radius + 0.7 * radius:
            continue
        placed = contour * radius @ turn.T + middle
        beneath = image.copy()
        _fill(image, placed - towards_light * 0.18 * radius, np.zeros(3))
        cv2.addWeighted(image, 0.45, beneath, 0.55, 0, image)
        _fill(image, placed, 0.72 * color)
        _fill(image, placed * 0.86 + placed.mean(0) * 0.14 + towards_light * 0.06 * radius, color)
    canvas[:] = image * np.float32(1 / 255)


def _fill(image: np.ndarray, contour: np.ndarray, color: np.ndarray) -> None:
    cv2.fillPoly(image, [np.round(contour * 16).astype(np.int32)], color.tolist(), cv2.LINE_AA, shift=4)


def _color(hue: float, saturation: float, value: float) -> np.ndarray:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _cover(outline: Outline, size: tuple[int, int]) -> np.ndarray:
    """How much of each pixel the outline covers, (H, W) float32 in [0, 1]."""
    fine = np.zeros((size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), np.uint8)
    # Pixel centers are at integers, in the fine image too.
    corners = [np.round(((contour + 0.5) * SUPERSAMPLING - 0.5) * 16).astype(np.int32) for contour in outline]
    cv2.fillPoly(fine, corners, 255, cv2.LINE_8, shift=4)
    return cv2.resize(fine, size[::-1], interpolation=cv2.INTER_AREA) * np.float32(1 / 255)


def _draw_surface(dice: Dice, name: str, ground_luma: float, angle: float, size: tuple[int, int]) -> np.ndarray:
    """What the shape is covered with, over the whole image: (H, W, 3) float32 in [0, 1]."""
    if dice.chance(PREFERRED_SHARE):
        hue = PREFERRED_HUES[name] + dice.uniform(-HUE_SPREAD, HUE_SPREAD)
    else:
        hue = dice.uniform()
    first = _apart(_color(hue, dice.uniform(0.6, 0.95), dice.uniform(0.6, 1.0)), ground_luma)
    # The second color leads on in the direction in which the first has left the ground.
    second = first + dice.uniform(0.25, 0.6) * ((1.0 if first @ _LUMA > ground_luma else 0.0) - first)
    pattern = dice.pick(_PATTERNS)
    shift = (dice.uniform(), dice.uniform())
    weight = ground(pattern, dice.uniform(0.5, 1.1), dice.pick((0.0, math.pi / 4)) - angle, shift, size)[..., None]
    return (first + weight * (second - first)).astype(np.float32)


def _apart(color: np.ndarray, ground_luma: float) -> np.ndarray:
    """The color, made darker or lighter until it stands out from its ground."""
    luma = float(color @ _LUMA)
    if abs(luma - ground_luma) >= CONTRAST:
        return color
    lighter = ground_luma + CONTRAST <= 0.85 if luma >= ground_luma else ground_luma - CONTRAST < 0.1
    if lighter:
        return color + (1 - color) * (ground_luma + CONTRAST - luma) / (1 - luma)
    return color * (ground_luma - CONTRAST) / luma


def _shade(dice: Dice, surface: np.ndarray, cover: np.ndarray, radius: float, towards_light: np.ndarray) -> np.ndarray:
    """Light on a body with rounded edges: its slopes are those of the blurred cover."""
    edge = dice.uniform(0.06, 0.16) * radius
    slope = cv2.GaussianBlur(cover, (0, 0), edge)
    across, down = cv2.Sobel(slope, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(slope, cv2.CV_32F, 0, 1, scale=1 / 8)
    # A blurred step is 1 / (sigma sqrt(2 pi)) steep; outwards is where the cover falls.
    lit = (across * -towards_light[0] + down * -towards_light[1]) * np.float32(edge * math.sqrt(2 * math.pi))
    gloss = dice.uniform(0.4, 0.9) if dice.chance(0.5) else 0.0
    highlight = np.float32(gloss) * np.clip((lit - 0.45) * 2, 0, 1) ** 2
    return surface * (1 + np.float32(dice.uniform(0.3, 0.55)) * lit)[..., None] + highlight[..., None]


def _shadow(dice: Dice, cover: np.ndarray, radius: float, towards_light: np.ndarray) -> np.ndarray:
    """The share of light that reaches the ground, (H, W) float32."""
    x, y = -towards_light * dice.uniform(0.08, 0.2) * radius
    moved = cv2.warpAffine(cover, np.array([[1, 0, x], [0, 1, y]]), cover.shape[::-1])
    return 1 - np.float32(dice.uniform(0.35, 0.6)) * cv2.GaussianBlur(moved, (0, 0), dice.uniform(0.05, 0.12) * radius)


def _expose(dice: Dice, canvas: np.ndarray, towards_light: np.ndarray) -> None:
    """It is brighter towards the light, and the exposure is never quite the same."""
    height, width = canvas.shape[:2]
    fall, gain = dice.uniform(0.05, 0.22), dice.uniform(0.88, 1.1)
    x = np.linspace(-fall, fall, width, dtype=np.float32) * towards_light[0]
    y = np.linspace(-fall, fall, height, dtype=np.float32) * towards_light[1]
    canvas *= (gain * (1 + y[:, None] + x))[..., None].astype(np.float32)
