"""Shapes: ten shapes to name, textured and lit, on grounds of known colours; nothing to download."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .dataset import Sample, World
from .fields import Category, Image
from .geometry import Size
from .worlds.shapes import NAMES, draw_shape


class Shapes(World):
    """One shape in each picture, its class by chance: arrow, crescent, cross, disc, drop, heart, ring, square, star,
    triangle."""

    title: ClassVar[str] = "Shapes (embedded world)"
    default_size: ClassVar[Size] = (64, 64)
    test_samples: ClassVar[int] = 1000

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"image": Image(), "category": Category(NAMES)}

    def draw(self, rng: np.random.Generator, size: Size) -> Sample:
        drawn = draw_shape(rng, *size)
        return {"image": drawn.image, "category": np.array(drawn.category, np.int64)}
