"""Image translation datasets from photos: Canny edges to photos, and gray to photos."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from ..core.geometry import Geometry, Size, fitting_size, resize_antialiased, transform_image
from ..dataset import Sample
from ..field_types import FieldType, Image
from ..image_folders import ImageFolders

# Canny: A Computational Approach to Edge Detection. PAMI 1986. The smoothing is in pixels; the thresholds are norms of
# a 3x3 Sobel gradient of gray levels from 0 to 255: an edge starts above the upper one and ends below the lower one.
SMOOTHING = 1.4
LOWER_THRESHOLD, UPPER_THRESHOLD = 50, 120


class EdgesToPhotos(ImageFolders):
    """Canny edges (black on white) of a photo, and the photo; folders and lists as in `image-folders`.

    Edges are computed from the image at its final size, after the geometric augmentation or `with_size`: they are one
    pixel wide at any size.
    """

    title: ClassVar[str] = "Edges to photos"
    _size: Size | None = None

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"edges": Image(1), "image": Image()}

    def with_size(self, size: Size) -> EdgesToPhotos:
        """Return the dataset with every photo resized, at its aspect ratio, so that it covers this (height, width)."""
        resized = copy.copy(self)
        resized._size = size
        return resized

    def image(self, index: int) -> np.ndarray:
        image = super().image(index)
        if self._size is None:
            return image
        return resize_antialiased(image, fitting_size((image.shape[0], image.shape[1]), self._size))

    def with_image(self, image: np.ndarray, index: int) -> Sample:
        return {"edges": edges_of(image), "image": image}

    def transformed(self, image: np.ndarray, index: int, geometry: Geometry, fields: dict[str, FieldType]) -> Sample:
        return self.with_image(np.ascontiguousarray(transform_image(image, geometry)), index)


class GrayToPhotos(ImageFolders):
    """Luminance of a photo, and the photo; folders and lists as in `image-folders`."""

    title: ClassVar[str] = "Gray to photos"

    def __init__(self, root: str | Path, split: str = "train") -> None:
        super().__init__(root, split)
        self.fields = {"gray": Image(1), "image": Image()}

    def with_image(self, image: np.ndarray, index: int) -> Sample:
        return {"gray": cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], "image": image}


def edges_of(image: np.ndarray) -> np.ndarray:
    """Canny edges of the luminance of (H, W, 3) uint8: (H, W, 1) uint8, 0 on edges and 255 elsewhere."""
    smooth = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), SMOOTHING)
    return 255 - cv2.Canny(smooth, LOWER_THRESHOLD, UPPER_THRESHOLD, L2gradient=True)[..., None]
