"""Pickles of numpy arrays in dicts and lists: batches of CIFAR, weights in `.npy` files.

A pickle can execute arbitrary code when it is loaded; these need numpy arrays of plain numbers only, so a restricted
unpickler refuses every other name.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from typing import Any

import numpy as np

MAX_NUMBER = 2**20
"""Largest number of a stored object in a pickle: the unpickler allocates a table up to it."""


class _Type:
    """Stands in for `numpy.dtype`, whose state could be impossible."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name.decode() if isinstance(name, bytes) else str(name)
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1].decode() if isinstance(state[1], bytes) else str(state[1])


class StoredArray:
    """Stands in for `numpy.ndarray`, which would allocate memory for any shape.

    Attributes:
        array: its numbers; none for an array of objects.
        objects: the objects of such an array, in which `.npy` files keep a dict.
    """

    array = np.empty(0)
    objects: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, stored, is_fortran, data = state
        if isinstance(data, list):
            self.objects = tuple(data)
            return
        data = data.encode("latin-1") if isinstance(data, str) else data
        name = f"{stored.order}{stored.name}" if isinstance(stored, _Type) else ""
        if not (re.fullmatch("[<>=|][biuf][1248]", name) and isinstance(data, bytes)):
            raise pickle.UnpicklingError("an array of other values than numbers")
        values = np.frombuffer(data, np.dtype(name))
        self.array = values.reshape(shape, order="F" if is_fortran else "C")


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"a call of '_codecs.encode' with '{encoding}'")
    return text.encode(encoding)


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: StoredArray(),  # numpy 1, and Python 2: the official files
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: StoredArray(),
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,  # how Python 3 writes bytes for Python 2
}
"""(module, name) that a pickle may use, to what stands in for it: nothing that allocates more than the pickle has."""


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"a call of '{module}.{name}'")
        return ALLOWED[module, name]


def load_pickled_arrays(data: bytes) -> Any:
    """Load a pickle of Python 2 or 3 that contains dicts, lists, numbers, bytes, text and arrays (`StoredArray`).

    Raises:
        ValueError: it is truncated, or uses a name that is not in `ALLOWED`.
    """
    try:
        for operation, number, _ in pickletools.genops(data):
            if operation.name.endswith("PUT") and int(number) > MAX_NUMBER:  # type: ignore[call-overload]
                raise pickle.UnpicklingError(f"an object number {number}")
        return _Restricted(io.BytesIO(data), encoding="bytes").load()
    except (Exception, MemoryError) as error:  # a damaged pickle can raise any exception
        raise ValueError(" ".join(str(error).split()).rstrip(".") or "a truncated file") from None
