"""Several pictures on one sheet: in cells of one size, with a word below each."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

GAP = 4
LINE = 18
"""Pixels of a line of writing."""


def fitted(picture: np.ndarray, cell: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 in the middle of a white cell of (height, width), as large as it goes."""
    factor = min(cell[0] / picture.shape[0], cell[1] / picture.shape[1])
    size = [max(1, min(limit, round(side * factor))) for side, limit in zip(picture.shape[:2], cell, strict=True)]
    # Small maps stay as squares, so that units can be counted.
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC if factor < 4 else cv2.INTER_NEAREST
    made = cv2.resize(picture, (size[1], size[0]), interpolation=smooth)
    sheet = np.full((*cell, 3), 255, np.uint8)
    top, left = ((limit - side) // 2 for side, limit in zip(size, cell, strict=True))
    sheet[top : top + size[0], left : left + size[1]] = made
    return sheet


def captioned(picture: np.ndarray, words: str) -> np.ndarray:
    """A picture with one line below it, cut at its width."""
    from PIL import Image, ImageDraw, ImageFont

    line = Image.new("RGB", (picture.shape[1], LINE), "white")
    ImageDraw.Draw(line).text((1, 1), words, fill="black", font=ImageFont.load_default(13))
    return np.concatenate([picture, np.asarray(line)])


def grid(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size in rows of so many, with white between."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        y, x = divmod(number, columns)
        top, left = y * (height + GAP), x * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet
