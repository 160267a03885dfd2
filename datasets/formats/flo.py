"""FLO, the flow format of Middlebury: `PIEH`, int32 width and height, then float32 u, v row by row; little-endian."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ...atomic_io import atomic_path
from ..core.problems import DatasetError
from .reading import read_bytes

MAGIC = struct.pack("<f", 202021.25)
"""The bytes `PIEH`; a file of the other byte order begins with another number."""

MAX_KNOWN, UNKNOWN = 1e9, 1e10
"""u or v beyond the first value means unknown; writers store the second one."""

MAX_SIZE = 99_999
"""Maximum width and height, from the reference reader (Baker et al., flowIO.cpp)."""

_HEADER = 12


def read_flo(path: str | Path) -> np.ndarray:
    """Read a `.flo` file.

    Returns:
        (H, W, 2) float32 pixels, x then y; nan where u or v is unknown.

    Raises:
        DatasetError: the file is missing, of another format, has an impossible width or height, or another length than
            they require.
    """
    data = read_bytes(path, "a .flo file")
    if len(data) < _HEADER or not data.startswith(MAGIC):
        raise DatasetError(path, "a .flo header ('PIEH', width, height)", repr(data[:_HEADER])[1:])
    width, height = struct.unpack_from("<2i", data, len(MAGIC))
    if not (1 <= width <= MAX_SIZE and 1 <= height <= MAX_SIZE):
        raise DatasetError(path, f"a width and a height from 1 to {MAX_SIZE}", f"{width}x{height}")
    needed = 8 * width * height
    if len(data) - _HEADER != needed:
        expected = f"{needed} bytes after the header of a {width}x{height} .flo"
        raise DatasetError(path, expected, f"{len(data) - _HEADER}")
    flow = np.frombuffer(data, "<f4", offset=_HEADER).reshape(height, width, 2).astype(np.float32)
    # With the negated comparison, a stored nan is unknown as well.
    flow[~(np.abs(flow) <= MAX_KNOWN).all(axis=-1)] = np.nan
    return flow


def write_flo(path: str | Path, flow: np.ndarray) -> None:
    """Write (H, W, 2) float32 pixels atomically; where u or v is nan, both become `UNKNOWN`.

    Raises:
        ValueError: another shape or type, or flow beyond `MAX_KNOWN`, which would be read as unknown.
    """
    if flow.dtype != np.float32 or flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"A .flo file contains (H, W, 2) float32, not {flow.shape} {flow.dtype}.")
    if (np.abs(flow) > MAX_KNOWN).any():
        raise ValueError(f"A .flo file contains flow up to {MAX_KNOWN:g} pixels; more would be read as unknown.")
    stored = np.where(np.isnan(flow).any(axis=-1, keepdims=True), UNKNOWN, flow).astype("<f4")
    with atomic_path(path) as temporary:
        temporary.write_bytes(MAGIC + struct.pack("<2i", flow.shape[1], flow.shape[0]) + stored.tobytes())
