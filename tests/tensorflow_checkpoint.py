"""A writer of TensorFlow's checkpoints for tests, in their present form (V2) and their old one (V1)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

import torch
from torch import Tensor

from densevision.backbones.tensorflow_files import MAGIC, masked_crc32c
from densevision.tests.caffe import field, varint

TYPES = {torch.float32: 1, torch.float64: 2, torch.int64: 9, torch.bfloat16: 14, torch.float16: 19}
WHOLE_KEYS = 16
"""Entries after which a key is stored whole again."""


def write_checkpoint(
    folder: Path, name: str, variables: Mapping[str, Tensor], shards: int = 1, block: int = 10**6, **first: int | bytes
) -> Path:
    """Write the two kinds of files of the present form.

    Args:
        folder: where to.
        name: of the checkpoint, as "model.ckpt".
        variables: by name, as "conv1/weights".
        shards: number of data files, which take variables by turns.
        block: entries of a block of the table.
        first: what the entry of the first variable states instead of what is so.

    Returns:
        The path of the table.
    """
    entries = [(b"", field(1, shards) + field(3, field(1, 1)))]
    data = [bytearray() for _ in range(shards)]
    for number, (key, variable) in enumerate(sorted(variables.items())):
        stored = bytes_of(variable)
        stated: dict[str, int | bytes] = {
            "type": TYPES[variable.dtype], "shape": shape_bytes(variable), "shard": number % shards,
            "offset": len(data[number % shards]), "size": len(stored), "checksum": masked_crc32c(stored),
        }  # fmt: skip
        stated |= first if number == 0 else {}
        data[number % shards] += stored
        entry = b""
        for place, part in enumerate(("type", "shape", "shard", "offset", "size"), 1):
            # A number of 0 is not stored.
            entry += field(place, stated[part]) if stated[part] != 0 else b""
        entry += varint(6 << 3 | 5) + int(stated["checksum"]).to_bytes(4, "little")
        entries.append((key.encode(), entry + (field(7, bytes(stated["slices"])) if "slices" in stated else b"")))
    for shard, content in enumerate(data):
        (folder / f"{name}.data-{shard:05d}-of-{shards:05d}").write_bytes(content)
    table = folder / f"{name}.index"
    table.write_bytes(table_bytes(entries, block))
    return table


def write_old_checkpoint(path: Path, variables: Mapping[str, Tensor]) -> Path:
    """Write the one file of the old form, of variables in float32 and float64. TensorFlow's keys are longer."""
    metas, entries = b"", []
    for key, variable in sorted(variables.items()):
        kind, extents = TYPES[variable.dtype], field(1, b"") * variable.ndim
        metas += field(1, field(1, key.encode()) + field(2, shape_bytes(variable)) + field(3, kind) + field(4, extents))
        values = field({1: 5, 2: 6}.get(kind, 10), bytes_of(variable))
        saved = field(1, key.encode()) + field(2, extents) + field(3, values)
        entries.append((b"\0" + key.encode(), field(2, saved)))
    path.write_bytes(table_bytes([(b"", field(1, metas)), *entries], 1))
    return path


def bytes_of(variable: Tensor) -> bytes:
    return variable.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def shape_bytes(variable: Tensor) -> bytes:
    return b"".join(field(2, field(1, side)) for side in variable.shape)


def table_bytes(entries: list[tuple[bytes, bytes]], block: int) -> bytes:
    """A table with this number of entries a block."""
    table, index = bytearray(), []
    for start in range(0, len(entries), block):
        part = entries[start : start + block]
        last = start + block >= len(entries)
        # The key of the last block is the shortest one behind it.
        index.append((bytes([part[-1][0][0] + 1]) if last else part[-1][0], add_block(table, part, WHOLE_KEYS)))
    handles = add_block(table, [], 1) + add_block(table, index, 1)
    return bytes(table + handles.ljust(48 - len(MAGIC), b"\0") + MAGIC)


def add_block(table: bytearray, entries: list[tuple[bytes, bytes]], whole_keys: int) -> bytes:
    """Append a block to a table; its handle."""
    content, places, before = bytearray(), [0], b""
    for number, (key, value) in enumerate(entries):
        if number % whole_keys == 0 and number:
            places.append(len(content))
        same = takewhile(lambda pair: pair[0] == pair[1], zip(key, before, strict=False))
        shared = len(list(same)) if number % whole_keys else 0
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    content += struct.pack(f"<{len(places) + 1}I", *places, len(places))
    handle = varint(len(table)) + varint(len(content))
    content += b"\0"
    table += content + masked_crc32c(bytes(content)).to_bytes(4, "little")
    return handle
