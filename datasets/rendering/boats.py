"""Boats: clips in which the first frame tells everything that moves.

Arrow-shaped boats move in front of a static ground, each where it points, at a speed that its hue tells and with a turn
that its white stripe tells. Boats, ground and paths are exact; what they hide stays known. Lengths are pixels of an
image that is 64 pixels wide and scale with its width.
"""

from __future__ import annotations

import colorsys
import math
from typing import NamedTuple

import cv2
import numpy as np

SPEEDS = {0.0: 0.6, 1 / 3: 1.3, 2 / 3: 2.2}
"""Pixels per frame by hue: red, green, blue."""
TURNS = (-0.06, 0.0, 0.06)
"""Radians per frame of a boat whose stripe is left, in the middle, or right; y points down, so right is positive."""
LENGTH = (5.0, 9.0)
"""Least and most half lengths of a boat."""

HULL = np.array([(1.0, 0.0), (-0.2, 0.62), (-1.0, 0.5), (-0.7, 0.0), (-1.0, -0.5), (-0.2, -0.62)])
STRIPE = np.array([(0.2, -0.12), (0.2, 0.12), (-0.65, 0.12), (-0.65, -0.12)])
STRIPE_SHIFT = 0.28
SUBPIXEL_BITS = 4


class Clip(NamedTuple):
    """A clip and what it is made of.

    Attributes:
        frames: (T, H, W, 3) uint8.
        background: (H, W, 3) uint8, the ground without boats.
        masks: (T, H, W) bool, pixels that a boat covers by half or more.
        paths: (N, T, 3) float64: x and y of every boat's center in pixels, and its direction in radians.
    """

    frames: np.ndarray
    background: np.ndarray
    masks: np.ndarray
    paths: np.ndarray


def draw_boats(rng: np.random.Generator, frames: int, height: int, width: int) -> Clip:
    """One or two boats for a number of frames, from this random generator alone."""
    background = _ground(rng, height, width)
    clip = np.repeat(background[None], frames, axis=0)
    masks = np.zeros((frames, height, width), bool)
    unit = width / 64
    paths = []
    for _ in range(rng.integers(1, 3)):
        hue, turn = rng.choice(list(SPEEDS)), rng.integers(len(TURNS))
        path = _path(rng, frames, height, width, SPEEDS[hue] * unit, TURNS[turn])
        length = rng.uniform(*LENGTH) * unit
        color = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.75, 1), rng.uniform(0.7, 1))) * 255
        stripe = STRIPE + np.array((0, (turn - 1) * STRIPE_SHIFT))
        for time, (x, y, angle) in enumerate(path):
            cover = _cover(HULL, x, y, angle, length, height, width)
            masks[time] |= cover >= 0.5
            for share, paint in ((cover, color), (_cover(stripe, x, y, angle, length, height, width), 255)):
                mixed = clip[time] * (1 - share[..., None]) + paint * share[..., None]
                clip[time] = np.round(mixed).astype(np.uint8)
        paths.append(path)
    return Clip(clip, background, masks, np.array(paths))


def _path(rng: np.random.Generator, frames: int, height: int, width: int, speed: float, turn: float) -> np.ndarray:
    """(T, 3) positions and directions; the boat is inside the image in the middle of the clip."""
    middle, direction = rng.uniform(0.2, 0.8, 2) * (width, height), rng.uniform(0, 2 * math.pi)
    angles = direction + turn * np.arange(frames)
    steps = speed * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    places = np.concatenate([np.zeros((1, 2)), np.cumsum(steps[:-1], axis=0)])
    return np.concatenate([places - places[frames // 2] + middle, angles[:, None]], axis=1)


def _cover(polygon: np.ndarray, x: float, y: float, angle: float, length: float, height: int, width: int) -> np.ndarray:
    """Share of every pixel that a polygon covers, (H, W) in [0, 1]."""
    c, s = length * math.cos(angle), length * math.sin(angle)
    corners = polygon @ np.array([(c, s), (-s, c)]) + (x, y)
    cover = np.zeros((height, width), np.uint8)
    fixed = np.round(corners * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(cover, [fixed], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return cover / 255


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A gradient of two colors with smooth noise and rectangles, (H, W, 3) uint8."""
    first, second = rng.uniform(40, 200, (2, 3))
    y, x = np.mgrid[:height, :width]
    angle = rng.uniform(0, 2 * math.pi)
    share = 0.5 + 0.5 * ((x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle))
    image = first + (second - first) * share[..., None]
    noise = rng.uniform(-25, 25, (max(2, height // 8), max(2, width // 8), 3))
    image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(2, 6)):
        left, top = rng.uniform(-0.1, 0.9, 2) * (width, height)
        right, bottom = (left, top) + rng.uniform(0.08, 0.35, 2) * (width, height)
        color = 0.5 * rng.uniform(30, 220, 3)
        area = (slice(max(0, int(top)), int(bottom) + 1), slice(max(0, int(left)), int(right) + 1))
        image[area] = 0.5 * image[area] + color
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
