"""Tiling surface textures as a pyramid, so that a far floor is averaged rather than flickering.

A texture says where the second and the third color of a palette of three show: two weights in
[0, 1] for every texel. Colors belong to the material, so one brick wall serves all brick walls.
The tables are constants: built once, on first use, from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

SIZE = 256
LEVELS = 9
_LEVEL_START = np.cumsum([0] + [(SIZE >> level) ** 2 for level in range(LEVELS)])
_SEED = 20141

Weights = tuple[np.ndarray, np.ndarray]


def lookup(texture: np.ndarray, u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the second and third color, (Q,) float32 in [0, 1] each.

    Args:
        texture: (Q,) index into TEXTURES.
        u, v: (Q,) position; one tile is one unit.
        footprint: (Q,) size of a pixel on the surface, in tiles.
    """
    second, third = _pyramids()
    level = np.log2(np.maximum(footprint * np.float32(SIZE), np.float32(1))).round()
    level = np.minimum(level, np.float32(LEVELS - 1)).astype(np.int32)
    side = SIZE >> level
    column = ((u - np.floor(u)) * side).astype(np.int32)
    row = ((v - np.floor(v)) * side).astype(np.int32)
    texel = _LEVEL_START.astype(np.int32).take(level) + texture * _LEVEL_START[-1]
    texel = texel + np.minimum(row, side - 1) * side + np.minimum(column, side - 1)
    scale = np.float32(1 / 255)
    return second.take(texel) * scale, third.take(texel) * scale


@cache
def _pyramids() -> tuple[np.ndarray, np.ndarray]:
    """Every texture's levels one after the other, fine to coarse: two flat uint8 arrays."""
    chains: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for number, paint in enumerate(_PAINTERS.values()):
        weights = paint(np.random.default_rng((_SEED, number)))
        for chain, weight in zip(chains, weights, strict=True):
            level = np.clip(weight, 0, 1).astype(np.float32)
            for _ in range(LEVELS):
                chain.append((level * 255).round().astype(np.uint8).ravel())
                half = max(len(level) // 2, 1)
                level = cv2.resize(level, (half, half), interpolation=cv2.INTER_AREA)
    return np.concatenate(chains[0]), np.concatenate(chains[1])


def _noise(rng: np.random.Generator, rows: int, columns: int | None = None) -> np.ndarray:
    """Smooth tiling noise in [0, 1], (SIZE, SIZE), with a lattice of rows x columns."""
    columns = columns or rows
    lattice = np.pad(rng.random((rows, columns)), 2, mode="wrap")
    step_y, step_x = SIZE // rows, SIZE // columns
    wide_size = (lattice.shape[1] * step_x, lattice.shape[0] * step_y)
    wide = cv2.resize(lattice, wide_size, interpolation=cv2.INTER_CUBIC)
    return np.clip(wide[2 * step_y :, 2 * step_x :][:SIZE, :SIZE], 0, 1)


def _fractal(rng: np.random.Generator, rows: int, columns: int | None = None) -> np.ndarray:
    """Three octaves of `_noise`, the coarsest with a lattice of rows x columns."""
    columns = columns or rows
    octaves = [_noise(rng, min(rows << k, SIZE), min(columns << k, SIZE)) for k in range(3)]
    return (octaves[0] * 4 + octaves[1] * 2 + octaves[2]) / 7


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every texel, (SIZE, SIZE) in [0, 1)."""
    v, u = np.divmod(np.arange(SIZE * SIZE).reshape(SIZE, SIZE), SIZE)
    return v / SIZE, u / SIZE


def _grain(rng: np.random.Generator) -> np.ndarray:
    return 0.55 * _fractal(rng, 32, 2) + 0.45 * _fractal(rng, 64, 4)


def _plain(rng: np.random.Generator) -> Weights:
    weight = 0.8 * _fractal(rng, 2) + 0.2 * _noise(rng, 128)
    return weight, np.zeros_like(weight)


def _wood(rng: np.random.Generator) -> Weights:
    weight = _grain(rng)
    return weight, np.zeros_like(weight)


def _planks(rng: np.random.Generator, strips: int = 8) -> Weights:
    v, u = _grid()
    strip = (v * strips).astype(int)
    shift = rng.permutation(strips)[strip] / strips
    tone = rng.random(strips)[strip]
    across = v * strips - strip
    along = (u + shift) % 1
    gap = (across < 0.04) | (along < 0.006)
    weight = 0.5 * tone + 0.5 * _grain(rng)
    return np.where(gap, 0, weight), gap * 0.8


def _parquet(rng: np.random.Generator, blocks: int = 4, strips: int = 4) -> Weights:
    v, u = _grid()
    block = (v * blocks).astype(int) + (u * blocks).astype(int)
    along, across = np.where(block % 2, (u, v), (v, u))
    strip = (across * blocks * strips).astype(int) % (blocks * strips)
    tone = rng.random((blocks, blocks, blocks * strips))
    tone = tone[(v * blocks).astype(int), (u * blocks).astype(int), strip]
    edge = (across * blocks * strips % 1 < 0.08) | (along * blocks % 1 < 0.02)
    grain = np.where(block % 2, _grain(rng), _grain(rng).T)
    return np.where(edge, 0, 0.6 * tone + 0.4 * grain), edge * 0.7


def _tiles(rng: np.random.Generator, count: int = 4, grout: float = 0.03) -> Weights:
    v, u = _grid()
    tone = rng.random((count, count))[(v * count).astype(int), (u * count).astype(int)]
    gap = (v * count % 1 < grout) | (u * count % 1 < grout)
    return np.where(gap, 0, 0.5 * tone + 0.5 * _fractal(rng, 4)), gap * 1.0


def _small_tiles(rng: np.random.Generator) -> Weights:
    return _tiles(rng, 8, 0.07)


def _checker(rng: np.random.Generator) -> Weights:
    v, u = _grid()
    odd = ((v * 4).astype(int) + (u * 4).astype(int)) % 2
    gap = (v * 4 % 1 < 0.03) | (u * 4 % 1 < 0.03)
    return np.where(gap, 0, odd * (0.85 + 0.15 * _fractal(rng, 4))), gap * 0.6


def _bricks(rng: np.random.Generator, courses: int = 12, columns: int = 4) -> Weights:
    v, u = _grid()
    course = (v * courses).astype(int)
    along = (u * columns + course % 2 * 0.5) % columns
    tone = rng.random((courses, columns))[course, along.astype(int)]
    mortar = (v * courses % 1 < 0.14) | (along % 1 < 0.045)
    return np.where(mortar, 0, 0.6 * tone + 0.4 * _fractal(rng, 16)), mortar * 1.0


def _carpet(rng: np.random.Generator) -> Weights:
    weight = 0.5 * _fractal(rng, 4) + 0.5 * rng.random((SIZE, SIZE))
    return weight, np.zeros_like(weight)


def _carpet_lines(rng: np.random.Generator) -> Weights:
    lines = np.repeat(rng.random(SIZE // 4), 4)[:, None] * np.ones(SIZE)
    return 0.7 * lines + 0.3 * rng.random((SIZE, SIZE)), (lines > 0.85) * 0.8


def _weave(rng: np.random.Generator) -> Weights:
    v, u = _grid()
    threads = 0.5 + 0.5 * np.sin(2 * np.pi * 32 * u) * np.sin(2 * np.pi * 32 * v)
    weight = 0.5 * threads + 0.5 * _fractal(rng, 4)
    return weight, np.zeros_like(weight)


def _stripes(rng: np.random.Generator) -> Weights:
    _, u = _grid()
    wide, thin = (u * 4 % 1 < 0.5), np.abs(u * 4 % 1 - 0.75) < 0.04
    return np.where(thin, 0, wide * 0.8 + 0.1 * _noise(rng, 8)), thin * 0.7


def _ornament(rng: np.random.Generator) -> Weights:
    v, u = _grid()
    x, y = 2 * np.pi * 4 * u, 2 * np.pi * 4 * v
    leaf = np.cos(x) * np.cos(y) + 0.5 * np.cos(2 * x + np.sin(y)) * np.cos(2 * y)
    dot = np.cos(x + np.pi) * np.cos(y) > 0.9
    return np.where(dot, 0, np.clip(leaf * 2, 0, 1)), dot * (0.7 + 0.3 * _noise(rng, 8))


def _stone(rng: np.random.Generator) -> Weights:
    veins = 1 - np.abs(2 * _fractal(rng, 4) - 1) * 6
    return 0.8 * _fractal(rng, 8), np.clip(veins, 0, 1) * 0.2


def _rug(rng: np.random.Generator) -> Weights:
    v, u = _grid()
    edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))
    field = _noise(rng, 8)
    field = field + field[::-1] + field[:, ::-1] + field[::-1, ::-1]
    border = ((edge > 0.05) & (edge < 0.12)) | ((edge > 0.14) & (edge < 0.155))
    second = np.where(edge > 0.16, field > 2.1, edge < 0.03)
    return second * 0.9 * (1 - border), border * 0.9


def _books(rng: np.random.Generator) -> Weights:
    v, u = _grid()
    edges = np.sort(rng.random(34))
    book = np.searchsorted(edges, u)
    second, third = rng.random(35)[book], rng.random(35)[book]
    top = 1 - rng.uniform(0, 0.3, 35)[book]
    seam = np.abs(u[..., None] - edges).min(-1) < 0.003
    title = (np.abs(v - rng.uniform(0.3, 0.7, 35)[book]) < 0.1) & (rng.random(35)[book] < 0.5)
    dark = seam | (v > top)
    total = np.maximum(second + third, 1)
    return np.where(dark, 0, second / total), np.where(dark, 0, np.maximum(third / total, title))


def _door(rng: np.random.Generator) -> Weights:
    v, u = _grid()
    relief = np.zeros((SIZE, SIZE))
    for low, high in ((0.08, 0.42), (0.50, 0.92)):
        for left, right in ((0.12, 0.45), (0.55, 0.88)):
            inside = np.minimum.reduce([u - left, right - u, (v - low) * 2, (high - v) * 2])
            relief += (np.abs(inside) < 0.018) * np.where(v < (low + high) / 2, 0.3, 1)
    handle = (np.abs(u - 0.93) < 0.03) & (np.abs(v - 0.47) < 0.012)
    return np.clip(relief, 0, 1) * 0.7 + 0.1 * _noise(rng, 8), handle * 1.0


def _abstract_image(rng: np.random.Generator) -> Weights:
    canvas = np.zeros((SIZE, SIZE, 2))
    for _ in range(7):
        center, radius = rng.integers(0, SIZE, 2), int(rng.integers(15, 90))
        weights = ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.0, 0.0))[rng.integers(4)]
        if rng.random() < 0.5:
            cv2.circle(canvas, center.tolist(), radius, weights, -1, cv2.LINE_AA)
        else:
            corner = (center + rng.integers(-90, 90, 2)).tolist()
            cv2.rectangle(canvas, center.tolist(), corner, weights, -1)
    mat = np.maximum(*(np.abs(x - 0.5) for x in _grid())) > 0.42
    canvas[mat] = (0, 0)
    return canvas[..., 0] * (0.7 + 0.3 * _noise(rng, 16)), canvas[..., 1]


def _landscape_image(rng: np.random.Generator) -> Weights:
    v, _ = _grid()
    hills = 0.45 + 0.25 * (_noise(rng, 2, 4)[:1] - 0.5) + 0.08 * _noise(rng, 2, 16)[:1]
    land = v < hills
    near = v < hills * 0.55
    return np.where(land & ~near, 0.6 + 0.4 * _noise(rng, 8), 0.25 * v), near * 0.9


def _portrait_image(rng: np.random.Generator) -> Weights:
    v, u = _grid()
    head = ((u - 0.5) / 0.14) ** 2 + ((v - 0.62) / 0.19) ** 2 < 1
    body = ((u - 0.5) / 0.32) ** 2 + ((v - 0.1) / 0.36) ** 2 < 1
    return head * (0.8 + 0.2 * _noise(rng, 8)), (body & ~head) * (0.7 + 0.3 * _noise(rng, 8))


def _document(rng: np.random.Generator) -> Weights:
    v, u = _grid()
    lines = (v * 20 % 1 < 0.45) & (u > 0.12) & (u < rng.uniform(0.5, 0.9, 20)[(v * 20).astype(int)])
    banner = (v > 0.78) & (v < 0.92)
    return lines * ~banner * 0.8, banner * 0.9


def _window(rng: np.random.Generator, columns: int = 2, rows: int = 2) -> Weights:
    """A view outside: sky brightens upwards (first color), land is second, glazing bars third."""
    v, u = _grid()
    skyline = 0.25 + 0.35 * np.repeat(rng.random(16), SIZE // 16)[None]
    trees = 0.2 + 0.4 * _noise(rng, 2, 8)[:1]
    land = np.where(v < np.maximum(skyline * (rng.random() < 0.5), trees), 0.5, 0)
    land = land + 0.35 * _noise(rng, 16) * (land > 0) + 0.15 * (1 - v)
    bars = (np.abs(u * columns - np.round(u * columns)) < 0.05 * columns / 2) | (
        np.abs(v * rows - np.round(v * rows)) < 0.05 * rows / 2
    )
    return np.where(bars, 0, land), bars * 1.0


def _wide_window(rng: np.random.Generator) -> Weights:
    return _window(rng, 3, 1)


def _blinds(rng: np.random.Generator) -> Weights:
    v, _ = _grid()
    return (v * 24 % 1 < 0.35) * 0.6 + 0.1 * _noise(rng, 8), np.zeros((SIZE, SIZE))


def _screen(rng: np.random.Generator) -> Weights:
    v, u = _grid()
    windows = (np.abs(u - 0.35) < 0.25) & (np.abs(v - 0.55) < 0.3)
    panel = (u > 0.68) & (v > 0.2)
    return windows * (0.5 + 0.5 * (v * 16 % 1 < 0.5)), (panel & ~windows) * 0.6


def _turned(paint: Callable[[np.random.Generator], Weights]) -> Callable:
    def paint_turned(rng: np.random.Generator) -> Weights:
        second, third = paint(rng)
        return second.T, third.T

    return paint_turned


_PAINTERS: dict[str, Callable[[np.random.Generator], Weights]] = {
    "plain": _plain,
    "wood": _wood,
    "wood upright": _turned(_wood),
    "planks": _planks,
    "planks turned": _turned(_planks),
    "boards": _turned(lambda rng: _planks(rng, 12)),
    "parquet": _parquet,
    "tiles": _tiles,
    "small tiles": _small_tiles,
    "checker": _checker,
    "bricks": _bricks,
    "carpet": _carpet,
    "carpet lines": _carpet_lines,
    "weave": _weave,
    "stripes": _stripes,
    "ornament": _ornament,
    "stone": _stone,
    "rug": _rug,
    "second rug": _rug,
    "books": _books,
    "more books": _books,
    "door": _door,
    "abstract": _abstract_image,
    "second abstract": _abstract_image,
    "third abstract": _abstract_image,
    "landscape": _landscape_image,
    "second landscape": _landscape_image,
    "portrait": _portrait_image,
    "document": _document,
    "window": _window,
    "second window": _window,
    "wide window": _wide_window,
    "blinds": _blinds,
    "screen": _screen,
}
TEXTURES: dict[str, int] = {name: number for number, name in enumerate(_PAINTERS)}
