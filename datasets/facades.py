"""Facades: buildings from label maps, drawn; nothing to download."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .dataset import Sample, World
from .fields import Image, Labels
from .geometry import Size
from .worlds.facades import NAMES, draw_facade


class Facades(World):
    """Unseen facades without end: where walls, windows, doors and ornaments are, in the twelve classes of the CMP
    facade database, and a picture whose paints, light and weather the labels do not tell."""

    title: ClassVar[str] = "Facades (embedded world)"
    default_size: ClassVar[Size] = (128, 128)
    costly: ClassVar[bool] = False

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"labels": Labels(NAMES), "image": Image()}

    def draw(self, rng: np.random.Generator, size: Size) -> Sample:
        drawn = draw_facade(rng, *size)
        return {"labels": drawn.labels, "image": drawn.image}
