"""Photographs to be made from less than themselves: from the lines in them, or from their lightness."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from .dataset import Sample
from .fields import Image
from .geometry import Geometry, Size, fitting_size, move_picture, plain_resize, resize_antialiased
from .photographs import Photographs

# Canny: A Computational Approach to Edge Detection. PAMI 1986. The smoothing is in pixels; the thresholds are lengths
# of a 3x3 Sobel gradient of grey levels from 0 to 255: a line starts above the upper one and ends below the lower one.
SMOOTHING = 1.4
ENDS_BELOW, STARTS_ABOVE = 50, 120


class PhotographEdges(Photographs):
    """Black lines on white, and the photograph in which they were found; the folders and lists of `photographs`.

    Lines are found in the picture as it is used, after a training's geometry and at the size of `at`: a line is one
    pixel wide at any size, as a pen draws it, and not a trace of what was shrunk.
    """

    title: ClassVar[str] = "Edges of photographs"
    _size: Size | None = None

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"edges": Image(1), "image": Image()}

    def at(self, size: Size) -> PhotographEdges:
        """The set with every photograph resized, its aspect kept, so that it just covers this (height, width)."""
        sized = copy.copy(self)
        sized._size = size
        return sized

    def picture(self, index: int) -> np.ndarray:
        whole = super().picture(index)
        if self._size is None:
            return whole
        return resize_antialiased(whole, fitting_size((whole.shape[0], whole.shape[1]), self._size))

    def with_picture(self, picture: np.ndarray, index: int) -> Sample:
        return {"edges": edges_of(picture), "image": picture}

    def read_for(self, index: int, draw: Callable[[Size], Geometry]) -> tuple[Sample, Geometry]:
        """The photograph through the geometry and then its lines, with the geometry that leaves both as they are."""
        sample, geometry = super().read_for(index, draw)
        moved = np.ascontiguousarray(move_picture(sample["image"], geometry))
        return self.with_picture(moved, index), plain_resize(geometry.size, geometry.size)


class PhotographGreys(Photographs):
    """The luminance of a photograph, and the photograph; the folders and lists of `photographs`."""

    title: ClassVar[str] = "Greys of photographs"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"grey": Image(1), "image": Image()}

    def with_picture(self, picture: np.ndarray, index: int) -> Sample:
        return {"grey": cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], "image": picture}


def edges_of(picture: np.ndarray) -> np.ndarray:
    """Canny's edges of the luminance of (H, W, 3) uint8: (H, W, 1) uint8, 0 on a line and 255 elsewhere."""
    smooth = cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (0, 0), SMOOTHING)
    return 255 - cv2.Canny(smooth, ENDS_BELOW, STARTS_ABOVE, L2gradient=True)[..., None]
