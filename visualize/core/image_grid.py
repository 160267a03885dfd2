"""Image grids: cells of one size, with captions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

GAP = 4
"""Pixels between cells."""
CAPTION_HEIGHT = 18
"""Height of a caption line in pixels."""


def fit_to_cell(image: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """Scale (H, W, 3) uint8 to fit a white cell of (height, width), centered."""
    factor = min(cell[0] / image.shape[0], cell[1] / image.shape[1])
    size = [max(1, min(limit, round(length * factor))) for length, limit in zip(image.shape[:2], cell, strict=True)]
    # Pixels of strongly enlarged maps stay squares, so that units can be counted.
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC if factor < 4 else cv2.INTER_NEAREST
    resized = cv2.resize(image, (size[1], size[0]), interpolation=interpolation)
    canvas = np.full((*cell, 3), 255, np.uint8)
    top, left = ((limit - length) // 2 for length, limit in zip(size, cell, strict=True))
    canvas[top : top + size[0], left : left + size[1]] = resized
    return canvas


def add_caption(image: np.ndarray, caption: str) -> np.ndarray:
    """Add a line of text below an image, cut off at its width."""
    from PIL import Image, ImageDraw, ImageFont

    line = Image.new("RGB", (image.shape[1], CAPTION_HEIGHT), "white")
    ImageDraw.Draw(line).text((1, 1), caption, fill="black", font=ImageFont.load_default(13))
    return np.concatenate([image, np.asarray(line)])


def image_grid(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Arrange images of one size in rows of `columns`, with white gaps."""
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, image in enumerate(images):
        y, x = divmod(index, columns)
        top, left = y * (height + GAP), x * (width + GAP)
        canvas[top : top + height, left : left + width] = image
    return canvas
