"""16-bit grey PNG, as depth sets store their numbers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ...writing import written_aside
from ..problems import DamagedData
from .picture import PNG_SIGNATURE, decode
from .reading import read_bytes


def read_png16(path: str | Path) -> np.ndarray:
    """The stored numbers, (H, W) uint16.

    Raises:
        DamagedData: no file, no whole PNG, or one that is not 16-bit grey. An 8-bit file is refused rather than
            widened: it is a preview or a copy that some tool has flattened, and its units are lost.
    """
    data = read_bytes(path, "a 16-bit grey PNG")
    if not data.startswith(PNG_SIGNATURE):
        raise DamagedData(path, "a 16-bit grey PNG", "a file of another format")
    # Without IMREAD_UNCHANGED OpenCV turns 16 bits into 8.
    stored = decode(data, path, cv2.IMREAD_UNCHANGED)
    if stored.dtype != np.uint16 or stored.ndim != 2:
        channels = 1 if stored.ndim == 2 else stored.shape[2]
        raise DamagedData(path, "a 16-bit grey PNG", f"{stored.dtype.itemsize * 8} bits, {channels} channel(s)")
    return stored


def write_png16(path: str | Path, stored: np.ndarray) -> None:
    """Write (H, W) uint16, aside then renamed."""
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise ValueError(f"A 16-bit grey PNG holds (H, W) uint16, not {stored.shape} {stored.dtype}.")
    with written_aside(path) as aside:
        cv2.imwrite(str(aside), stored)
