"""Synthetic depth dataset: ray-cast furnished rooms with exact metric depth and camera."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .core.geometry import Size
from .dataset import Sample, SyntheticDataset
from .field_types import Camera, Depth, Image
from .rendering.rooms import render_room


class SyntheticRooms(SyntheticDataset):
    """Rooms: image, depth along the optical axis in meters, camera matrix."""

    title: ClassVar[str] = "Rooms (synthetic)"

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"image": Image(), "depth": Depth(), "camera": Camera()}

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        return render_room(rng, *size)
