"""Synthetic translation dataset: label maps and images of building facades."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from .core.geometry import Size
from .dataset import Sample, SyntheticDataset
from .field_types import Image, SegmentationMask
from .rendering.facades import NAMES, draw_facade


class SyntheticFacades(SyntheticDataset):
    """Label maps of facades in the twelve classes of the CMP facade database (walls, windows, doors, ornaments ...),
    and images, whose paint, light and weather cannot be inferred from the labels."""

    title: ClassVar[str] = "Facades (synthetic)"
    default_size: ClassVar[Size] = (128, 128)
    cpu_heavy: ClassVar[bool] = False

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"labels": SegmentationMask(NAMES), "image": Image()}

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        facade = draw_facade(rng, *size)
        return {"labels": facade.labels, "image": facade.image}
