"""Depth of a rectangle of an image, as MSRA15 stores it: six int32, then float32 millimeters row by row.

The integers are width and height of the image, then left, top, right and bottom of the rectangle; right and bottom are
the first column and row after it. Everything is little-endian.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...atomic_io import atomic_path
from ...limits import LimitExceeded, check_pixels
from ..core.files import read_bytes
from ..core.problems import DatasetError

EXPECTED = "a depth rectangle: six int32 and float32 millimeters"
HEADER_BYTES = 24


def read_depth_bin(path: str | Path) -> np.ndarray:
    """Read a rectangle in its image.

    Returns:
        (H, W) float32 millimeters, 0 outside the rectangle.

    Raises:
        DatasetError: the file is missing, truncated, or states a rectangle that is not in its image.
    """
    data = read_bytes(path, EXPECTED)
    if len(data) < HEADER_BYTES:
        raise DatasetError(path, EXPECTED, f"{len(data)} bytes")
    width, height, left, top, right, bottom = np.frombuffer(data, "<i4", 6).tolist()
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        rectangle = f"columns {left} to {right} and rows {top} to {bottom} of {width}x{height}"
        raise DatasetError(path, "a rectangle in the image", rectangle)
    try:
        check_pixels(width, height)
    except LimitExceeded as error:
        raise DatasetError(path, EXPECTED, str(error)) from None
    needed = HEADER_BYTES + 4 * (bottom - top) * (right - left)
    if len(data) != needed:
        raise DatasetError(path, f"{needed} bytes", f"{len(data)}")
    depth = np.zeros((height, width), np.float32)
    depth[top:bottom, left:right] = np.frombuffer(data, "<f4", offset=HEADER_BYTES).reshape(bottom - top, right - left)
    return depth


def write_depth_bin(path: str | Path, depth: np.ndarray) -> None:
    """Write the rectangle of an image (H, W) in which a depth is not 0, atomically; there must be one."""
    rows, columns = np.nonzero(depth)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    header = np.array([depth.shape[1], depth.shape[0], left, top, right, bottom], "<i4")
    with atomic_path(path) as temporary:
        temporary.write_bytes(header.tobytes() + depth[top:bottom, left:right].astype("<f4").tobytes())
