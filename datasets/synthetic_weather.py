"""Synthetic restoration dataset: clean images of shapes and rooms, which the restoration task degrades."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .core.geometry import Size
from .dataset import Sample, SyntheticDataset
from .field_types import Image
from .rendering.rooms import render_room
from .rendering.shapes import draw_shape


class SyntheticWeather(SyntheticDataset):
    """A shape or a room, with equal probability. The degradations (`rendering/weather.py`) are options of the task."""

    title: ClassVar[str] = "Weather (synthetic)"

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"image": Image()}

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        return {"image": draw_shape(rng, *size).image if rng.random() < 0.5 else render_room(rng, *size)["image"]}
