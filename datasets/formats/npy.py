"""NPY, the array format of numpy; files with pickled objects, which could run code, are refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ...atomic_io import atomic_path
from ..core.problems import DatasetError
from .reading import read_bytes


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
