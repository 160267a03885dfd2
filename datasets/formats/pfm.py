"""PFM, the portable float map: a text header (kind, WIDTH height, signed scale), then rows from the bottom up."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...writing import written_aside
from ..problems import DamagedData
from .reading import read_bytes

_HEADER = re.compile(rb"P([Ff])\s+(\d+)\s+(\d+)\s+([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s")


def read_pfm(path: str | Path) -> np.ndarray:
    """The stored floats, upright: (H, W) float32 of `Pf`, (H, W, 3) of `PF`.

    The scale's sign is the byte order (negative: little-endian); its size is by custom not applied.

    Raises:
        DamagedData: no file, no PFM header, or fewer bytes than the header announces.
    """
    data = read_bytes(path, "a PFM file")
    header = _HEADER.match(data)
    if header is None:
        raise DamagedData(path, "a PFM header ('Pf', width height, scale)", repr(data[:16])[1:])
    width, height, channels = int(header[2]), int(header[3]), 3 if header[1] == b"F" else 1
    needed = 4 * width * height * channels
    if len(data) - header.end() < needed:
        announced = f"{needed} bytes after the header of a {width}x{height} PFM"
        raise DamagedData(path, announced, f"{len(data) - header.end()}")
    order = "<f4" if float(header[4]) < 0 else ">f4"
    values = np.frombuffer(data, order, width * height * channels, header.end())
    values = values.reshape((height, width, channels)[: 3 if channels == 3 else 2])
    return np.ascontiguousarray(values[::-1], dtype=np.float32)


def write_pfm(path: str | Path, values: np.ndarray, little_endian: bool = True) -> None:
    """Write (H, W) or (H, W, 3) float32, aside then renamed."""
    if values.dtype != np.float32 or (values.ndim != 2 and values.shape[2:] != (3,)):
        raise ValueError(f"A PFM holds (H, W) or (H, W, 3) float32, not {values.shape} {values.dtype}.")
    kind, scale = ("PF" if values.ndim == 3 else "Pf"), ("-1.0" if little_endian else "1.0")
    header = f"{kind}\n{values.shape[1]} {values.shape[0]}\n{scale}\n".encode()
    with written_aside(path) as aside:
        aside.write_bytes(header + values[::-1].astype("<f4" if little_endian else ">f4").tobytes())
