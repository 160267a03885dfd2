"""Degradations of images: dirt, drops and rain here, those by cameras and files in `camera.py`.

Each degradation is a function from a clean image in [0, 1] to a degraded one, drawn from a generator alone, its
strength too. Sizes are in pixels and do not depend on the image's: a crop looks like a part of a large image. Masks
and mattes are drawn anew for every image, so that those of one stream never meet those of another.

Values are encoded ones (sRGB), as in the dirt equation of Eigen, Krishnan, Fergus 2013; only the blur adds up light.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from .camera import blur, defocus, eight_bits, jpeg, low_resolution, masks, noise, shot_noise
from .materials import Dice

Degradation = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""(H, W, 3) float32 in [0, 1] and a generator to (H, W, 3) float32, which may reach beyond [0, 1]."""

TWO_AT_ONCE = 0.5
"""Probability of two different degradations in one image, where two or more are offered."""

DROPS = (2.0, 7.0)
"""Drops per 100 x 100 pixels."""
DROP_RADIUS = (3.5, 12.0)

GAIN = (0.9, 1.1)
"""Of each color in the dirt equation: U(0.9, 1.1), and all of them times one U(0, 1)."""
DIRT_COVER = (0.4, 1.0)
"""Largest opacity of the dirt."""
SPECKS = ((0.6, 1.5, 90.0), (1.6, 3.6, 30.0), (4.5, 10.0, 4.0))
"""Radii in pixels, least and largest, and how many spots per 100 x 100 pixels there are at most."""

_CORNERS = np.arange(9) * 2 * math.pi / 9

STREAK_LENGTH = (9.0, 30.0)
STREAK_ANGLE = (60.0, 120.0)
"""Degrees against the horizontal: rain falls, and wind bends it."""
STREAKS = (15.0, 90.0)
"""Per 100 x 100 pixels."""
STREAK_LIGHT = (0.35, 0.95)


def degrade(image: np.ndarray, rng: np.random.Generator, names: Sequence[str]) -> np.ndarray:
    """An image as it comes through one or two of the named degradations, in the order of `DEGRADATIONS`.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: all that is random.
        names: keys of `DEGRADATIONS`, and `NONE`.

    Returns:
        (H, W, 3) uint8.
    """
    count = 2 if len(names) > 1 and rng.random() < TWO_AT_ONCE else 1
    chosen = {names[place] for place in rng.permutation(len(names))[:count]}
    values = image.astype(np.float32) / 255
    for name, apply in DEGRADATIONS.items():
        if name in chosen:
            values = np.clip(apply(values, rng), 0, 1)
    return eight_bits(values)


def drops(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drops on the pane, each a small lens: the scene upside down and out of focus, a dark rim, a bright spot."""
    height, width = image.shape[:2]
    dice = Dice(rng)
    lens, to_x, to_y = _lenses(dice, height, width, _how_many(dice, DROPS, height, width))
    behind = cv2.GaussianBlur(image, (0, 0), 1.6)
    refracted = cv2.remap(behind, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    # The rim bends light away from the eye; the sky above reflects near the upper edge.
    body = np.sqrt(np.clip(lens, 0, 1))
    slope_x, slope_y = cv2.Sobel(body, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(body, cv2.CV_32F, 0, 1, scale=1 / 8)
    rim = np.clip(1.15 - 1.6 * np.hypot(slope_x, slope_y), 0.35, 1.05)
    glint = np.clip((slope_x + 1.6 * slope_y) * 1.8 - 0.25, 0, 0.6) * (lens > 0.12)
    water = refracted * rim[..., None] + glint[..., None]
    cover = cv2.GaussianBlur((lens > 0).astype(np.float32), (0, 0), dice.uniform(0.6, 1.1))[..., None]
    return cover * water + (1 - cover) * image


def _lenses(dice: Dice, height: int, width: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How thick the water stands (0 outside, 1 at most), and the x and y that are seen through it, (H, W) float32."""
    lens = np.zeros((height, width), np.float32)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    to_x, to_y = np.broadcast_to(columns, lens.shape).copy(), np.broadcast_to(rows[:, None], lens.shape).copy()
    for _ in range(count):
        # Small drops are many.
        radius = DROP_RADIUS[0] + (DROP_RADIUS[1] - DROP_RADIUS[0]) * dice.uniform() ** 2
        x, y, tall = dice.uniform(0, width), dice.uniform(0, height), dice.uniform(0.85, 1.35)
        shrink = dice.uniform(2.0, 3.5)
        reach = math.ceil(1.7 * radius)
        window = (
            slice(max(0, int(y) - reach), min(height, int(y) + reach + 1)),
            slice(max(0, int(x) - reach), min(width, int(x) + reach + 1)),
        )
        dx, dy = np.broadcast_arrays(columns[window[1]] - x, (rows[window[0]] - y)[:, None])
        angle = np.arctan2(dy, dx)
        outline = sum(
            dice.uniform(0, 0.12 / waves) * np.cos(waves * angle + dice.uniform(0, 2 * math.pi)) for waves in (1, 2, 3)
        )
        thick = 1 - (dx**2 + (dy / tall) ** 2) / (radius * (1 + outline)) ** 2
        thicker = thick > lens[window]
        np.copyto(lens[window], thick, where=thicker)
        # A ball of water turns the scene about the drop's middle.
        np.copyto(to_x[window], x - shrink * dx, where=thicker)
        np.copyto(to_y[window], y - shrink * dy, where=thicker)
    return lens, to_x, to_y


def dirt(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A dirty window: the equation of the paper with a matte that is drawn."""
    height, width = image.shape[:2]
    alpha, layer = dirt_matte(rng, height, width)
    gain = rng.uniform(*GAIN, 3) * rng.uniform(0, 1)
    return compose_dirt(image, alpha, layer, gain)


def compose_dirt(clean: np.ndarray, alpha: np.ndarray, layer: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """I' = p α D + (1 - α) I. The gain p brightens the dirt and leaves the transparency alone.

    Args:
        clean: I, (H, W, 3).
        alpha: α, (H, W) in [0, 1]: the share of light that the dirt holds back.
        layer: D, (H, W, 3): what the dirt adds.
        gain: p, (3,).

    Source: Eigen, Krishnan, Fergus 2013, section 4.1.
    """
    alpha = alpha[..., None]
    return (gain * alpha * layer + (1 - alpha) * clean).astype(np.float32)


def dirt_matte(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Alpha (H, W) and color (H, W, 3) of specks, splashes and smears, float32. Some pixel of alpha is above 0.03."""
    dice = Dice(rng)
    grain = _grain(rng, height, width)
    thick = np.zeros((height, width), np.float32)
    for least, largest, density in SPECKS:
        spots = np.zeros((height, width), np.uint8)
        for _ in range(max(1, _how_many(dice, (0.25 * density, density), height, width))):
            _spot(spots, dice, dice.uniform(least, largest))
        soft = cv2.GaussianBlur(spots.astype(np.float32) / 255, (0, 0), 0.45 + 0.12 * (least + largest) / 2)
        thick = np.maximum(thick, soft)
    # Dried water leaves uneven edges: the grain eats into what is thin.
    eaten = np.clip(1.5 * thick - 0.55 * grain, 0, 1)
    haze = dice.uniform(0, 0.12) * grain
    alpha = dice.uniform(*DIRT_COVER) * np.maximum(eaten / max(float(eaten.max()), 0.1), haze)
    tint = np.array([1.0, dice.uniform(0.86, 1.0), dice.uniform(0.66, 0.98)], np.float32) * dice.uniform(0.75, 1.0)
    layer = tint * (0.75 + 0.5 * grain[..., None])
    return alpha.astype(np.float32), np.clip(layer, 0, 1)


def _spot(canvas: np.ndarray, dice: Dice, radius: float) -> None:
    """Draw one spot of dirt, brighter where it is thicker; coordinates in sixteenths of a pixel."""
    height, width = canvas.shape
    middle = round(16 * dice.uniform(-2, width + 2)), round(16 * dice.uniform(-2, height + 2))
    axes = np.array((radius, radius * dice.uniform(0.5, 1))) * 16
    corners = np.stack((np.cos(_CORNERS), np.sin(_CORNERS)), 1)
    uneven = np.array([dice.uniform(0.65, 1.25) for _ in corners])[:, None]
    angle = dice.uniform(0, math.pi)
    turn = np.array(((math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))))
    outline = np.round(middle + (corners * uneven * axes) @ turn).astype(np.int32)
    cv2.fillPoly(canvas, [outline], dice.uniform(80, 255), cv2.LINE_AA, 4)


def rain(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Falling rain: points of light drawn out by their motion, laid over the image as two projectors would."""
    height, width = image.shape[:2]
    dice = Dice(rng)
    angle, light = dice.uniform(*STREAK_ANGLE), dice.uniform(*STREAK_LIGHT)
    length = dice.uniform(*STREAK_LENGTH)
    streaks = np.zeros((height, width), np.float32)
    # What is near falls long, broad and sparse; what is far is short and fine.
    for nearness, share in ((1.0, 0.25), (0.5, 1.0)):
        canvas = np.zeros((height, width), np.uint8)
        for _ in range(_how_many(dice, tuple(share * number for number in STREAKS), height, width)):
            _streak(canvas, dice, length * nearness * dice.uniform(0.6, 1.2), angle + dice.uniform(-4, 4))
        soft = canvas.astype(np.float32) / 255
        if nearness == 1:
            soft = cv2.GaussianBlur(soft, (0, 0), 0.7)
        streaks = np.maximum(streaks, soft)
    kernel = _line(max(3, round(length / 4) | 1), angle)
    streaks = light * cv2.filter2D(streaks, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return screen(image, streaks[..., None])


def screen(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Two lights on one screen: 1 - (1 - a)(1 - b)."""
    return 1 - (1 - below) * (1 - above)


def _streak(canvas: np.ndarray, dice: Dice, length: float, degrees: float) -> None:
    height, width = canvas.shape
    x, y = dice.uniform(-8, width + 8), dice.uniform(-16, height + 8)
    along = length * math.cos(math.radians(degrees)), length * math.sin(math.radians(degrees))
    start, end = (round(16 * x), round(16 * y)), (round(16 * (x + along[0])), round(16 * (y + along[1])))
    cv2.line(canvas, start, end, dice.uniform(90, 255), 1, cv2.LINE_AA, 4)


def _line(length: int, degrees: float) -> np.ndarray:
    """(K, K) float32 that sums to 1: a line through the middle that fades towards its ends."""
    kernel = np.zeros((length, length), np.float32)
    middle = (length - 1) / 2
    for step in np.linspace(-middle, middle, 4 * length):
        x, y = middle + step * math.cos(math.radians(degrees)), middle + step * math.sin(math.radians(degrees))
        kernel[round(y), round(x)] += 1 + math.cos(math.pi * step / (middle + 1))
    return kernel / kernel.sum()


# In the order in which light and data meet them: the lens, the pane in front of it, the sensor, the file.
DEGRADATIONS: dict[str, Degradation] = {
    "blur": blur,
    "defocus": defocus,
    "rain": rain,
    "drops": drops,
    "dirt": dirt,
    "low-resolution": low_resolution,
    "shot-noise": shot_noise,
    "noise": noise,
    "jpeg": jpeg,
    "masks": masks,
}

NONE = "none"
"""The image as it is: networks that have seen clean images leave them as they are."""


def _how_many(dice: Dice, density: Sequence[float], height: int, width: int) -> int:
    """A number of things from a density per 100 x 100 pixels; one at least."""
    return max(1, round(dice.uniform(density[0], density[1]) * height * width / 10_000))


def _grain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W) float32 about 0.5 in [0, 1]: soft noise of three sizes."""
    total = np.zeros((height, width), np.float32)
    for cell, weight in ((24, 0.45), (9, 0.35), (3, 0.2)):
        coarse = rng.random((height // cell + 2, width // cell + 2), np.float32)
        total += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(0.5 + 1.4 * (total - 0.5), 0, 1)
