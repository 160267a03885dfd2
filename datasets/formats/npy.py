"""NPY, numpy's own array file; never with pickled objects, which could run code."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ...writing import written_aside
from ..problems import DamagedData
from .reading import read_bytes


def read_npy(path: str | Path) -> np.ndarray:
    """The stored array.

    Raises:
        DamagedData: no file, a cut-off file, or one that holds pickled objects.
    """
    try:
        return np.load(io.BytesIO(read_bytes(path, "an NPY array")), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DamagedData(path, "an NPY array", " ".join(str(error).split()).rstrip(".") or "a cut-off file") from None


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """Write an array, aside then renamed."""
    with written_aside(path) as aside, aside.open("wb") as file:
        np.save(file, array, allow_pickle=False)
