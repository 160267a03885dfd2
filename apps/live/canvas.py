"""What one sees: the frame, its answers beside it, and under each what it says."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

SMALLEST = (180, 320)
"""(height, width) of a cell at least, so that captions can be read."""
FONT, SIZE, STROKE = cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1
MARGIN, LINE, LINES = 6, 18, 2
"""Pixels left and right of a caption, and from line to line; lines of a caption."""
INK, PAPER = (230, 230, 230), 24

Cell = tuple[np.ndarray, str]
"""A picture, (H, W, 3) uint8 RGB, and its caption."""


def composed(frame: Cell, answers: Sequence[Cell], hint: str = "") -> np.ndarray:
    """The frame and its answers in rows of two, or of three where they are many: (H, W, 3) uint8 with even sides.

    Args:
        frame: what was captured; its size is that of every cell.
        answers: fitted into cells.
        hint: a line below everything; empty: none.
    """
    height, width = (side + side % 2 for side in map(max, frame[0].shape[:2], SMALLEST))
    cells = [
        np.vstack([fitted(picture, (height, width)), captioned(text, width, LINES)])
        for picture, text in (frame, *answers)
    ]
    columns = min(len(cells), 2 if len(cells) <= 4 else 3)
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[at : at + columns]) for at in range(0, len(cells), columns)]
    if hint:
        rows.append(captioned(hint, width * columns, 1))
    return np.vstack(rows)


def fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture as large as it fits into (height, width), with black margins."""
    height, width = picture.shape[:2]
    if (height, width) == size:
        return picture
    scale = min(size[0] / height, size[1] / width)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    page = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    page[top : top + inner[0], left : left + inner[1]] = cv2.resize(picture, inner[::-1], interpolation=method)
    return page


def captioned(text: str, width: int, lines: int) -> np.ndarray:
    """A strip of so many lines with a text; what does not fit into them is cut."""
    strip = np.full((LINE * lines, width, 3), PAPER, np.uint8)
    for row, line in enumerate(broken(text, width - 2 * MARGIN, lines)):
        cv2.putText(strip, line, (MARGIN, LINE * row + 13), FONT, SIZE, INK, STROKE, cv2.LINE_AA)
    return strip


def broken(text: str, width: int, lines: int) -> list[str]:
    """A text in at most so many lines of so many pixels, broken between words; what is left out is three dots."""
    said: list[str] = []
    for word in text.split():
        if said and across(f"{said[-1]} {word}") <= width:
            said[-1] += f" {word}"
        else:
            said.append(word)
    if len(said) > lines:
        said = [*said[: lines - 1], f"{said[lines - 1]} ..."]
    return [shortened(line, width) for line in said]


def shortened(line: str, width: int) -> str:
    """A line without the last letters that do not fit."""
    dots = "..."
    while line != dots and across(line) > width:
        line = line.removesuffix(dots)[:-1].rstrip() + dots
    return line


def across(text: str) -> int:
    """Pixels across a text."""
    return cv2.getTextSize(text, FONT, SIZE, STROKE)[0][0]
