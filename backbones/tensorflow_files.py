"""TensorFlow's checkpoints: the variables of a graph, read without TensorFlow.

The present form (V2) is a table, `NAME.index`, of where a variable is in `NAME.data-00000-of-00001`; the old form (V1)
is one table with the variables themselves. A table is that of LevelDB: blocks of sorted keys and values, an index of
the blocks, and a footer that says where the index is. Values are protocol buffers (tensor_bundle.proto,
saved_tensor_slice.proto). Nothing is allocated for what a file states: numbers are views of the mapped files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..limits import map_file, open_file
from .protobuf import Budget, DamagedFile, fields, varint

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
"""Last bytes of a table."""
FOOTER, TRAILER = 48, 5
"""Bytes of the footer; of what follows a block: its compression, and its checksum."""
MAX_KEY = 4096
MAX_SIDES = 8
FLOATS = {1: torch.float32, 2: torch.float64, 14: torch.bfloat16, 19: torch.float16}
LAST_TYPE = 32
"""Types are 1 to this one: numbers, text, references to resources."""
TYPE, SHAPE, SHARD, OFFSET, SIZE, CHECKSUM, SLICES = range(1, 8)
"""Fields of an entry of the present form."""
VALUES = {1: 5, 2: 6}
"""Fields of the values of the old form: floats, doubles."""
PARTS = re.compile(r"(?P<name>.+)\.(?:index|meta|data-\d{5}-of-\d{5})")


def find_table(path: Path) -> Path | None:
    """The table of a checkpoint of TensorFlow, which may be named by any of its files, or by what their names share.

    Returns:
        None if there is none.

    Raises:
        UserError: it is a part of a checkpoint whose table is missing.
    """
    part = PARTS.fullmatch(path.name)
    name = path.with_name(part["name"]) if part else path
    index = name.with_name(f"{name.name}.index")
    if path.name == index.name or (index.is_file() and (part or not path.exists())):
        return index if index.is_file() else None
    if name.is_file() and _is_table(name):
        return name
    if part and path.is_file():
        raise UserError(
            f"There is no {index}, which says what a checkpoint of TensorFlow contains: copy all of its files there."
        )
    return None


def _is_table(path: Path) -> bool:
    with open_file(path) as file:
        file.seek(0, 2)
        file.seek(max(file.tell() - len(MAGIC), 0))
        return file.read() == MAGIC


def read_tensorflow_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The floating-point variables of a checkpoint by name, with dots for slashes: "conv1.weights".

    Integers, text and resources are left out: they are counters, indices and the like.

    Args:
        path: its table, as `find_table` returns it.

    Raises:
        OSError: a file cannot be opened, or is no regular file.
        UserError: a data file is missing.
        LimitExceeded: a file is larger than `max_weights_mb`, or has more entries than `max_entries`.
        DamagedFile: it is not what TensorFlow writes.
    """
    budget = Budget()
    entries = read_table(map_file(path), budget)
    key, first = next(entries, (b"?", memoryview(b"")))
    header = dict(fields(first, budget))
    if key:
        raise DamagedFile("a table that does not begin with the header of a checkpoint")
    shards = header.get(1)
    tensors = (
        _read_bundle(str(path).removesuffix(".index"), shards, header.get(2, 0), entries, budget)
        if isinstance(shards, int)
        else _read_slices(shards or memoryview(b""), entries, budget)
    )
    if not tensors:
        raise DamagedFile("a checkpoint without floating-point variables")
    return tensors


def read_table(table: memoryview, budget: Budget) -> Iterator[tuple[bytes, memoryview]]:
    """The keys and values of a table, in order.

    Raises:
        DamagedFile: it has no footer, a block beyond the file, or one of another checksum.
    """
    if len(table) < FOOTER or table[-len(MAGIC) :] != MAGIC:
        raise DamagedFile("a file without the end of a table")
    footer = table[-FOOTER:]
    # In front of the handle of the index stands that of what describes the table, which is empty.
    position = varint(footer, varint(footer, 0)[1])[1]
    for _, handle in _block_entries(_block(table, footer[position:]), budget):
        yield from _block_entries(_block(table, handle), budget)


def _block(table: memoryview, handle: memoryview) -> memoryview:
    """The entries of a block.

    Args:
        table: the table.
        handle: the offset and the size of the block, then anything.
    """
    offset, position = varint(handle, 0)
    size, _ = varint(handle, position)
    end = offset + size
    if size < 4 or end + TRAILER > len(table) - FOOTER:
        raise DamagedFile(f"a block of {size} bytes at {offset} in a table of {len(table)}")
    if table[end] != 0:
        raise DamagedFile("a compressed table, which TensorFlow's savers do not write")
    if masked_crc32c(table[offset : end + 1]) != int.from_bytes(table[end + 1 : end + TRAILER], "little"):
        raise DamagedFile(f"a block at {offset} of another checksum")
    # Behind the entries stand places where keys are whole, and their number.
    restarts = int.from_bytes(table[end - 4 : end], "little")
    return table[offset : max(end - 4 - 4 * restarts, offset)]


def _block_entries(block: memoryview, budget: Budget) -> Iterator[tuple[bytes, memoryview]]:
    key, position = b"", 0
    while position < len(block):
        budget.spend()
        shared, position = varint(block, position)
        own, position = varint(block, position)
        length, position = varint(block, position)
        start, end = position + own, position + own + length
        if shared > len(key) or end > len(block) or shared + own > MAX_KEY:
            raise DamagedFile("a key or a value beyond its block")
        key = key[:shared] + bytes(block[position:start])
        yield key, block[start:end]
        position = end


def _read_bundle(
    name: str, shards: int, order: object, entries: Iterator[tuple[bytes, memoryview]], budget: Budget
) -> dict[str, Tensor]:
    """The variables of the present form, from its data files."""
    if order:
        raise DamagedFile("a checkpoint of a big-endian machine")
    files: dict[int, memoryview] = {}
    tensors: dict[str, Tensor] = {}
    used = 0
    for key, value in entries:
        variable = _name(key)
        numbers, parts = _split(value, budget)
        kind = _known_type(numbers.get(TYPE, 0), variable)
        if kind is None:
            continue
        if SLICES in parts:
            raise DamagedFile(f"a checkpoint with '{variable}' in slices, and not as a whole")
        shape = _shape(parts.get(SHAPE, memoryview(b"")), budget)
        shard, offset, size = (numbers.get(number, 0) for number in (SHARD, OFFSET, SIZE))
        if shard >= shards:
            raise DamagedFile(f"'{variable}' in data file {shard} of {shards}")
        if shard not in files:
            files[shard] = _map_shard(f"{name}.data-{shard:05d}-of-{shards:05d}")
        used += size
        # Without overlaps, the variables are not more than the files.
        if offset + size > len(files[shard]) or used > sum(map(len, files.values())):
            raise DamagedFile(f"'{variable}' of {size} bytes at {offset} in a data file of {len(files[shard])}")
        data = files[shard][offset : offset + size]
        tensors[variable] = _tensor(data, kind, shape, variable)
        if masked_crc32c(data) != int.from_bytes(parts.get(CHECKSUM, b""), "little"):
            raise DamagedFile(f"'{variable}' of another checksum")
    return tensors


def _map_shard(path: str) -> memoryview:
    try:
        return map_file(path)
    except FileNotFoundError:
        text = f"There is no {path}, which has the variables of the checkpoint: copy all of its files there."
        raise UserError(text) from None


def _read_slices(meta: memoryview, entries: Iterator[tuple[bytes, memoryview]], budget: Budget) -> dict[str, Tensor]:
    """The variables of the old form, from the rest of the table."""
    kinds: dict[str, torch.dtype | None] = {}
    shapes: dict[str, list[int]] = {}
    types: dict[str, int] = {}
    for number, stated in fields(meta, budget):
        if number == 1 and isinstance(stated, memoryview):
            numbers, parts = _split(stated, budget)
            variable = _name(parts.get(1, b""))
            types[variable] = numbers.get(3, 0)
            kinds[variable] = _known_type(types[variable], variable)
            shapes[variable] = _shape(parts.get(2, memoryview(b"")), budget)
    tensors: dict[str, Tensor] = {}
    for _, value in entries:
        _, parts = _split(value, budget)
        _, saved = _split(parts.get(2, memoryview(b"")), budget)
        variable = _name(saved.get(1, b""))
        kind = kinds.get(variable)
        if kind is None or types[variable] not in VALUES:
            continue
        for number, extent in fields(saved.get(2, memoryview(b"")), budget):
            if number == 1 and isinstance(extent, memoryview) and len(extent):
                raise DamagedFile(f"a checkpoint with '{variable}' in slices, and not as a whole")
        _, contents = _split(saved.get(3, memoryview(b"")), budget)
        data = contents.get(VALUES[types[variable]], memoryview(b""))
        tensors[variable] = _tensor(data, kind, shapes[variable], variable)
    return tensors


def _name(key: bytes | memoryview) -> str:
    return bytes(key[:MAX_KEY]).decode(errors="replace").replace("/", ".")


def _split(message: memoryview, budget: Budget) -> tuple[dict[int, int], dict[int, memoryview]]:
    """The numbers and the messages of a message, by field; of several, the last one."""
    numbers: dict[int, int] = {}
    parts: dict[int, memoryview] = {}
    for number, value in fields(message, budget):
        if isinstance(value, int):
            numbers[number] = value
        else:
            parts[number] = value
    return numbers, parts


def _known_type(number: int, variable: str) -> torch.dtype | None:
    """The type of a variable; None if it is not of floating-point numbers."""
    if not 0 < number <= LAST_TYPE:
        raise DamagedFile(f"'{variable}' of type {number}, which TensorFlow does not have")
    return FLOATS.get(number)


def _shape(message: memoryview, budget: Budget) -> list[int]:
    sides: list[int] = []
    for number, side in fields(message, budget):
        if number == 2 and isinstance(side, memoryview):
            sides.append(_split(side, budget)[0].get(1, 0))
    if len(sides) > MAX_SIDES or any(side >= 2**31 for side in sides):
        raise DamagedFile("a variable of an impossible shape")
    return sides


def _tensor(data: memoryview, kind: torch.dtype, shape: list[int], variable: str) -> Tensor:
    if len(data) != math.prod(shape) * kind.itemsize:
        raise DamagedFile(f"'{variable}' of {len(data)} bytes, which states the shape {'x'.join(map(str, shape))}")
    return torch.frombuffer(data, dtype=kind).view(shape) if len(data) else torch.empty(shape, dtype=kind)


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(0x82F63B78), np.uint32(0))
    return table


REMAINDERS = _byte_table()
"""Of every byte divided by the polynomial of CRC-32C."""
BEGINNING = bytes.fromhex("54641f64")
"""Bytes after which the remainder is that which CRC-32C begins with."""
BITS = np.arange(32, dtype=np.uint32)
ROWS = 4096


def masked_crc32c(data: memoryview | bytes) -> int:
    """CRC-32C, rotated and shifted as LevelDB stores it.

    The data are divided into rows of equal length, up to `ROWS`, whose remainders are computed beside each other.
    """
    count = len(BEGINNING) + len(data)
    rows = min(1 << (count // 64).bit_length(), ROWS)
    length = -(-count // rows)
    padded = np.zeros(rows * length, np.uint8)
    padded[-count:] = np.frombuffer(BEGINNING + data, np.uint8)
    # 32 further rows of zeros, which begin with one bit each: what a row does to the remainder before it.
    columns = np.zeros((length, rows + len(BITS)), np.uint8)
    columns[:, :rows] = padded.reshape(rows, length).T
    states = np.concatenate([np.zeros(rows, np.uint32), np.uint32(1) << BITS])
    for column in columns:
        states = REMAINDERS[(states ^ column) & 255] ^ (states >> 8)
    states, continued = states[:rows], states[rows:]
    while len(states) > 1:
        states = _continue(states[::2], continued) ^ states[1::2]
        continued = _continue(continued, continued)
    crc = int(states[0]) ^ 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _continue(states: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """The sum of what becomes of every bit of every state."""
    return np.bitwise_xor.reduce((states[:, None] >> BITS & 1) * bits, axis=1)
