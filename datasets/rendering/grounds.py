"""Backgrounds of shapes: tiling textures with a typical color, green grass, brown planks.

The tiles are constants: painted once, on first use, from a fixed seed, with smaller copies beside them, so that a
ground seen from afar is averaged rather than flickering.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

SIZE = 256
LEVELS = 5
_SEED = 20151

Painter = Callable[[np.random.Generator], np.ndarray]


def ground(name: str, scale: float, angle: float, shift: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """A view of a ground.

    Args:
        name: one of `GROUNDS` or `PATTERNS`.
        scale: how much of a tile the longer side of the image shows.
        angle: turn in radians.
        shift: (x, y) in tiles.
        size: (height, width).

    Returns:
        (H, W, 3) float32 in [0, 1] of a ground, (H, W) of a pattern.
    """
    texels = SIZE * scale / max(size)
    level = min(LEVELS - 1, max(0, round(math.log2(max(texels, 1)))))
    tile = pyramid(name)[level]
    step = texels / (1 << level)
    c, s = step * math.cos(angle), step * math.sin(angle)
    matrix = np.array([[c, -s, shift[0] * len(tile)], [s, c, shift[1] * len(tile)]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(tile, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_WRAP)


@cache
def pyramid(name: str) -> list[np.ndarray]:
    """A tile of a ground or a pattern, and copies of it at a half, a quarter, ... of its sides."""
    everything = {**GROUNDS, **PATTERNS}
    tile = everything[name](np.random.default_rng((_SEED, list(everything).index(name))))
    levels: list[np.ndarray] = [np.clip(tile, 0, 1).astype(np.float32)]
    for _ in range(LEVELS - 1):
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return levels


def _fractal(rng: np.random.Generator, slope: float = 1.6, across: float = 1, down: float = 1) -> np.ndarray:
    """Tiling noise about 0.5, (SIZE, SIZE); `across` and `down` squeeze its grain in that direction."""
    y, x = np.fft.fftfreq(SIZE, 1 / SIZE)[:, None] / down, np.fft.rfftfreq(SIZE, 1 / SIZE)[None] / across
    spectrum = np.exp(2j * math.pi * rng.random((SIZE, SIZE // 2 + 1))) / (1 + np.hypot(x, y)) ** slope
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (SIZE, SIZE))
    return np.clip(0.5 + 0.2 * field / field.std(), 0, 1)


def _mix(weight: np.ndarray, first: tuple[float, ...], second: tuple[float, ...]) -> np.ndarray:
    weight = np.clip(weight, 0, 1)[..., None]
    return (1 - weight) * np.array(first) + weight * np.array(second)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every texel, in [0, 1)."""
    v, u = np.divmod(np.arange(SIZE * SIZE).reshape(SIZE, SIZE), SIZE)
    return v / SIZE, u / SIZE


def _strew(tile: np.ndarray, contour: np.ndarray, color: np.ndarray) -> None:
    """Fill a polygon that goes on at the other side where it leaves the tile."""
    for dx, dy in itertools.product((-SIZE, 0, SIZE), repeat=2):
        corners = np.round((contour + np.array((dx, dy))) * 16).astype(np.int32)
        if (corners.max(0) >= 0).all() and (corners.min(0) < SIZE * 16).all():
            cv2.fillPoly(tile, [corners], color.tolist(), cv2.LINE_AA, shift=4)


def _lens(middle: np.ndarray, angle: float, length: float, width: float) -> np.ndarray:
    along = np.linspace(-1, 1, 7)
    x = np.concatenate([along, along[::-1]]) * length
    y = np.concatenate([1 - along**2, along**2 - 1]) * width
    return middle + np.stack([x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)], 1)


def _lenses(
    rng: np.random.Generator, tile: np.ndarray, count: int, length: tuple[float, float], narrow: float,
    colors: np.ndarray, upright: float,
) -> np.ndarray:  # fmt: skip
    """Strew blades or leaves, the later ones brighter: the deeper lie in the shade."""
    canvas = np.ascontiguousarray((tile * 255).astype(np.uint8))
    for number in range(count):
        angle = rng.normal(math.pi / 2, 0.35) if rng.random() < upright else rng.uniform(0, 2 * math.pi)
        long = rng.uniform(*length)
        color = colors[rng.integers(len(colors))] * (0.6 + 0.45 * number / count) * rng.uniform(0.85, 1.15)
        shade = _lens(rng.uniform(0, SIZE, 2), angle, long, long * narrow)
        if narrow > 0.2:
            _strew(canvas, shade + 2, color * 255 * 0.45)
        _strew(canvas, shade, np.clip(color, 0, 1) * 255)
    return canvas / 255


def _meadow(rng: np.random.Generator) -> np.ndarray:
    greens = np.array([(0.30, 0.52, 0.14), (0.38, 0.60, 0.18), (0.24, 0.46, 0.15), (0.46, 0.62, 0.24)])
    soil = _mix(_fractal(rng), (0.10, 0.22, 0.07), (0.20, 0.36, 0.10))
    return _lenses(rng, soil, 1500, (7, 18), 0.09, greens, upright=0.85)


def _autumn(rng: np.random.Generator) -> np.ndarray:
    leaves = np.array([(0.76, 0.42, 0.12), (0.66, 0.26, 0.10), (0.82, 0.60, 0.20), (0.50, 0.30, 0.14)])
    soil = _mix(_fractal(rng), (0.20, 0.13, 0.08), (0.34, 0.22, 0.12))
    return _lenses(rng, soil, 420, (10, 20), 0.42, leaves, upright=0)


def _sky(rng: np.random.Generator) -> np.ndarray:
    clouds = _fractal(rng, 1.9, 1.6)
    blue = _mix(_fractal(rng, 2.5), (0.28, 0.54, 0.86), (0.46, 0.70, 0.94))
    cover = np.clip((clouds - 0.48) * 3.4, 0, 1)[..., None]
    white = _mix(_fractal(rng, 1.7), (0.82, 0.86, 0.92), (1.0, 1.0, 1.0))
    return (1 - cover) * blue + cover * white


def _water(rng: np.random.Generator) -> np.ndarray:
    ridges = 1 - np.abs(_fractal(rng, 1.7, 1.5) - 0.5) * 5
    deep = _mix(_fractal(rng, 2), (0.04, 0.34, 0.46), (0.10, 0.50, 0.60))
    return deep + np.clip(ridges, 0, 1)[..., None] ** 3 * np.array((0.34, 0.38, 0.34))


def _planks(rng: np.random.Generator, boards: int = 5) -> np.ndarray:
    v, _ = _grid()
    board = (v * boards).astype(int)
    tone = rng.uniform(-0.25, 0.25, boards)[board]
    grain = 0.55 * _fractal(rng, 1.2, 0.06, 2) + 0.45 * _fractal(rng, 1.5, 0.1, 1)
    wood = _mix(grain * 1.5 - 0.25 + tone, (0.36, 0.21, 0.11), (0.72, 0.50, 0.29))
    across = np.abs(v * boards - board - 0.5)
    return wood * np.where(across > 0.47, 0.35, 1 - 0.25 * (across > 0.43))[..., None]


def _sand(rng: np.random.Generator) -> np.ndarray:
    v, _ = _grid()
    ripples = 0.5 + 0.5 * np.sin(2 * math.pi * (9 * v + 2.2 * (_fractal(rng, 2.2) - 0.5)))
    grain = _fractal(rng, 0.3)
    return _mix(0.55 * ripples + 0.45 * grain, (0.70, 0.56, 0.37), (0.93, 0.83, 0.62))


def _bricks(rng: np.random.Generator, courses: int = 10, columns: int = 4) -> np.ndarray:
    v, u = _grid()
    course = (v * courses).astype(int)
    along = (u * columns + course % 2 * 0.5) % columns
    tone = rng.random((courses, columns))[course, along.astype(int)]
    mortar = np.minimum(v * courses % 1, 1 - v * courses % 1) * 0.42 < 0.035
    mortar |= np.minimum(along % 1, 1 - along % 1) < 0.035
    clay = _mix(0.6 * tone + 0.4 * _fractal(rng, 0.8), (0.46, 0.18, 0.12), (0.74, 0.38, 0.26))
    joint = _mix(_fractal(rng, 0.5), (0.62, 0.58, 0.52), (0.78, 0.75, 0.69))
    return np.where(mortar[..., None], joint, clay)


def _cobbles(rng: np.random.Generator, stones: int = 8) -> np.ndarray:
    """Gray stones: cells about jittered points, darker where two stones are almost equally near."""
    cells = np.stack(np.meshgrid(*[np.arange(stones)] * 2), -1).reshape(-1, 2)
    middles = (cells + rng.uniform(0.15, 0.85, cells.shape)) / stones
    v, u = _grid()
    away = np.abs(np.stack([u, v], -1)[:, :, None] - middles[None, None])
    away = np.hypot(*np.moveaxis(np.minimum(away, 1 - away), -1, 0))
    nearest = away.argmin(-1)
    first, second = np.moveaxis(np.partition(away, 1, axis=-1)[..., :2], -1, 0)
    dome = np.clip((second - first) * stones * 1.6, 0, 1) ** 0.6
    tone = 0.5 * rng.random(len(middles))[nearest] + 0.5 * _fractal(rng, 1)
    return _mix(tone, (0.42, 0.42, 0.43), (0.70, 0.69, 0.67)) * (0.28 + 0.72 * dome[..., None])


def _snow(rng: np.random.Generator) -> np.ndarray:
    drift = _mix(_fractal(rng, 2.1, 1.5) * 1.6 - 0.3, (0.66, 0.76, 0.90), (0.97, 0.98, 1.0))
    return drift + 0.05 * (rng.random((SIZE, SIZE, 1)) - 0.5)


def _night(rng: np.random.Generator) -> np.ndarray:
    night = _mix(_fractal(rng, 2.1) * 1.5 - 0.25, (0.03, 0.04, 0.13), (0.14, 0.13, 0.34))
    lights = np.zeros((SIZE, SIZE))
    lights[tuple(rng.integers(0, SIZE, (2, 260)))] = rng.uniform(0.3, 1, 260)
    glow = cv2.GaussianBlur(lights, (5, 5), 0.7) * 2.2
    return night + glow[..., None] * np.array((1, 0.97, 0.85))


GROUNDS: dict[str, Painter] = {
    "meadow": _meadow,
    "autumn": _autumn,
    "sky": _sky,
    "water": _water,
    "planks": _planks,
    "sand": _sand,
    "bricks": _bricks,
    "cobbles": _cobbles,
    "snow": _snow,
    "night": _night,
}


def _stripes(rng: np.random.Generator) -> np.ndarray:
    _, u = _grid()
    return np.clip((np.abs(u * 6 % 1 - 0.5) - 0.25) * 8 + 0.5, 0, 1)


def _dots(rng: np.random.Generator) -> np.ndarray:
    v, u = _grid()
    row = (v * 8).astype(int)
    x, y = (u * 8 + row % 2 * 0.5) % 1 - 0.5, v * 8 % 1 - 0.5
    return np.clip((0.3 - np.hypot(x, y)) * 12 + 0.5, 0, 1)


def _marble(rng: np.random.Generator) -> np.ndarray:
    return np.clip(1 - np.abs(_fractal(rng, 1.7) - 0.5) * 6, 0, 1)


def _felt(rng: np.random.Generator) -> np.ndarray:
    return 0.5 * _fractal(rng, 1.4) + 0.5 * _fractal(rng, 0.4)


def _grain(rng: np.random.Generator) -> np.ndarray:
    return _fractal(rng, 1.1, 0.08, 2)


def _zigzag(rng: np.random.Generator) -> np.ndarray:
    v, u = _grid()
    wave = np.abs(u * 6 % 1 - 0.5) * 0.8
    return np.clip((np.abs((v * 6 + wave) % 1 - 0.5) - 0.25) * 8 + 0.5, 0, 1)


PATTERNS: dict[str, Painter] = {
    "stripes": _stripes,
    "dots": _dots,
    "marble": _marble,
    "felt": _felt,
    "grain": _grain,
    "zigzag": _zigzag,
}
"""What shapes are covered with: how much of the second color shows, for every texel."""
