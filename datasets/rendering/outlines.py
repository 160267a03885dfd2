"""Outlines of the synthetic shapes and of the fragments around them, as polygons.

Every outline fits into the unit circle about its middle; y points down, as in images. A second contour inside the
first is a hole. All classes differ at any rotation: a square on its corner stays a square.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .materials import Dice

Outline = list[np.ndarray]
"""Contours, each (P, 2) float64: x, y."""

ROUND = 64
"""Corners of a polygon that passes for round."""


def _arc(radius: float, start: float = 0.0, end: float = 2 * math.pi, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    angle = np.linspace(start, end, ROUND)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def _points(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, np.float64)


def _regular(corners: int, inner: float | None = None) -> np.ndarray:
    """Corners on the unit circle from the top on; with `inner`, a star whose notches lie on that radius."""
    count = corners if inner is None else 2 * corners
    angle = 2 * math.pi * np.arange(count) / count - math.pi / 2
    radius = np.ones(count) if inner is None else np.where(np.arange(count) % 2, inner, 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _cross(half: float = 0.32, arm: float = 0.94) -> np.ndarray:
    return _points((-half, -arm), (half, -arm), (half, -half), (arm, -half), (arm, half), (half, half),
                   (half, arm), (-half, arm), (-half, half), (-arm, half), (-arm, -half), (-half, -half))  # fmt: skip


def _crescent(bite: float = 0.82, shift: float = 0.46) -> np.ndarray:
    """The unit disc without a smaller one that is shifted along x."""
    across = (1 - bite**2 + shift**2) / (2 * shift)
    outer = math.acos(across)
    inner = math.acos((across - shift) / bite)
    return np.concatenate([_arc(1, outer, 2 * math.pi - outer), _arc(bite, 2 * math.pi - inner, inner, x=shift)])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, ROUND, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y - 2.5], axis=1) / 18.3


def _drop(radius: float = 0.62) -> np.ndarray:
    """A disc and the two tangents to it from its tip."""
    y = 1 - radius
    touch = math.asin(radius / (1 + y))
    return np.concatenate([_arc(radius, -touch, math.pi + touch, y=y), _points((0, -1))])


OUTLINES: dict[str, Outline] = {
    "arrow": [_points((-0.95, -0.2), (0.1, -0.2), (0.1, -0.62), (0.98, 0), (0.1, 0.62), (0.1, 0.2), (-0.95, 0.2))],
    "crescent": [_crescent()],
    "cross": [_cross()],
    "disc": [_arc(0.88)],
    "drop": [_drop()],
    "heart": [_heart()],
    "ring": [_arc(0.92), _arc(0.52)],
    "square": [_regular(4)],
    "star": [_regular(5, inner=0.42)],
    "triangle": [_regular(3)],
}
"""The classes, in the order of their labels."""


def _stick(dice: Dice) -> np.ndarray:
    width, bend = dice.uniform(0.06, 0.12), dice.uniform(-0.35, 0.35)
    along = np.linspace(-1, 1, 9)
    middle = bend * (1 - along**2)
    upper, lower = (np.stack([along, middle + sign * width], axis=1) for sign in (-1, 1))
    return np.concatenate([upper, lower[::-1]])


def _leaf(dice: Dice) -> np.ndarray:
    """Pointed at both ends."""
    width, along = dice.uniform(0.2, 0.36), np.linspace(-1, 1, 12)
    upper, lower = (np.stack([along, sign * width * (1 - along**2)], axis=1) for sign in (-1, 1))
    return np.concatenate([upper, lower[::-1]])


def _pebble(dice: Dice) -> np.ndarray:
    """Uneven and longer than wide, so that it is no disc."""
    angle = 2 * math.pi * np.arange(24) / 24
    radius = 1 - dice.uniform(0.02, 0.08) * (1 + np.cos(2 * angle + dice.uniform(0, 6)))
    radius -= dice.uniform(0.02, 0.05) * (1 + np.cos(3 * angle + dice.uniform(0, 6)))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle) * dice.uniform(0.42, 0.6)], axis=1)


def _squiggle(dice: Dice) -> np.ndarray:
    width, waves = dice.uniform(0.07, 0.11), dice.uniform(1.0, 1.6)
    along = np.linspace(-1, 1, 24)
    middle = 0.32 * np.sin(waves * math.pi * along + dice.uniform(0, 6))
    upper, lower = (np.stack([along, middle + sign * width], axis=1) for sign in (-1, 1))
    return np.concatenate([upper, lower[::-1]])


FRAGMENTS: tuple[Callable[[Dice], np.ndarray], ...] = (_stick, _leaf, _pebble, _pebble, _squiggle)
"""What lies around: none of it is a shape of the list."""
