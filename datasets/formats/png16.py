"""16-bit gray PNG, the format of many depth datasets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..core.problems import DatasetError
from .image import PNG_SIGNATURE, decode, write_encoded
from .reading import read_bytes


def read_png16(path: str | Path) -> np.ndarray:
    """Read the stored values, (H, W) uint16.

    Raises:
        DatasetError: the file is missing, truncated, or not 16-bit gray. 8-bit files are refused, not converted: they
            are previews or copies that a tool has reduced, and their units are lost.
    """
    data = read_bytes(path, "a 16-bit gray PNG")
    if not data.startswith(PNG_SIGNATURE):
        raise DatasetError(path, "a 16-bit gray PNG", "a file of another format")
    # Without IMREAD_UNCHANGED, OpenCV reduces 16 bits to 8.
    stored = decode(data, path, cv2.IMREAD_UNCHANGED)
    if stored.dtype != np.uint16 or stored.ndim != 2:
        channels = 1 if stored.ndim == 2 else stored.shape[2]
        raise DatasetError(path, "a 16-bit gray PNG", f"{stored.dtype.itemsize * 8} bits, {channels} channel(s)")
    return stored


def write_png16(path: str | Path, stored: np.ndarray) -> None:
    """Write (H, W) uint16, atomically."""
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise ValueError(f"A 16-bit gray PNG contains (H, W) uint16, not {stored.shape} {stored.dtype}.")
    write_encoded(path, stored)
