"""IDX, the array file of MNIST: two zero bytes, a type, the number of axes, their lengths, the values; big-endian."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ...writing import written_aside
from ..problems import DamagedData
from .reading import read_bytes

IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""The third byte of a file to the type of its values."""

_GZIP = b"\x1f\x8b"


def read_idx(path: str | Path) -> np.ndarray:
    """The stored array, in this machine's byte order. The file may be packed with gzip, whatever its name.

    Raises:
        DamagedData: no file, no IDX header, or not as many values as the header announces.
    """
    data = read_bytes(path, "an IDX file")
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            found = f"one that does not unpack ({' '.join(str(error).split()).rstrip('.')})"
            raise DamagedData(path, "a whole gzip file", found) from None
    kind, axes = (data[2], data[3]) if len(data) >= 4 and data[:2] == bytes(2) else (0, 0)
    start = 4 + 4 * axes
    if kind not in IDX_TYPES or axes == 0 or len(data) < start:
        raise DamagedData(path, "an IDX header (0, 0, type, axes, lengths)", repr(data[:16])[1:])
    shape = struct.unpack_from(f">{axes}I", data, 4)
    stored = np.dtype(IDX_TYPES[kind])
    needed = math.prod(shape) * stored.itemsize
    if len(data) - start != needed:
        size = "x".join(map(str, shape))
        raise DamagedData(path, f"{needed} bytes after the header of an IDX array {size}", f"{len(data) - start}")
    return np.frombuffer(data, stored, offset=start).reshape(shape).astype(stored.newbyteorder("="))


def write_idx(path: str | Path, array: np.ndarray) -> None:
    """Write an array, aside then renamed; packed with gzip where the name ends in `.gz`."""
    kinds = {np.dtype(stored).newbyteorder("="): kind for kind, stored in IDX_TYPES.items()}
    if array.dtype not in kinds or not array.ndim:
        raise ValueError(f"IDX has no type for {array.shape} {array.dtype}.")
    kind = kinds[array.dtype]
    header = bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.astype(IDX_TYPES[kind]).tobytes()
    with written_aside(path) as aside:
        # Without a time stamp, so that equal arrays make equal files.
        aside.write_bytes(gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)
