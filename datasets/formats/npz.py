"""NPZ, numpy's arrays by name in a zip archive; never with pickled objects, which could run code."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...writing import written_aside
from ..problems import DamagedData
from .reading import read_bytes


def read_npz(path: str | Path, key: str) -> np.ndarray:
    """The array of one name.

    Raises:
        DamagedData: no file, a cut-off file, no array of this name, or one of pickled objects.
    """
    expected = f"an NPZ archive with the array '{key}'"
    data = read_bytes(path, expected)
    if not data.startswith(b"PK"):
        raise DamagedData(path, expected, "a file of another format")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            if key not in arrays.files:
                raise DamagedData(path, expected, f"only {', '.join(sorted(arrays.files)) or 'an empty one'}")
            return arrays[key]
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedData(path, expected, " ".join(str(error).split()).rstrip(".") or "a cut-off file") from None


def write_npz(path: str | Path, key: str, array: np.ndarray) -> None:
    """Write one array by its name, compressed, aside then renamed."""
    arrays: dict[str, Any] = {key: array}
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **arrays)
