"""Weather: clean pictures of shapes and of rooms, for the task that makes them dirty and learns to clean them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .dataset import Sample, World
from .fields import Image
from .geometry import Size
from .worlds.rooms import render_room
from .worlds.shapes import draw_shape


class Weather(World):
    """A shape or a room, each as often. The weather itself (`worlds/weather.py`) is restoration's choice."""

    title: ClassVar[str] = "Weather (embedded world)"

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"image": Image()}

    def draw(self, rng: np.random.Generator, size: Size) -> Sample:
        return {"image": draw_shape(rng, *size).image if rng.random() < 0.5 else render_room(rng, *size)["image"]}
