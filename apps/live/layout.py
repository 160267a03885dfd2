"""Tiled display: the frame and its predictions, with captions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

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

    Args:
        frame: the captured frame, whose size is that of every cell.
        predictions: images to fit into the other cells.
        hint: a line of text below the cells; empty: none.

    Returns:
        (H, W, 3) uint8 RGB with even height and width.
    """
    height, width = (size + size % 2 for size in map(max, frame[0].shape[:2], MIN_CELL_SIZE))
    cells = [
        np.vstack([letterbox(image, (height, width)), render_caption(text, width, LINES)])
        for image, text in (frame, *predictions)
    ]
    columns = min(len(cells), 2 if len(cells) <= 4 else 3)
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    if hint:
        rows.append(render_caption(hint, width * columns, 1))
    return np.vstack(rows)


def letterbox(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image to fit into (height, width), keeping its aspect ratio, with black margins."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    scale = min(size[0] / height, size[1] / width)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = cv2.resize(image, inner[::-1], interpolation=method)
    return canvas


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
