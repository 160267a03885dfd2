"""IDX, the array format of MNIST: two zero bytes, type, number of axes, their lengths, the values; big-endian."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ...atomic_io import atomic_path
from ..core.files import read_bytes
from ..core.problems import DatasetError

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Type code (third byte of a file) to the dtype of the values."""

_GZIP = b"\x1f\x8b"


def read_idx(path: str | Path) -> np.ndarray:
    """Read an array in native byte order. The file may be compressed with gzip, whatever its name.

    Raises:
        DatasetError: the file is missing, has no IDX header, or not the number of values that the header states.
    """
    data = read_bytes(path, "an IDX file")
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            found = f"one that cannot be unpacked ({' '.join(str(error).split()).rstrip('.')})"
            raise DatasetError(path, "a complete gzip file", found) from None
    code, axes = (data[2], data[3]) if len(data) >= 4 and data[:2] == bytes(2) else (0, 0)
    start = 4 + 4 * axes
    if code not in IDX_TYPES or axes == 0 or len(data) < start:
        raise DatasetError(path, "an IDX header (0, 0, type, axes, lengths)", repr(data[:16])[1:])
    shape = struct.unpack_from(f">{axes}I", data, 4)
    stored = np.dtype(IDX_TYPES[code])
    needed = math.prod(shape) * stored.itemsize
    if len(data) - start != needed:
        size = "x".join(map(str, shape))
        raise DatasetError(path, f"{needed} bytes after the header of an IDX array {size}", f"{len(data) - start}")
    return np.frombuffer(data, stored, offset=start).reshape(shape).astype(stored.newbyteorder("="))


def write_idx(path: str | Path, array: np.ndarray) -> None:
    """Write an array atomically; compressed with gzip if the name ends in `.gz`.

    Raises:
        ValueError: the format has no such type.
    """
    codes = {np.dtype(stored).newbyteorder("="): code for code, stored in IDX_TYPES.items()}
    if array.dtype not in codes or not array.ndim:
        raise ValueError(f"IDX has no type for {array.shape} {array.dtype}.")
    code = codes[array.dtype]
    header = bytes((0, 0, code, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.astype(IDX_TYPES[code]).tobytes()
    with atomic_path(path) as temporary:
        # Without a time stamp, so that equal arrays give equal files.
        temporary.write_bytes(gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)
