"""Arrays in files: NPY and NPZ of numpy, and PFM, the portable float map.

NPY and NPZ with pickled objects, which could run code, are refused. A PFM is a text header (variant, width, height,
signed scale), then rows from the bottom up.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic_io import atomic_path
from ..core.files import data_offset, read_bytes
from ..core.problems import DatasetError

_PFM_HEADER = re.compile(rb"P([Ff])\s+(\d+)\s+(\d+)\s+([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s")


def read_npy(path: str | Path) -> np.ndarray:
    """Read an array.

    Raises:
        DatasetError: the file is missing, truncated, or contains pickled objects.
    """
    try:
        return np.load(io.BytesIO(read_bytes(path, "an NPY array")), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        found = " ".join(str(error).split()).rstrip(".") or "a truncated file"
        raise DatasetError(path, "an NPY array", found) from None


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """Write an array, atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def read_npz(path: str | Path, key: str) -> np.ndarray:
    """Read one array by its name.

    Raises:
        DatasetError: the file is missing, truncated, has no such array, or the array contains pickled objects.
    """
    expected = f"an NPZ archive with the array '{key}'"
    data = read_bytes(path, expected)
    if not data.startswith(b"PK"):
        raise DatasetError(path, expected, "a file of another format")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            if key not in arrays.files:
                raise DatasetError(path, expected, f"only {', '.join(sorted(arrays.files)) or 'an empty one'}")
            return arrays[key]
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(path, expected, " ".join(str(error).split()).rstrip(".") or "a truncated file") from None


def write_npz(path: str | Path, key: str, array: np.ndarray) -> None:
    """Write one named array, compressed, atomically."""
    arrays: dict[str, Any] = {key: array}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_pfm(path: str | Path) -> np.ndarray:
    """Read a PFM file: (H, W) float32 from `Pf`, (H, W, 3) from `PF`, the top row first.

    The sign of the scale is the byte order (negative: little-endian); its value is not applied, as is customary.

    Raises:
        DatasetError: the file is missing, has no PFM header, or fewer bytes than the header states.
    """
    data = read_bytes(path, "a PFM file")
    header = _PFM_HEADER.match(data)
    if header is None:
        raise DatasetError(path, "a PFM header ('Pf', width height, scale)", repr(data[:16])[1:])
    width, height, channels = int(header[2]), int(header[3]), 3 if header[1] == b"F" else 1
    needed = 4 * width * height * channels
    start = data_offset(data, header.end(), needed)
    if len(data) - start < needed:
        expected = f"{needed} bytes after the header of a {width}x{height} PFM"
        raise DatasetError(path, expected, f"{len(data) - start}")
    order = "<f4" if float(header[4]) < 0 else ">f4"
    values = np.frombuffer(data, order, width * height * channels, start)
    values = values.reshape((height, width, channels)[: 3 if channels == 3 else 2])
    return np.ascontiguousarray(values[::-1], dtype=np.float32)


def write_pfm(path: str | Path, values: np.ndarray, little_endian: bool = True) -> None:
    """Write (H, W) or (H, W, 3) float32, atomically."""
    if values.dtype != np.float32 or (values.ndim != 2 and values.shape[2:] != (3,)):
        raise ValueError(f"A PFM file contains (H, W) or (H, W, 3) float32, not {values.shape} {values.dtype}.")
    variant, scale = ("PF" if values.ndim == 3 else "Pf"), ("-1.0" if little_endian else "1.0")
    header = f"{variant}\n{values.shape[1]} {values.shape[0]}\n{scale}\n".encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(header + values[::-1].astype("<f4" if little_endian else ">f4").tobytes())
