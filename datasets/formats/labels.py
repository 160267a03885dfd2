"""Label maps: PNGs of one channel or of a palette, whose values are classes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ..problems import DamagedData
from .picture import PNG_SIGNATURE, what_is_cut_off
from .reading import read_bytes

FOUND = {"1": "1 bit a pixel", "I;16": "16 bits a pixel"}
"""What a PNG is that is no label map, by Pillow's name of its mode; RGB and its like speak for themselves."""


def read_labels(path: str | Path, classes: int, ignore: int) -> np.ndarray:
    """A label map from a PNG of one channel or of a palette.

    Args:
        path: the file.
        classes: how many there are.
        ignore: the value of a pixel of which nothing is said.

    Returns:
        (H, W) uint8, every value a class or `ignore`.

    Raises:
        DamagedData: no file, no whole PNG of one channel, or a value that is no class.
    """
    # Not OpenCV: it gives a palette's colours, whose indices are the classes.
    from PIL import Image as Pillow

    values = f"whose values are classes 0 to {classes - 1} or {ignore}"
    expected = f"a label map, a PNG of one channel {values}"
    data = read_bytes(path, expected)
    if not data.startswith(PNG_SIGNATURE):
        raise DamagedData(path, expected, "a file of another format")
    if (lacking := what_is_cut_off(data)) is not None:
        raise DamagedData(path, expected, lacking)
    try:
        with Pillow.open(io.BytesIO(data)) as stored:
            mode, labels = stored.mode, np.array(stored)
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError):
        raise DamagedData(path, expected, f"{len(data)} bytes that do not decode as one") from None
    if mode not in ("L", "P"):
        raise DamagedData(path, expected, FOUND.get(mode, f"an {mode} picture"))
    known = np.zeros(256, bool)
    known[[*range(classes), ignore]] = True
    if not known[labels].all():
        odd = labels[~known[labels]]
        raise DamagedData(path, expected, f"the value {odd[0]} ({odd.size} pixels are no class)")
    return labels
