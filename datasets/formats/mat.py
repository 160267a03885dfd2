"""MATLAB files: up to v7 (with scipy) and v7.3, which is HDF5 (with h5py).

MATLAB stores arrays column by column, HDF5 row by row: h5py therefore returns every array of a v7.3 file with reversed
axes, (H, W, 3, N) as (N, 3, W, H), so that an image looks plausible but is transposed. All functions here accept and
return the axis order of MATLAB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...atomic_io import atomic_path
from ..core.problems import DatasetError

_USER_BLOCK = 512
"""Bytes before the HDF5 part of a v7.3 file; they begin with the signature of MATLAB."""


def read_mat(path: str | Path) -> dict[str, np.ndarray]:
    """Read all variables of a file up to v7, with at least two axes as in MATLAB.

    Raises:
        DatasetError: the file is missing, truncated, or not a MATLAB file up to v7 (for v7.3, use `Mat73`).
    """
    import zlib

    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        variables = loadmat(str(path), appendmat=False)
    except FileNotFoundError:
        raise DatasetError(path, "a MATLAB file", "no file") from None
    except NotImplementedError:
        raise DatasetError(path, "a MATLAB file up to v7", "one of v7.3 (HDF5)") from None
    except (MatReadError, ValueError, TypeError, OSError, EOFError, KeyError, zlib.error) as error:
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
        return self._variable(name).shape[::-1]

    def read(self, name: str, index: int | tuple[()] = ()) -> np.ndarray:
        """Read a variable, in the axis order of MATLAB; with an index `name(:, ..., :, index + 1)`, one entry of it."""
        variable = self._variable(name)
        try:
            return np.ascontiguousarray(np.asarray(variable[index]).T)
        except (OSError, ValueError) as error:
            raise DatasetError(self.path, f"the variable '{name}'", f"one that cannot be read ({error})") from None

    def strings(self, name: str) -> list[str]:
        """Read a cell array of strings: references to arrays of UTF-16 code units."""
        file, cells = self._open(), self._variable(name)
        try:
            return [np.asarray(file[cell]).astype("<u2").tobytes().decode("utf-16-le") for cell in cells[()].flat]
        except (OSError, ValueError, KeyError) as error:
            raise DatasetError(self.path, f"a cell array of strings '{name}'", str(error)) from None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _variable(self, name: str) -> Any:
        file = self._open()
        if name not in file:
            variables = ", ".join(sorted(key for key in file if not key.startswith("#")))
            raise DatasetError(self.path, f"a variable '{name}'", f"only {variables or 'nothing'}")
        return file[name]

    def _open(self) -> Any:
        import os

        import h5py

        if self._process != os.getpid():
            # A forked worker drops the inherited handle: HDF5 would continue to use it for the same file.
            self.close()
        if self._file is None:
            try:
                self._file, self._process = h5py.File(self.path, "r"), os.getpid()
            except FileNotFoundError:
                raise DatasetError(self.path, "a MATLAB v7.3 file", "no file") from None
            except OSError as error:
                found = f"one that cannot be opened ({' '.join(str(error).split())})"
                raise DatasetError(self.path, "a complete MATLAB v7.3 file", found) from None
        return self._file


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
