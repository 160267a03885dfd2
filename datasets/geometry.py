"""One geometry per sample: sampled once, composed into one matrix per frame, applied in one interpolation.

Convention: pixel centres lie at integers, (x, y) = (column, row), the upper left pixel is (0, 0), and a matrix
maps input pixels to output pixels in homogeneous coordinates. A resize by s is therefore x' = s (x + 1/2) - 1/2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Size = tuple[int, int]
"""(height, width) in pixels."""

Window = tuple[int, int, int, int]
"""Top, left, height and width, in whole pixels."""

Rectangle = tuple[float, float, float, float]
"""x, y, width and height in pixels, as people and COCO write a box."""

Filter = Literal["bilinear", "bicubic"]
"""Pillow's filters that classification uses."""


LARGEST_FIT = 8
"""A side is worked at no more than this multiple of the training size: a strip of 1 x 2000 pixels would otherwise be
enlarged until its short side is covered."""


@dataclass(frozen=True)
class Geometry:
    """Where every pixel of a sample goes.

    Attributes:
        matrices: (3, 3) float64 from input to output pixels, one per frame; the last one serves all later frames.
        size: (height, width) of the output.
        zoom: magnification relative to the plain resize. Depth is divided by it, and by nothing else.
        filter: pictures are resized with Pillow's antialiased filter of this name and then cut out, as published scores
            are measured; the matrix resizes, shifts by whole pixels and mirrors, no more (`resize_and_crop`). None: one
            bilinear interpolation.
        window: (top, left, height, width), whole pixels of the input, where the output is that window and nothing else:
            pictures are then cut out first and resized with an antialiased filter (`cut_and_resize`).
    """

    matrices: tuple[np.ndarray, ...]
    size: Size
    zoom: float = 1.0
    filter: Filter | None = None
    window: Window | None = None

    def matrix(self, frame: int = 0) -> np.ndarray:
        """The (3, 3) matrix of a frame."""
        return self.matrices[min(frame, len(self.matrices) - 1)]

    def then(self, other: Geometry) -> Geometry:
        """First this geometry, then the other, still one interpolation."""
        frames = max(len(self.matrices), len(other.matrices))
        matrices = tuple(other.matrix(frame) @ self.matrix(frame) for frame in range(frames))
        return Geometry(matrices, other.size, self.zoom * other.zoom, other.filter or self.filter)


def translation(x: float, y: float) -> np.ndarray:
    """(3, 3) shift by (x, y) pixels."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def rotation(degrees: float) -> np.ndarray:
    """(3, 3) rotation about the origin, clockwise on the screen (y points down)."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def scaling(x: float, y: float) -> np.ndarray:
    """(3, 3) resize by factors x and y that keeps the picture's outer edges: x' = s (x + 1/2) - 1/2."""
    return np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])


def mirroring(width: int) -> np.ndarray:
    """(3, 3) left-right flip of a picture of this width."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def plain_resize(source: Size, target: Size) -> Geometry:
    """The whole picture to another size; the aspect may change, the zoom is 1."""
    return Geometry((scaling(target[1] / source[1], target[0] / source[0]),), target)


def resize_and_crop(
    source: Size,
    resized: Size,
    corner: tuple[int, int],
    size: Size,
    filter: Filter = "bilinear",
    mirrored: bool = False,
) -> Geometry:
    """A resize of the whole picture, then a window of it, as torchvision's `Resize` and `CenterCrop` do it.

    Args:
        source: (height, width) of the picture.
        resized: of the whole picture after the resize.
        corner: (top, left) of the window in the resized picture; what lies outside continues as its mirror image.
        size: (height, width) of the window.
        filter: of the resize.
        mirrored: exchange left and right of the window.
    """
    matrix = translation(-corner[1], -corner[0]) @ scaling(resized[1] / source[1], resized[0] / source[0])
    return Geometry((mirroring(size[1]) @ matrix if mirrored else matrix,), size, 1.0, filter)


def cut_and_resize(window: Window, size: Size, zoom: float = 1.0, mirrored: bool = False) -> Geometry:
    """A window of the picture made as large as the output, and perhaps mirrored.

    Args:
        window: of the input, within the picture.
        size: (height, width) of the output.
        zoom: magnification relative to the plain resize.
        mirrored: exchange left and right of the output.
    """
    top, left, height, width = window
    matrix = scaling(size[1] / width, size[0] / height) @ translation(-left, -top)
    return Geometry((mirroring(size[1]) @ matrix if mirrored else matrix,), size, zoom, window=window)


def fitting_size(source: Size, trained: Size) -> Size:
    """The size that covers the training size, within `LARGEST_FIT` times that or the picture's own."""
    covering = covering_size(source, trained)
    height, width = (
        min(side, max(LARGEST_FIT * usual, own)) for side, usual, own in zip(covering, trained, source, strict=True)
    )
    return height, width


def covering_size(source: Size, target: Size) -> Size:
    """The size at which the whole picture, its aspect kept, just covers the target."""
    factor = max(target[0] / source[0], target[1] / source[1])
    return max(target[0], round(source[0] * factor)), max(target[1], round(source[1] * factor))


def move_picture(picture: np.ndarray, geometry: Geometry, frame: int = 0) -> np.ndarray:
    """A picture through a geometry, by the interpolation that it asks for.

    Args:
        picture: (H, W, C), uint8, uint16 or float32; with a `filter`, uint8.
        geometry: see `Geometry`.
        frame: whose matrix is used.
    """
    matrix = geometry.matrix(frame)
    if geometry.window is not None and picture.dtype == np.uint8:
        top, left, height, width = geometry.window
        return resize_antialiased(picture[top : top + height, left : left + width], geometry.size, matrix[0, 0] < 0)
    if geometry.filter is None:
        return warp_picture(picture, matrix, geometry.size)
    mirrored = matrix[0, 0] < 0
    plain = mirroring(geometry.size[1]) @ matrix if mirrored else matrix
    height, width = (
        round(side * scale) for side, scale in zip(picture.shape, (plain[1, 1], plain[0, 0]), strict=False)
    )
    if (height, width) != picture.shape[:2]:
        picture = resize_antialiased(picture, (height, width), filter=geometry.filter)
    top, left = (round((plain[axis, axis] - 1) / 2 - plain[axis, 2]) for axis in (1, 0))
    bottom, right = top + geometry.size[0], left + geometry.size[1]
    above, before = max(0, -top), max(0, -left)
    below, behind = max(0, bottom - height), max(0, right - width)
    if above or below or before or behind:
        bordered = cv2.copyMakeBorder(picture, above, below, before, behind, cv2.BORDER_REFLECT_101)
        picture = bordered.reshape(*bordered.shape[:2], -1)
    cut = picture[top + above : bottom + above, left + before : right + before]
    return cut[:, ::-1] if mirrored else cut


def resize_antialiased(
    picture: np.ndarray, size: Size, mirrored: bool = False, filter: Filter = "bilinear"
) -> np.ndarray:
    """A picture at another size through a filter as wide as the reduction: Pillow's `BILINEAR` or `BICUBIC`.

    OpenCV's linear resize skips pixels when it reduces, its area resize takes three times as long, and its flip of
    three channels as long as the resize.

    Args:
        picture: (H, W, C) uint8.
        size: (height, width) of the result.
        mirrored: exchange left and right.
        filter: Pillow's name for it.
    """
    import torch
    from torch.nn.functional import interpolate

    if min(picture.strides) < 0:  # a mirrored view, or BGR turned to RGB: torch knows no such thing
        picture = np.ascontiguousarray(picture)
    # (1, C, H, W) over the same memory, which is what torch calls channels_last: its vectorised form.
    tensor = torch.from_numpy(np.require(picture, requirements="W")).permute(2, 0, 1)[None]
    moved = interpolate(tensor, size, mode=filter, antialias=True)
    return (moved.flip(-1) if mirrored else moved)[0].permute(1, 2, 0).numpy()


def warp_picture(picture: np.ndarray, matrix: np.ndarray, size: Size) -> np.ndarray:
    """Move a picture bilinearly; outside it, its mirror image continues.

    Below half size the picture is first averaged over k x k pixels, k = floor(1 / scale), and that reduction is
    composed into the matrix: a bilinear sample alone would skip pixels and alias.

    Args:
        picture: (H, W) or (H, W, C), uint8, uint16 or float32.
        matrix: (3, 3) from input to output pixels.
        size: (height, width) of the output.
    """
    factor = int(1 / max(math.sqrt(abs(np.linalg.det(matrix[:2, :2]))), 1e-6) + 1e-6)
    if factor >= 2:
        height, width = picture.shape[:2]
        factor = min(factor, height, width)
        picture = cv2.copyMakeBorder(picture, 0, -height % factor, 0, -width % factor, cv2.BORDER_REPLICATE)
        picture = cv2.resize(
            picture, (picture.shape[1] // factor, picture.shape[0] // factor), interpolation=cv2.INTER_AREA
        )
        matrix = matrix @ np.linalg.inv(scaling(1 / factor, 1 / factor))
    if np.allclose(matrix, np.eye(3), atol=1e-9) and picture.shape[:2] == size:
        return picture
    warp = cv2.warpAffine if _is_affine(matrix) else cv2.warpPerspective
    transform = matrix[:2] if _is_affine(matrix) else matrix
    return warp(picture, transform, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def warp_nearest(array: np.ndarray, matrix: np.ndarray, size: Size, outside: float) -> np.ndarray:
    """Move an array by taking the nearest value: depth, labels, masks, flow, where a mean would invent a thing.

    Args:
        array: (H, W) or (H, W, C) of any type.
        matrix: (3, 3) from input to output pixels.
        size: (height, width) of the output.
        outside: the value of pixels that come from outside.
    """
    x, y = sources(matrix, size)
    column, row = np.floor(x + 0.5).astype(np.int64), np.floor(y + 0.5).astype(np.int64)
    inside = (column >= 0) & (column < array.shape[1]) & (row >= 0) & (row < array.shape[0])
    moved = array[np.where(inside, row, 0), np.where(inside, column, 0)]
    moved[~inside] = outside
    return moved


def sources(matrix: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Where every output pixel comes from: x and y, each (H, W) float64 in input pixels."""
    inverse = np.linalg.inv(matrix)
    x, y = np.meshgrid(np.arange(size[1], dtype=np.float64), np.arange(size[0], dtype=np.float64))
    return move_points(inverse, x, y)


def move_points(matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points through a (3, 3) matrix, elementwise."""
    scale = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    return (
        (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / scale,
        (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / scale,
    )


def _is_affine(matrix: np.ndarray) -> bool:
    return bool(np.allclose(matrix[2], (0, 0, 1), atol=1e-12))
