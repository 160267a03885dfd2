"""Tiled display: the frame and its predictions, with captions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ...datasets.core.drawing import fit_to_cell, image_grid

MIN_CELL_SIZE = (180, 320)
"""Minimum (height, width) of a cell, so that captions are readable."""
FONT, SIZE, STROKE = cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1
MARGIN, LINE, LINES = 6, 18, 2
"""Horizontal margin and line height of a caption in pixels; number of its lines."""
TEXT_COLOR, BACKGROUND = (230, 230, 230), 24

Cell = tuple[np.ndarray, str]
"""An image, (H, W, 3) uint8 RGB, and its caption."""


def compose(frame: Cell, predictions: Sequence[Cell], hint: str = "") -> np.ndarray:
    """Tile the frame and its predictions in rows of two, or of three from five cells on.

    Every cell has the size of the frame; `hint` is a line of text below the cells.

    Returns:
        (H, W, 3) uint8 RGB with even height and width.
    """
    height, width = (size + size % 2 for size in map(max, frame[0].shape[:2], MIN_CELL_SIZE))
    cells = [
        np.vstack([fit_to_cell(image, (height, width), background=0), render_caption(text, width, LINES)])
        for image, text in (frame, *predictions)
    ]
    columns = min(len(cells), 2 if len(cells) <= 4 else 3)
    grid = image_grid(cells, columns, gap=0, background=0)
    return np.vstack([grid, render_caption(hint, width * columns, 1)]) if hint else grid


def render_caption(text: str, width: int, lines: int) -> np.ndarray:
    """A strip (LINE * lines, width, 3) uint8 with a text, truncated to the number of lines."""
    strip = np.full((LINE * lines, width, 3), BACKGROUND, np.uint8)
    for row, line in enumerate(wrap_text(text, width - 2 * MARGIN, lines)):
        cv2.putText(strip, line, (MARGIN, LINE * row + 13), FONT, SIZE, TEXT_COLOR, STROKE, cv2.LINE_AA)
    return strip


def wrap_text(text: str, width: int, lines: int) -> list[str]:
    """Wrap a text between words to at most `lines` lines of `width` pixels; omitted text is marked by "..."."""
    wrapped: list[str] = []
    for word in text.split():
        if wrapped and text_width(f"{wrapped[-1]} {word}") <= width:
            wrapped[-1] += f" {word}"
        else:
            wrapped.append(word)
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], f"{wrapped[lines - 1]} ..."]
    return [truncate(line, width) for line in wrapped]


def truncate(line: str, width: int) -> str:
    """Cut a line to `width` pixels, with "..." at its end."""
    dots = "..."
    while line != dots and text_width(line) > width:
        line = line.removesuffix(dots)[:-1].rstrip() + dots
    return line


def text_width(text: str) -> int:
    """Width of a rendered text in pixels."""
    return cv2.getTextSize(text, FONT, SIZE, STROKE)[0][0]
