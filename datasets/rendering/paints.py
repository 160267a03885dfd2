"""Paints: what the parts of a facade are painted with, and reading the parts back from the colors of an image.

Every part has hues of its own, so that an image alone tells what it shows: walls are warm, glass is a cold blue, doors
are wine red, iron is black, dressed stone is white. Light changes how bright a color is far more than which color it
is; so a pixel is named after the paint whose color is nearest, where brightness counts little.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

NAMES = ("background", "facade", "window", "door", "cornice", "sill", "balcony", "blind", "deco", "molding", "pillar",
         "shop")  # fmt: skip
"""The parts, in the order of the CMP facade database (Tylecek, Sara 2013)."""

PAINTS: dict[str, dict[str, tuple[str, ...]]] = {
    "background": {
        "sky": ("#a3b8f0", "#8aa4ea", "#b9c8f4", "#98aeea"),
        "cloud": ("#ccd5f7",),
        "neighbor": ("#8c92b8", "#777da6", "#a2a7c6"),
        "roof": ("#54587a", "#626688", "#494d6e"),
        "street": ("#7b7f9e", "#6c7092"),
    },
    "facade": {
        "wall": ("#c9805a", "#a85a46", "#dd9a84", "#e2b088", "#cf9560", "#d8b48a", "#e6cca6", "#d9a596", "#b5684c",
                 "#c98a7c", "#a3795c", "#c2986e"),
    },
    "window": {
        "glass": ("#1d4c60", "#23566a", "#163d52", "#2b6478"),
        "frame": ("#9fd6e2", "#88c4d4", "#b2dfe8", "#5f9fb0"),
        "reflection": ("#5f9fb8", "#4f90ac"),
        "curtain": ("#94c2d0", "#7fb2c4"),
    },
    "door": {"leaf": ("#7d1f3c", "#8f2846", "#681a38", "#1f5038", "#2a5c40", "#7a2a44")},
    "cornice": {"stone": ("#e9e7e4", "#dedcda", "#f0efee")},
    "sill": {"copper": ("#8cc6a6", "#7fbc9c", "#9cceb2")},
    "balcony": {"iron": ("#1d1c1e", "#28272a"), "dusk": ("#4c4a4e", "#565458"), "slab": ("#5a585c", "#504e52")},
    "blind": {"slat": ("#7ea24a", "#6c9440", "#90b05c", "#8c9040", "#5f8a3c")},
    "deco": {"gilt": ("#d4b43a", "#dcc050", "#c8a830")},
    "molding": {"stucco": ("#e8e9b8", "#dfe2ac", "#eeeec4")},
    "pillar": {"marble": ("#d0b2da", "#c6a6d2", "#d8c0e0")},
    "shop": {
        "awning": ("#d8202c", "#c81826", "#e03c40"),
        "front": ("#0f7f7c", "#108c84", "#0c6c70"),
        "pane": ("#2aa8a4", "#3cb8b0"),
        "lit": ("#7adcd2", "#90e4dc"),
    },
}  # fmt: skip
"""Of every part the things it is made of, and of each the paints one is chosen from, sRGB."""

LIGHTS = (1.0, 0.72, 0.48)
"""How bright a paint may appear, as a share of its coded value: in the sun, aslant, in a shadow."""

BRIGHTNESS = 0.3
"""How much brightness counts beside color."""

_SHADES = 64
"""Steps of red, green and blue in the table that pixels are looked up in."""


def color(paint: str) -> np.ndarray:
    """(3,) coded sRGB in [0, 1] of "#rrggbb"."""
    return np.array([int(paint[at : at + 2], 16) for at in (1, 3, 5)]) / 255


def read_labels(image: np.ndarray) -> np.ndarray:
    """What every pixel shows, from its color alone, and then what most of its 3 x 3 neighborhood show.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        (H, W) uint8, positions in `NAMES`.
    """
    red, green, blue = (image[..., channel].astype(np.intp) * _SHADES >> 8 for channel in range(3))
    single = _table()[(red * _SHADES + green) * _SHADES + blue]
    votes = []
    for part in range(len(NAMES)):
        matches = (single == part).astype(np.uint8)
        # The pixel itself has a second voice, so that it decides where the others are divided.
        votes.append(cv2.boxFilter(matches, -1, (3, 3), normalize=False) + matches)
    return np.stack(votes).argmax(0).astype(np.uint8)


@cache
def _table() -> np.ndarray:
    """(64 * 64 * 64,) uint8: the part whose paint is nearest, for every red, green and blue."""
    parts, prototypes = [], []
    for part, name in enumerate(NAMES):
        for choices in PAINTS[name].values():
            for paint in choices:
                for light in LIGHTS:
                    parts.append(part)
                    prototypes.append(light * color(paint))
    known = _place(np.array(prototypes))
    steps = (np.arange(_SHADES) + 0.5) / _SHADES
    every = _place(np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3))
    nearest = np.concatenate([_nearest(some, known) for some in np.array_split(every, 64)])
    return np.array(parts, np.uint8)[nearest]


def _nearest(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    return ((known**2).sum(-1) - 2 * points @ known.T).argmin(-1)


def _place(colors: np.ndarray) -> np.ndarray:
    """Where colors lie: two differences of channels as shares of their sum, and brightness, (N, 3)."""
    red, green, blue = colors.T
    total = colors.sum(-1) + 0.06
    return np.stack([(red - green) / total, (2 * blue - red - green) / (2 * total), BRIGHTNESS * total / 3], -1)
