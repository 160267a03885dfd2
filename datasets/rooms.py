"""Rooms: ray-cast furnished interiors with exact metric depth and camera."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .dataset import Sample, World
from .fields import Camera, Depth, Image
from .geometry import Size
from .worlds.rooms import render_room


class Rooms(World):
    """Unseen rooms without end: picture, depth along the camera axis in metres, camera matrix."""

    title: ClassVar[str] = "Rooms (embedded world)"

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"image": Image(), "depth": Depth(), "camera": Camera()}

    def draw(self, rng: np.random.Generator, size: Size) -> Sample:
        return render_room(rng, *size)
