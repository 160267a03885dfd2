"""Arrays in files: NPY and NPZ of numpy, and PFM, the portable float map.

NPY and NPZ with pickled objects, which could run code, are refused. A PFM is a text header (variant, width, height,
signed scale), then rows from the bottom up.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic_io import atomic_path
from ...limits import LimitExceeded, check_bytes, check_entries
from ..core.files import data_offset, read_bytes
from ..core.problems import DatasetError

_PFM_HEADER = re.compile(
    rb"P([Ff])\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][-+]?\d{1,3})?)\s"
)
_PFM_HEADER_BYTES = 1024
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError)
_SMALLEST_ZIP_ENTRY = 46


def read_npy(path: str | Path) -> np.ndarray:
    """Read an array.

    Raises:
        DatasetError: the file is missing, truncated, beyond `LIMITS`, or contains pickled objects.
    """
    return parse_npy(read_bytes(path, "an NPY array"), path)


def parse_npy(data: bytes, path: str | Path, expected: str = "an NPY array") -> np.ndarray:
    """The array of the bytes of an NPY file, as `read_npy`; it is writable.

    The header has to state the size of the data before memory is allocated.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(stream)
    except (Exception, MemoryError) as error:  # the header is a Python literal: a damaged one can raise anything
        raise DatasetError(path, expected, f"a header that cannot be read ({_reason(error)})") from None
    start, needed = stream.tell(), math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise DatasetError(path, expected, "pickled objects, which could run code")
    if min(shape, default=0) < 0 or len(data) - start != needed:
        size = "x".join(map(str, shape)) or "one value"
        raise DatasetError(path, f"{expected} with {needed} bytes for {size} {dtype}", f"{len(data) - start}")
    try:
        array = np.frombuffer(data, dtype, math.prod(shape), start) if needed else np.empty(math.prod(shape), dtype)
        return array.reshape(shape, order="F" if is_fortran else "C").copy()
    except (ValueError, OverflowError, MemoryError) as error:
        raise DatasetError(path, expected, _reason(error)) from None


def write_npy(path: str | Path, array: np.ndarray) -> None:
    """Write an array, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(npy_bytes(array))


def read_npz(path: str | Path, key: str) -> np.ndarray:
    """Read one array by its name.

    Raises:
        DatasetError: the file is missing, truncated, beyond `LIMITS`, has no such array, or the array contains pickled
            objects.
    """
    return parse_npz(read_bytes(path, f"an NPZ archive with the array '{key}'"), path, key)


def parse_npz(data: bytes, path: str | Path, key: str) -> np.ndarray:
    """One array of the bytes of an NPZ file, as `read_npz`."""
    expected = f"an NPZ archive with the array '{key}'"
    if not data.startswith(b"PK"):
        raise DatasetError(path, expected, "a file of another format")
    try:
        _check_directory(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if key not in names:
                raise DatasetError(path, expected, f"only {', '.join(sorted(names)) or 'an empty one'}")
            if names[key].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DatasetError(path, expected, "a compression that NumPy does not write")
            check_bytes(names[key].file_size)
            with archive.open(names[key]) as member:
                # The directory can state less than it unpacks to; the checksum differs then. `read()` would unpack all.
                stored = member.read(names[key].file_size)
    except (ValueError, EOFError, OSError, RuntimeError, OverflowError, struct.error, *_ZIP_ERRORS) as error:
        raise DatasetError(path, expected, _reason(error)) from None
    return parse_npy(stored, path, expected)


def _check_directory(data: bytes) -> None:
    """Check the size of the directory of a zip archive, of which zipfile reads every entry into memory.

    Raises:
        LimitExceeded: it has too many entries, or is of the 64-bit format of archives larger than `LIMITS` allow.
    """
    end = data.rfind(b"PK\5\6")
    if end < 0 or len(data) < end + 22 or data[max(0, end - 20) : end].startswith(b"PK\6\7"):
        raise LimitExceeded("no directory of an archive below 4 GB")
    check_entries(struct.unpack_from("<I", data, end + 12)[0] // _SMALLEST_ZIP_ENTRY)


def write_npz(path: str | Path, key: str, array: np.ndarray) -> None:
    """Write one named array, compressed, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(npz_bytes({key: array}))


def npz_bytes(arrays: dict[str, Any]) -> bytes:
    """The bytes of an NPZ file of named arrays, compressed."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    """The bytes of an NPY file."""
    packed = io.BytesIO()
    np.save(packed, array, allow_pickle=False)
    return packed.getvalue()


def read_pfm(path: str | Path) -> np.ndarray:
    """Read a PFM file: (H, W) float32 from `Pf`, (H, W, 3) from `PF`, the top row first.

    The sign of the scale is the byte order (negative: little-endian); its value is not applied, as is customary.

    Raises:
        DatasetError: the file is missing, has no PFM header, or fewer bytes than the header states.
    """
    data = read_bytes(path, "a PFM file")
    header = _PFM_HEADER.match(data[:_PFM_HEADER_BYTES])
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


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or "a truncated file"
