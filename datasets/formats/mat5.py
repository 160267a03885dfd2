"""Structure of MATLAB files up to v7, checked before scipy reads them.

scipy follows what a file states: cells in cells until the stack is exhausted, a billion cells in a file of 100 bytes,
compressed variables of any size. Here, every variable is unpacked within `LIMITS`, and every array in it has to fill
its place exactly; what MATLAB writes does. The format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import math
import struct
import zlib

from ...limits import check_bytes, check_entries

HEADER = 128
MATRIX, COMPRESSED = 14, 15
CELL, STRUCTURE, TEXT, NUMBERS = 1, 2, 4, range(6, 16)
COMPLEX = 0x800
MAX_DEPTH = 32
"""Arrays in each other; MPII has eleven."""
TEXT_BYTES = 12
"""Bytes that Python and NumPy need for a byte of text."""


def unpack_variables(data: bytes) -> bytearray:
    """Unpack the compressed variables of a file, and check the arrays of all.

    Returns:
        The same file without compression.

    Raises:
        ValueError: the file is damaged, contains objects, functions or sparse arrays, or is beyond `LIMITS`.
        NotImplementedError: it is of v7.3.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER])
    version = data[124:126][:: 1 if order == ">" else -1]
    if order and version == b"\2\0":
        raise NotImplementedError("v7.3")
    if order is None or version != b"\1\0":
        raise ValueError("no header of MATLAB 5 to 7")
    unpacked, position, count = bytearray(data[:HEADER]), HEADER, 0
    while position < len(data):
        kind, size = _pair(data, position, order)
        position += 8
        if position + size > len(data):
            raise ValueError("truncated")
        start = len(unpacked)
        if kind == COMPRESSED:
            unpacked += _inflate(data[position : position + size], len(unpacked))
        else:
            unpacked += data[position - 8 : position + size]
        check_bytes(len(unpacked))
        count = _check_arrays(unpacked, start, order, count)
        position += size
    return unpacked


def _inflate(data: bytes, before: int) -> bytes:
    """Unpack a variable; `before` bytes are unpacked already."""
    stream, parts = zlib.decompressobj(), []
    while data:
        parts.append(stream.decompress(data, 2**20))
        before += len(parts[-1])
        check_bytes(before)
        data = stream.unconsumed_tail
    if not stream.eof:
        raise ValueError("truncated")
    return b"".join(parts)


def _check_arrays(data: bytearray, position: int, order: str, count: int) -> int:
    """Check a variable at a position, to the end of the data, and all arrays in it; `count` and those are returned."""
    text_bytes = 0
    open_arrays = [[1, len(data)]]
    while open_arrays:
        remaining, end = open_arrays[-1]
        if remaining == 0:
            if position != end:
                raise ValueError(f"an array that ends at byte {position} instead of {end}")
            open_arrays.pop()
            continue
        open_arrays[-1][0] -= 1
        kind, size = _pair(data, position, order)
        position += 8
        stop = position + size
        if kind != MATRIX or stop > end:
            raise ValueError(f"no array at byte {position - 8}")
        count += 1
        check_entries(count)
        if size == 0:
            continue
        six, eight = _pair(data, position, order)
        flags, _ = _pair(data, position + 8, order)
        if (six, eight) != (6, 8):
            raise ValueError(f"no array at byte {position - 8}")
        start, length, position = _element(data, position + 16, stop, order)
        if length < 8 or length % 4:
            raise ValueError("an array without a size")
        sizes = struct.unpack_from(f"{order}{length // 4}i", data, start)
        _, _, position = _element(data, position, stop, order)
        match flags & 0xFF:
            case number if number in NUMBERS or number == TEXT:
                for _ in range(2 if flags & COMPLEX else 1):
                    _, length, position = _element(data, position, stop, order)
                if number == TEXT:
                    text_bytes += TEXT_BYTES * length
                    check_bytes(text_bytes)
                children = 0
            case number if number == CELL:
                children = 1
            case number if number == STRUCTURE:
                start, length, position = _element(data, position, stop, order)
                width = struct.unpack_from(f"{order}i", data, start)[0] if length == 4 else 0
                _, length, position = _element(data, position, stop, order)
                if width <= 0 or length % width:
                    raise ValueError("damaged names of fields")
                children = length // width
            case number:
                raise ValueError(f"an object, a function or a sparse array (class {number})")
        if children:
            if min(sizes) < 0 or 8 * children * math.prod(sizes) > stop - position:
                raise ValueError(f"{'x'.join(map(str, sizes))} arrays in {stop - position} bytes")
            children *= math.prod(sizes)
        if len(open_arrays) > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} arrays in each other")
        open_arrays.append([children, stop])
    return count


def _pair(data: bytes | bytearray, position: int, order: str) -> tuple[int, int]:
    try:
        return struct.unpack_from(f"{order}II", data, position)
    except struct.error:
        raise ValueError("truncated") from None


def _element(data: bytearray, position: int, stop: int, order: str) -> tuple[int, int, int]:
    """Offset and size of the values of an element, and offset of the next one."""
    kind, size = _pair(data, position, order)
    # Up to four bytes are stored in the place of the size.
    start, size = (position + 4, kind >> 16) if kind >> 16 else (position + 8, size)
    following = position + 8 if kind >> 16 else start + size + -size % 8
    if following > stop or (kind >> 16 and size > 4):
        raise ValueError(f"an array that extends beyond its end at byte {stop}")
    return start, size, following
