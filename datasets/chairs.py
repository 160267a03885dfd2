"""Chairs: pairs of pictures in which things move before a moving background, with exact flow and occlusion."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np

from .dataset import Sample, World
from .fields import Flow, Image, Mask
from .geometry import Size
from .photographs import Photographs
from .worlds.chairs import draw_chairs

PHOTOGRAPHS = 3
"""Photographs that one scene is covered with."""
LARGEST = 640
"""Longer photographs are reduced to this many pixels: no scene shows more of one."""


class Chairs(World):
    """Unseen pairs without end: two pictures, the motion of every pixel from the first to the second, and whether the
    second still shows it.

    Without a root, things are covered with this package's own grounds and patterns. With one, with the photographs in
    that folder, split as `photographs` splits them.
    """

    title: ClassVar[str] = "Chairs (embedded world)"
    default_size: ClassVar[Size] = (192, 256)

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"first": Image(), "second": Image(frame=1), "flow": Flow(), "visible": Mask()}
        self._photographs = Photographs(root, "train" if split == "train" else "test") if root else None
        if self._photographs is not None:
            self.terms = f"drawn with photographs: {self._photographs.terms}"  # type: ignore[misc]

    def draw(self, rng: np.random.Generator, size: Size) -> Sample:
        photographs = []
        if self._photographs is not None:
            for index in rng.integers(len(self._photographs), size=PHOTOGRAPHS):
                photographs.append(_reduced(self._photographs.read(int(index))["image"]))
        return draw_chairs(rng, *size, photographs)


def _reduced(photograph: np.ndarray) -> np.ndarray:
    scale = LARGEST / max(photograph.shape[:2])
    if scale >= 1:
        return photograph
    return cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
