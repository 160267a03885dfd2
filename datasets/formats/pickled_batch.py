"""The pickled dictionaries of CIFAR, read without running what they might hold.

A pickle is a program: loading one from a stranger can start anything. These need nothing but numpy arrays of plain
numbers, so every other name is refused.
"""

from __future__ import annotations

import codecs
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ...writing import written_aside
from ..problems import DamagedData

_RECONSTRUCT = np.empty(0).__reduce__()[0]

ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # numpy 1, and Python 2, which wrote the official files
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes for Python 2
}
"""Every name that a pickle may call."""


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"a call of '{module}.{name}'")
        return ALLOWED[module, name]


def load_pickled_batch(data: bytes, path: str | Path) -> dict[str, Any]:
    """A dictionary of numbers, lists, bytes and arrays.

    Args:
        data: the pickle, of Python 2 or 3.
        path: the file it comes from, for the sentence.

    Returns:
        The dictionary with its names as text; strings of Python 2 inside stay bytes.

    Raises:
        DamagedData: a cut-off pickle, one that calls anything but `ALLOWED`, or one that is no dictionary.
    """
    expected = "a pickled dictionary of arrays and nothing that runs"
    try:
        batch = _Restricted(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a broken pickle fails in whatever it happens to build
        raise DamagedData(path, expected, " ".join(str(error).split()).rstrip(".") or "a cut-off file") from None
    if not isinstance(batch, dict):
        raise DamagedData(path, expected, f"a {type(batch).__name__}")
    return {name.decode("latin-1") if isinstance(name, bytes) else str(name): value for name, value in batch.items()}


def write_pickled_batch(path: str | Path, batch: dict[str, Any]) -> None:
    """Write a dictionary as the official files hold it (protocol 2, names as bytes), aside then renamed."""
    with written_aside(path) as aside:
        aside.write_bytes(pickle.dumps({name.encode(): value for name, value in batch.items()}, protocol=2))
