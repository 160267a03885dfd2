"""Geometric transforms: one matrix per frame for all fields of a sample, applied in one interpolation.

Convention: pixel centers are at integers, (x, y) = (column, row), the upper left pixel is (0, 0), and a matrix maps
input pixels to output pixels in homogeneous coordinates. A resize by s is therefore x' = s (x + 1/2) - 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Size = tuple[int, int]
"""(height, width) in pixels."""

Window = tuple[int, int, int, int]
"""(top, left, height, width) in integer pixels."""

Rectangle = tuple[float, float, float, float]
"""(x, y, width, height) in pixels, as in COCO."""

Filter = Literal["bilinear", "bicubic"]
"""Antialiased resize filters of Pillow, as classification uses them."""

MAX_FIT_FACTOR = 8
"""Height and width are enlarged to at most this multiple of the training size: a strip of 1 x 2000 pixels would
otherwise be enlarged until its short side is covered."""


@dataclass(frozen=True)
class Geometry:
    """Transform of a sample from input to output pixels.

    Attributes:
        matrices: (3, 3) float64 from input to output pixels, one per frame; the last one applies to all later frames.
        size: (height, width) of the output.
        zoom: magnification relative to the plain resize; depth is divided by it alone.
        filter: if stated, images are resized with Pillow's antialiased filter of this name and then cropped, as
            published scores are measured; the matrix may only resize, shift by integer pixels and flip
            (`resize_and_crop`). None: one bilinear interpolation.
        window: (top, left, height, width) in pixels of the input, if the output is exactly this crop: images are then
            cropped first and resized with an antialiased filter (`crop_and_resize`).
    """

    matrices: tuple[np.ndarray, ...]
    size: Size
    zoom: float = 1.0
    filter: Filter | None = None
    window: Window | None = None

    def matrix(self, frame: int = 0) -> np.ndarray:
        """(3, 3) matrix of a frame."""
        return self.matrices[min(frame, len(self.matrices) - 1)]

    def then(self, other: Geometry) -> Geometry:
        """Compose with a geometry that is applied after this one; still one interpolation."""
        frames = max(len(self.matrices), len(other.matrices))
        matrices = tuple(other.matrix(frame) @ self.matrix(frame) for frame in range(frames))
        return Geometry(matrices, other.size, self.zoom * other.zoom, other.filter or self.filter)


def translation(x: float, y: float) -> np.ndarray:
    """(3, 3) matrix of a shift by (x, y) pixels."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def rotation(degrees: float) -> np.ndarray:
    """(3, 3) matrix of a rotation about the origin, clockwise in the image (y points down)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def scaling(x: float, y: float) -> np.ndarray:
    """(3, 3) matrix of a resize by factors x and y that keeps the outer edges: x' = s (x + 1/2) - 1/2."""
    return np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])


def hflip(width: int) -> np.ndarray:
    """(3, 3) matrix of a left-right flip of an image of this width."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def plain_resize(source: Size, target: Size) -> Geometry:
    """Geometry that resizes the full image to `target`; the aspect ratio may change, the zoom is 1."""
    return Geometry((scaling(target[1] / source[1], target[0] / source[0]),), target)


def resize_and_crop(
    source: Size,
    resized: Size,
    corner: tuple[int, int],
    size: Size,
    filter: Filter = "bilinear",
    mirrored: bool = False,
) -> Geometry:
    """Geometry that resizes the full image and then crops it, as `Resize` and `CenterCrop` of torchvision.

    Args:
        source: (height, width) of the image.
        resized: (height, width) of the full image after the resize.
        corner: (top, left) of the crop in the resized image; beyond the image, it is continued by reflection.
        size: (height, width) of the crop.
        filter: resize filter.
        mirrored: flip the crop left-right.
    """
    matrix = translation(-corner[1], -corner[0]) @ scaling(resized[1] / source[1], resized[0] / source[0])
    return Geometry((hflip(size[1]) @ matrix if mirrored else matrix,), size, 1.0, filter)


def crop_and_resize(window: Window, size: Size, zoom: float = 1.0, mirrored: bool = False) -> Geometry:
    """Geometry that crops the image and resizes the crop to the output, optionally flipped.

    Args:
        window: the crop, within the image.
        size: (height, width) of the output.
        zoom: magnification relative to the plain resize.
        mirrored: flip the output left-right.
    """
    top, left, height, width = window
    matrix = scaling(size[1] / width, size[0] / height) @ translation(-left, -top)
    return Geometry((hflip(size[1]) @ matrix if mirrored else matrix,), size, zoom, window=window)


def fitting_size(source: Size, training_size: Size) -> Size:
    """Covering size of the training size, per axis at most `MAX_FIT_FACTOR` times it or, if larger, the source."""
    covering = covering_size(source, training_size)
    height, width = (
        min(length, max(MAX_FIT_FACTOR * training_length, source_length))
        for length, training_length, source_length in zip(covering, training_size, source, strict=True)
    )
    return height, width


def covering_size(source: Size, target: Size) -> Size:
    """Smallest size at which the image, at its aspect ratio, covers the target."""
    factor = max(target[0] / source[0], target[1] / source[1])
    return max(target[0], round(source[0] * factor)), max(target[1], round(source[1] * factor))


def transform_image(image: np.ndarray, geometry: Geometry, frame: int = 0) -> np.ndarray:
    """Apply a geometry to an image, with the interpolation that the geometry specifies.

    Args:
        image: (H, W, C), uint8, uint16 or float32.
        geometry: see `Geometry`.
        frame: frame whose matrix is used.
    """
    matrix = geometry.matrix(frame)
    if geometry.window is not None and image.dtype == np.uint8:
        top, left, height, width = geometry.window
        return resize_antialiased(image[top : top + height, left : left + width], geometry.size, matrix[0, 0] < 0)
    if geometry.filter is None:
        return warp_image(image, matrix, geometry.size)
    mirrored = matrix[0, 0] < 0
    plain = hflip(geometry.size[1]) @ matrix if mirrored else matrix
    height, width = round(image.shape[0] * plain[1, 1]), round(image.shape[1] * plain[0, 0])
    if (height, width) != image.shape[:2]:
        image = resize_antialiased(image, (height, width), filter=geometry.filter)
    top, left = (round((plain[axis, axis] - 1) / 2 - plain[axis, 2]) for axis in (1, 0))
    bottom, right = top + geometry.size[0], left + geometry.size[1]
    above, before = max(0, -top), max(0, -left)
    below, behind = max(0, bottom - height), max(0, right - width)
    if above or below or before or behind:
        bordered = cv2.copyMakeBorder(image, above, below, before, behind, cv2.BORDER_REFLECT_101)
        image = bordered.reshape(*bordered.shape[:2], -1)
    crop = image[top + above : bottom + above, left + before : right + before]
    return crop[:, ::-1] if mirrored else crop


def resize_antialiased(
    image: np.ndarray, size: Size, mirrored: bool = False, filter: Filter = "bilinear"
) -> np.ndarray:
    """Resize an image with an antialiased filter: `BILINEAR` or `BICUBIC` of Pillow.

    OpenCV's linear resize skips pixels when it reduces, its area resize takes three times as long, and its flip of
    three channels as long as the resize.

    Args:
        image: (H, W, C), uint8, uint16 or float32.
        size: (height, width) of the result.
        mirrored: flip left-right.
        filter: resize filter.
    """
    import torch
    from torch.nn.functional import interpolate

    if image.dtype == np.uint16:  # torch resizes none
        resized = resize_antialiased(image.astype(np.float32), size, mirrored, filter)
        return resized.round().clip(0, 65535).astype(np.uint16)
    if min(image.strides) < 0:  # a flipped view, or BGR turned to RGB: torch has no negative strides
        image = np.ascontiguousarray(image)
    # (1, C, H, W) over the same memory, that is channels_last, for which the resize of torch is vectorized.
    tensor = torch.from_numpy(np.require(image, requirements="W")).permute(2, 0, 1)[None]
    resized = interpolate(tensor, size, mode=filter, antialias=True)
    return (resized.flip(-1) if mirrored else resized)[0].permute(1, 2, 0).numpy()


STRIP_PIXELS = 2**22
"""Pixels of a strip of rows, see `row_strips`."""


def row_strips(array: np.ndarray) -> Iterator[slice]:
    """Slices of rows that cover an image (H, W) or (H, W, C), each of about `STRIP_PIXELS` pixels.

    Steps that need several copies of their pixels take a strip at a time: a large image is in memory once.
    """
    height, width = array.shape[:2]
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def warp_image(image: np.ndarray, matrix: np.ndarray, size: Size) -> np.ndarray:
    """Warp an image bilinearly, with reflection at its borders.

    At less than half size, the image is first averaged over k x k pixels, k = floor(1 / scale), and the matrix is
    adapted: bilinear samples alone would skip pixels and alias.

    Args:
        image: (H, W) or (H, W, C), uint8, uint16 or float32.
        matrix: (3, 3) from input to output pixels.
        size: (height, width) of the output.
    """
    factor = int(1 / max(math.sqrt(abs(np.linalg.det(matrix[:2, :2]))), 1e-6) + 1e-6)
    if factor >= 2:
        height, width = image.shape[:2]
        factor = min(factor, height, width)
        if height % factor or width % factor:
            image = cv2.copyMakeBorder(image, 0, -height % factor, 0, -width % factor, cv2.BORDER_REPLICATE)
        image = cv2.resize(image, (image.shape[1] // factor, image.shape[0] // factor), interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.linalg.inv(scaling(1 / factor, 1 / factor))
    if np.allclose(matrix, np.eye(3), atol=1e-9) and image.shape[:2] == size:
        return image
    is_affine = np.allclose(matrix[2], (0, 0, 1), atol=1e-12)
    warp, transform = (cv2.warpAffine, matrix[:2]) if is_affine else (cv2.warpPerspective, matrix)
    return warp(image, transform, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def warp_nearest(array: np.ndarray, matrix: np.ndarray, size: Size, outside: float) -> np.ndarray:
    """Warp an array by nearest neighbor: for depth, labels, masks and flow, of which a mean would be a false value.

    Args:
        array: (H, W) or (H, W, C) of any type.
        matrix: (3, 3) from input to output pixels.
        size: (height, width) of the output.
        outside: value of output pixels that come from outside the array.
    """
    if array.shape[:2] == tuple(size) and np.array_equal(matrix, np.eye(3)):
        return array.copy()
    x, y = inverse_grid(matrix, size)
    column, row = np.floor(x + 0.5).astype(np.int64), np.floor(y + 0.5).astype(np.int64)
    inside = (column >= 0) & (column < array.shape[1]) & (row >= 0) & (row < array.shape[0])
    warped = array[np.where(inside, row, 0), np.where(inside, column, 0)]
    warped[~inside] = outside
    return warped


def inverse_grid(matrix: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Input coordinates of every output pixel: x and y, each (H, W) float64."""
    inverse = np.linalg.inv(matrix)
    x, y = np.meshgrid(np.arange(size[1], dtype=np.float64), np.arange(size[0], dtype=np.float64))
    return transform_points(inverse, x, y)


def transform_points(matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply a (3, 3) matrix to points, elementwise; returns x and y in the shape of the arguments."""
    scale = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    return (
        (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / scale,
        (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / scale,
    )
