"""Synthetic flow dataset: objects in front of a moving background, with exact flow and occlusion."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np

from .core.geometry import Size
from .dataset import Sample, SyntheticDataset
from .field_types import Flow, Image, Mask
from .image_folders import ImageFolders
from .rendering.chairs import draw_chairs

PHOTOS = 3
"""Number of photos used as textures of a scene."""
MAX_PHOTO_SIZE = 640
"""Maximum length of a photo in pixels; longer ones are reduced, since a scene does not show more."""


class SyntheticChairs(SyntheticDataset):
    """Pairs of images with the flow of every pixel from the first to the second, and whether it is visible there.

    Without a root, objects have generated textures. With a root, textures are photos of that folder, with the splits of
    `image-folders`.
    """

    title: ClassVar[str] = "Chairs (synthetic)"
    default_size: ClassVar[Size] = (192, 256)

    def __init__(self, root=None, split: str = "train", size: Size | None = None, seed: int = 0) -> None:
        super().__init__(root, split, size, seed)
        self.fields = {"first": Image(), "second": Image(frame=1), "flow": Flow(), "visible": Mask()}
        self._photos = ImageFolders(root, "train" if split == "train" else "test") if root else None
        if self._photos is not None:
            self.terms = f"rendered with photos: {self._photos.terms}"  # type: ignore[misc]

    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        photos = []
        if self._photos is not None:
            for index in rng.integers(len(self._photos), size=PHOTOS):
                photos.append(_reduced(self._photos.read(int(index))["image"]))
        return draw_chairs(rng, *size, photos)


def _reduced(photo: np.ndarray) -> np.ndarray:
    scale = MAX_PHOTO_SIZE / max(photo.shape[:2])
    if scale >= 1:
        return photo
    return cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
