"""Pickled dictionaries of CIFAR, read with a restricted unpickler.

A pickle can execute arbitrary code when it is loaded. These files need numpy arrays of plain numbers only, so every
other name is refused.
"""

from __future__ import annotations

import codecs
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic_io import atomic_path
from ..core.problems import DatasetError

_RECONSTRUCT = np.empty(0).__reduce__()[0]

ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # numpy 1, and Python 2, which wrote the official files
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes for Python 2
}
"""(module, name) of the callables that a pickle may use."""


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"a call of '{module}.{name}'")
        return ALLOWED[module, name]


def load_pickled_batch(data: bytes, path: str | Path) -> dict[str, Any]:
    """Load a pickled dictionary of numbers, lists, bytes and arrays.

    Args:
        data: the pickle, of Python 2 or 3.
        path: its file, for the error message.

    Returns:
        The dictionary with str keys; other strings of Python 2 remain bytes.

    Raises:
        DatasetError: the pickle is truncated, uses a callable that is not in `ALLOWED`, or is not a dictionary.
    """
    expected = "a pickled dictionary of arrays, without calls of other code"
    try:
        batch = _Restricted(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise any exception
        raise DatasetError(path, expected, " ".join(str(error).split()).rstrip(".") or "a truncated file") from None
    if not isinstance(batch, dict):
        raise DatasetError(path, expected, f"a {type(batch).__name__}")
    return {name.decode("latin-1") if isinstance(name, bytes) else str(name): value for name, value in batch.items()}


def write_pickled_batch(path: str | Path, batch: dict[str, Any]) -> None:
    """Write a dictionary in the format of the official files (protocol 2, keys as bytes), atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps({name.encode(): value for name, value in batch.items()}, protocol=2))
