"""FLO, Middlebury's flow: `PIEH`, int32 WIDTH, int32 height, then float32 u, v row by row; little-endian."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ...writing import written_aside
from ..problems import DamagedData
from .reading import read_bytes

MAGIC = struct.pack("<f", 202021.25)
"""The four letters `PIEH`; on a machine of the other byte order the number would come out as another one."""

LARGEST_KNOWN, UNKNOWN = 1e9, 1e10
"""Beyond the first, u or v means that nothing is known; the second is what writers put there."""

LARGEST_SIDE = 99_999
"""Of the format's own reader (Baker et al., flowIO.cpp)."""

_HEADER = 12


def read_flo(path: str | Path) -> np.ndarray:
    """The stored flow.

    Returns:
        (H, W, 2) float32 pixels, x then y; nan where u or v is unknown.

    Raises:
        DamagedData: no file, another format, a width or height that no picture has, or not as many bytes as they need.
    """
    data = read_bytes(path, "a .flo file")
    if len(data) < _HEADER or not data.startswith(MAGIC):
        raise DamagedData(path, "a .flo header ('PIEH', width, height)", repr(data[:_HEADER])[1:])
    width, height = struct.unpack_from("<2i", data, len(MAGIC))
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise DamagedData(path, f"a width and a height from 1 to {LARGEST_SIDE}", f"{width}x{height}")
    needed = 8 * width * height
    if len(data) - _HEADER != needed:
        announced = f"{needed} bytes after the header of a {width}x{height} .flo"
        raise DamagedData(path, announced, f"{len(data) - _HEADER}")
    flow = np.frombuffer(data, "<f4", offset=_HEADER).reshape(height, width, 2).astype(np.float32)
    # Asked this way round, a stored nan is unknown as well.
    flow[~(np.abs(flow) <= LARGEST_KNOWN).all(axis=-1)] = np.nan
    return flow


def write_flo(path: str | Path, flow: np.ndarray) -> None:
    """Write (H, W, 2) float32 pixels, aside then renamed; where u or v is nan, both become `UNKNOWN`."""
    if flow.dtype != np.float32 or flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(f"A .flo holds (H, W, 2) float32, not {flow.shape} {flow.dtype}.")
    if (np.abs(flow) > LARGEST_KNOWN).any():
        raise ValueError(f"A .flo holds motions up to {LARGEST_KNOWN:g} pixels; larger ones would read as unknown.")
    stored = np.where(np.isnan(flow).any(axis=-1, keepdims=True), UNKNOWN, flow).astype("<f4")
    with written_aside(path) as aside:
        aside.write_bytes(MAGIC + struct.pack("<2i", flow.shape[1], flow.shape[0]) + stored.tobytes())
