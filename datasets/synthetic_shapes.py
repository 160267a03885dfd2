"""Synthetic classification dataset: ten textured shapes on colored backgrounds."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .core.geometry import Size
from .dataset import Sample, SyntheticDataset
from .field_types import ClassLabel, Image
from .rendering.shapes import NAMES, draw_shape


class SyntheticShapes(SyntheticDataset):
    """One shape per image, of a uniformly random class: arrow, crescent, cross, disc, drop, heart, ring, square, star,
    triangle."""

    title: ClassVar[str] = "Shapes (synthetic)"
    default_size: ClassVar[Size] = (64, 64)
    test_samples: ClassVar[int] = 1000

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"image": Image(), "category": ClassLabel(NAMES)}

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        shape = draw_shape(rng, *size)
        return {"image": shape.image, "category": np.array(shape.category, np.int64)}
