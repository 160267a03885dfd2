"""MATLAB files: up to v7 (with scipy) and v7.3, which is HDF5 (with h5py).

MATLAB stores arrays column by column, HDF5 row by row: h5py therefore returns every array of a v7.3 file with reversed
axes, (H, W, 3, N) as (N, 3, W, H), so that an image looks plausible but is transposed. All functions here accept and
return the axis order of MATLAB.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic_io import atomic_path
from ...limits import LimitExceeded, check_bytes, check_entries, open_file
from ..core.files import read_bytes
from ..core.problems import DatasetError
from .mat5 import unpack_variables

_USER_BLOCK = 512
"""Bytes before the HDF5 part of a v7.3 file; they begin with the signature of MATLAB."""


def read_mat(path: str | Path) -> dict[str, np.ndarray]:
    """Read all variables of a file up to v7, with at least two axes as in MATLAB.

    Raises:
        DatasetError: the file is missing, truncated, beyond `LIMITS`, or not a MATLAB file up to v7 (for v7.3, use
            `Mat73`).
    """
    from scipy.io import loadmat

    data = read_bytes(path, "a MATLAB file")
    try:
        variables = loadmat(io.BytesIO(unpack_variables(data)), appendmat=False)
    except NotImplementedError:
        raise DatasetError(path, "a MATLAB file up to v7", "one of v7.3 (HDF5)") from None
    except Exception as error:  # scipy raises nearly any exception for a damaged file
        found = " ".join(str(error).split()).rstrip(".")
        raise DatasetError(path, "a complete MATLAB file", f"one that cannot be read ({found})") from None
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def write_mat(path: str | Path, variables: dict[str, np.ndarray]) -> None:
    """Write a compressed v7 file, atomically."""
    from scipy.io import savemat

    with atomic_path(path) as temporary:
        savemat(temporary, variables, do_compression=True, appendmat=False)


class Mat73:
    """A v7.3 file, from which single entries are read.

    The file is opened at the first use in each process and is not pickled, because an HDF5 handle must not be shared
    between processes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: Any = None
        self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_file": None, "_process": 0}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a variable, as `size` of MATLAB returns it."""
        return (self._variable(name).shape or ())[::-1]

    def kind(self, name: str) -> str:
        """Kind of the values of a variable, as `numpy.dtype.kind`: "f" of numbers, "u" of images."""
        return self._variable(name).dtype.kind

    def read(self, name: str, index: int | tuple[()] = ()) -> np.ndarray:
        """Read a variable, in the axis order of MATLAB; with an index `name(:, ..., :, index + 1)`, one entry of it."""
        variable = self._variable(name)
        with self._errors(f"the variable '{name}'"):
            _check_variable(variable, index)
            return np.ascontiguousarray(np.asarray(variable[index]).T)

    def strings(self, name: str) -> list[str]:
        """Read a cell array of strings: references to arrays of UTF-16 code units."""
        file, cells = self._open(), self._variable(name)
        with self._errors(f"a cell array of strings '{name}'"):
            _check_variable(cells, ())
            texts = [file[cell] for cell in cells[()].flat]
            for text in texts:
                _check_variable(text, ())
            check_bytes(sum(text.size * text.dtype.itemsize for text in texts))
            return [np.asarray(text).astype("<u2").tobytes().decode("utf-16-le") for text in texts]

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _variable(self, name: str) -> Any:
        """An array in the file itself. Links are not followed: they may lead to other files, or in a circle."""
        import h5py

        file = self._open()
        with self._errors(f"a variable '{name}'"):
            link = file.get(name, getlink=True)
            if link is not None and not isinstance(link, h5py.HardLink):
                raise LimitExceeded("a link")
            if isinstance(variable := file[name] if link is not None else None, h5py.Dataset):
                return variable
            variables = ", ".join(sorted(key for key in file if not key.startswith("#")))
        raise DatasetError(self.path, f"a variable '{name}'", f"only {variables or 'nothing'}")

    @contextmanager
    def _errors(self, expected: str) -> Iterator[None]:
        """Raise a `DatasetError` for what h5py raises on a damaged file, which is nearly any exception."""
        try:
            yield
        except Exception as error:
            found = str(error) if isinstance(error, LimitExceeded) else " ".join(str(error).split()).rstrip(".")
            raise DatasetError(self.path, expected, f"one that cannot be read ({found})") from None

    def _open(self) -> Any:
        import os

        import h5py

        if self._process != os.getpid():
            # A forked worker drops the inherited handle: HDF5 would continue to use it for the same file.
            self.close()
        if self._file is None:
            try:
                # HDF5 itself would wait for the writer of a pipe.
                open_file(self.path).close()
                self._file, self._process = h5py.File(self.path, "r"), os.getpid()
            except FileNotFoundError:
                raise DatasetError(self.path, "a MATLAB v7.3 file", "no file") from None
            except OSError as error:
                found = f"one that cannot be opened ({' '.join(str(error).split())})"
                raise DatasetError(self.path, "a complete MATLAB v7.3 file", found) from None
        return self._file


FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
"""Filters of HDF5 that MATLAB uses, by their numbers; others would be loaded as plugins."""
MAX_PACKED_CHUNK = 3 * 2**19
"""Bytes of a compressed chunk that may unpack to anything: 1,032 times as much at most, 1.6 GB."""


def _check_variable(variable: Any, index: int | tuple[()]) -> None:
    """Check an array of a v7.3 file before it is read as a whole, or one entry of it.

    Raises:
        LimitExceeded: it is beyond `LIMITS`, has entries of any length, or is stored in other files.
    """
    import h5py

    kind, properties = variable.dtype, variable.id.get_create_plist()
    if (kind.hasobject and kind != h5py.ref_dtype) or variable.shape is None:
        raise LimitExceeded("values that are no numbers")
    if variable.external or variable.is_virtual:
        raise LimitExceeded("values in other files")
    numbers = {properties.get_filter(each)[0] for each in range(properties.get_nfilters())}
    if not numbers <= FILTERS.keys():
        raise LimitExceeded(f"a compression that MATLAB does not write (filter {max(numbers)})")
    entry = variable.shape if index == () else variable.shape[1:]
    # h5py makes an object of every reference.
    check_bytes(math.prod(entry) * (kind.itemsize if kind != h5py.ref_dtype else 200))
    if kind == h5py.ref_dtype:
        check_entries(variable.size)
    if variable.chunks is None:
        return
    size = math.prod(variable.chunks) * kind.itemsize
    check_bytes(size)
    axes = [range(0, length, chunk) for length, chunk in zip(variable.shape, variable.chunks, strict=True)]
    if isinstance(index, int):
        axes[0] = range(index // variable.chunks[0] * variable.chunks[0], index + 1, variable.chunks[0])
    check_entries(math.prod(map(len, axes)))
    # The filter unpacks a chunk to its end, whatever the size of the chunk.
    for offset in product(*axes) if 1 in numbers else ():
        if variable.id.get_chunk_info_by_coord(offset).size > MAX_PACKED_CHUNK:
            stream = zlib.decompressobj()
            stream.decompress(variable.id.read_direct_chunk(offset)[1], size + 8)
            if stream.unconsumed_tail:
                raise LimitExceeded("a chunk that unpacks to more than its size")


def write_mat73(path: str | Path, variables: dict[str, np.ndarray | list[str]]) -> None:
    """Write arrays in the axis order of MATLAB, and lists of strings as cell arrays, to a v7.3 file, atomically."""
    import h5py

    with atomic_path(path) as temporary:
        with h5py.File(temporary, "w", userblock_size=_USER_BLOCK) as file:
            for name, value in variables.items():
                if isinstance(value, list):
                    cells = file.create_dataset(name, (1, len(value)), dtype=h5py.ref_dtype)
                    for number, text in enumerate(value):
                        units = np.frombuffer(text.encode("utf-16-le"), "<u2")[:, None]
                        cells[0, number] = file.create_dataset(f"#refs#/{name}{number}", data=units).ref
                    cells.attrs["MATLAB_class"] = np.bytes_("cell")
                else:
                    stored = np.ascontiguousarray(value.T)
                    chunks = (1, *stored.shape[1:]) if stored.ndim > 2 else True
                    written = file.create_dataset(name, data=stored, chunks=chunks, compression="gzip", shuffle=True)
                    written.attrs["MATLAB_class"] = np.bytes_(
                        {"float32": "single", "float64": "double"}.get(value.dtype.name, value.dtype.name)
                    )
        with temporary.open("r+b") as file:
            # Text to byte 116, eight bytes of subsystem offset, version 0x0200, and the byte order mark.
            file.write(b"MATLAB 7.3 MAT-file, written by densevision".ljust(116) + bytes(8) + b"\x00\x02IM")
