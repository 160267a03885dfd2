"""Random resized crops of pictures on disk, the augmentation of classification: decoded, cut, made small, mirrored.

Szegedy et al.: Going Deeper with Convolutions. CVPR 2015, arXiv:1409.4842, section 6: a patch of 8 to 100 % of the
picture's area, of an aspect between 3/4 and 4/3. Drawn as torchvision draws it, and made small with Pillow's
antialiased bilinear filter, to one grey level; pixels stay uint8 to the last moment, for a batch to become floats on
its device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .formats.jpeg import jpeg_size, scale_down
from .formats.picture import decode_picture
from .formats.reading import read_bytes
from .geometry import Size, resize_antialiased

AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
TRIES = 10
"""Draws before the largest central crop is taken instead."""


@dataclass(frozen=True)
class Crop:
    """A rectangle of whole pixels that becomes the picture, mirrored or not."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool = False

    def whole(self, source: Size, size: Size) -> Size:
        """How large the whole picture must be for this crop of it to be at least `size`.

        Args:
            source: (height, width) of the picture that the crop was drawn on.
            size: (height, width) that the crop will be made.
        """
        return -(-source[0] * size[0] // self.height), -(-source[1] * size[1] // self.width)

    def reduced(self, factor: int) -> Crop:
        """The same crop, to whole pixels, on the same picture decoded smaller by a factor."""
        if factor == 1:
            return self
        top, left = round(self.top / factor), round(self.left / factor)
        bottom = max(top + 1, round((self.top + self.height) / factor))
        right = max(left + 1, round((self.left + self.width) / factor))
        return Crop(top, left, bottom - top, right - left, self.mirrored)

    def take(self, picture: np.ndarray, size: Size) -> np.ndarray:
        """This crop of a picture at another size.

        Args:
            picture: (H, W, C) uint8.
            size: (height, width) of the result.

        Returns:
            (*size, C) uint8.
        """
        cut = picture[self.top : self.top + self.height, self.left : self.left + self.width]
        return resize_antialiased(cut, size, self.mirrored)


def random_crop(
    rng: np.random.Generator,
    source: Size,
    area: tuple[float, float] = AREA,
    aspect: tuple[float, float] = ASPECT,
    flip: float = 0.5,
) -> Crop:
    """Draw a crop: its share of the area evenly, its aspect log-evenly, its place evenly.

    Args:
        rng: where the draws come from.
        source: (height, width) of the picture.
        area: least and largest share of the picture's area.
        aspect: least and largest width / height.
        flip: probability of a left-right flip.
    """
    height, width = source
    mirrored = bool(rng.random() < flip)
    for _ in range(TRIES):
        share, shape = rng.uniform(*area), math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        h, w = round(math.sqrt(share * height * width / shape)), round(math.sqrt(share * height * width * shape))
        if 0 < h <= height and 0 < w <= width:
            return Crop(int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w, mirrored)
    h, w = min(height, max(1, round(width / aspect[0]))), min(width, max(1, round(height * aspect[1])))
    return Crop((height - h) // 2, (width - w) // 2, h, w, mirrored)


def read_random_crop(
    path: str | Path,
    rng: np.random.Generator,
    size: Size,
    area: tuple[float, float] = AREA,
    aspect: tuple[float, float] = ASPECT,
    flip: float = 0.5,
) -> np.ndarray:
    """A random crop of a picture on disk. A JPEG is decoded no larger than the crop needs.

    Args:
        path: the file.
        rng, area, aspect, flip: as in `random_crop`.
        size: (height, width) of the result.

    Returns:
        (*size, 3) uint8 RGB.

    Raises:
        DamagedData: as `read_picture`.
    """
    data = read_bytes(path, "a picture")
    source = jpeg_size(data)
    if source is None:
        picture = decode_picture(data, path)
        return random_crop(rng, (picture.shape[0], picture.shape[1]), area, aspect, flip).take(picture, size)
    crop = random_crop(rng, source, area, aspect, flip)
    enough = crop.whole(source, size)
    return crop.reduced(scale_down(source, enough)).take(decode_picture(data, path, enough), size)
