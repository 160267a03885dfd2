"""NPY and NPZ, numpy arrays in files; files with pickled objects, which could run code, are refused."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic_io import atomic_path
from ..core.files import read_bytes
from ..core.problems import DatasetError


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
