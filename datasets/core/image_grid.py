"""Image grids: rows, columns and cells of images, (H, W, 3) uint8 RGB, with captions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

GAP = 4
"""Pixels between images."""
CAPTION_HEIGHT = 18
"""Height of a caption line in pixels."""


def hstack_images(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images in a row, all resized to the height of the tallest one, so that text in it stays readable."""
    height = max(image.shape[0] for image in images)
    row = []
    for image in images:
        if image.shape[0] != height:
            width = max(1, round(image.shape[1] * height / image.shape[0]))
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
        row.append(np.pad(image, ((0, 0), (0, GAP), (0, 0)), constant_values=255))
    return np.concatenate(row, axis=1)[:, :-GAP]


def vstack_images(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images below each other, padded with white to the width of the widest one."""
    widest = max(image.shape[1] for image in images)
    padded = [np.pad(image, ((0, GAP), (0, widest - image.shape[1]), (0, 0)), constant_values=255) for image in images]
    return np.concatenate(padded)[:-GAP]


def fit_to_cell(image: np.ndarray, cell: tuple[int, int], background: int = 255) -> np.ndarray:
    """Resize an image to fit into a cell of (height, width), centered, keeping its aspect ratio."""
    if image.shape[:2] == cell:
        return image
    factor = min(cell[0] / image.shape[0], cell[1] / image.shape[1])
    size = [max(1, min(limit, round(length * factor))) for length, limit in zip(image.shape[:2], cell, strict=True)]
    # Pixels of strongly enlarged maps stay squares, so that units can be counted.
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC if factor < 4 else cv2.INTER_NEAREST
    canvas = np.full((*cell, 3), background, np.uint8)
    top, left = ((limit - length) // 2 for length, limit in zip(size, cell, strict=True))
    resized = cv2.resize(image, (size[1], size[0]), interpolation=interpolation)
    canvas[top : top + size[0], left : left + size[1]] = resized
    return canvas


def add_caption(image: np.ndarray, caption: str) -> np.ndarray:
    """Add a line of text below an image, cut off at its width."""
    from PIL import Image, ImageDraw, ImageFont

    line = Image.new("RGB", (image.shape[1], CAPTION_HEIGHT), "white")
    ImageDraw.Draw(line).text((1, 1), caption, fill="black", font=ImageFont.load_default(13))
    return np.concatenate([image, np.asarray(line)])


def image_grid(images: Sequence[np.ndarray], columns: int, gap: int = GAP, background: int = 255) -> np.ndarray:
    """Arrange images of one size in rows of `columns`."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, np.uint8)
    for index, image in enumerate(images):
        y, x = divmod(index, columns)
        top, left = y * (height + gap), x * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas
