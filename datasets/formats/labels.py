"""Label maps: PNG files with one channel or a palette, whose values are classes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ..core.problems import DatasetError
from .image import PNG_SIGNATURE, find_truncation
from .reading import read_bytes

MODES = {"1": "1 bit per pixel", "I;16": "16 bits per pixel"}
"""Pillow mode of a PNG that is not a label map to its description; modes like RGB are described by their name."""


def read_labels(path: str | Path, classes: int, ignore: int) -> np.ndarray:
    """Read a label map from a PNG with one channel or a palette.

    Args:
        path: the file.
        classes: number of classes.
        ignore: value of unlabeled pixels.

    Returns:
        (H, W) uint8, every value a class or `ignore`.

    Raises:
        DatasetError: the file is missing, truncated, not a PNG with one channel, or has a value that is not a class.
    """
    # Not OpenCV, which returns the colors of a palette; the classes are its indices.
    from PIL import Image as Pillow

    values = f"whose values are classes 0 to {classes - 1} or {ignore}"
    expected = f"a label map, a PNG with one channel {values}"
    data = read_bytes(path, expected)
    if not data.startswith(PNG_SIGNATURE):
        raise DatasetError(path, expected, "a file of another format")
    if (truncation := find_truncation(data)) is not None:
        raise DatasetError(path, expected, truncation)
    try:
        with Pillow.open(io.BytesIO(data), formats=("PNG",)) as stored:
            mode, labels = stored.mode, np.array(stored)
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError):
        raise DatasetError(path, expected, f"{len(data)} bytes that do not decode as one") from None
    if mode not in ("L", "P"):
        raise DatasetError(path, expected, MODES.get(mode, f"an {mode} image"))
    valid = np.zeros(256, bool)
    valid[[*range(classes), ignore]] = True
    if not valid[labels].all():
        invalid = labels[~valid[labels]]
        raise DatasetError(path, expected, f"the value {invalid[0]} ({invalid.size} pixels without a valid class)")
    return labels
