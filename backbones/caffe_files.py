"""Caffe's weights files (`.caffemodel`): the blobs of every layer, read without Caffe and without its definitions.

A file is a protocol buffer (caffe.proto, `NetParameter`). Of it, this reader follows five messages and skips the rest:
the network, its layers in the old (V1) or the present form, their blobs and the shapes of these. Nothing is allocated
for what a file states: numbers are views of the mapped file.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..limits import check_bytes, check_entries, open_file

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
OLD_LAYERS, LAYERS = 2, 100
"""Fields of the network: its layers in the old and in the present form."""
LAYER_FIELDS = {OLD_LAYERS: (4, 6), LAYERS: (1, 7)}
"""Fields of a layer, for either form: its name and its blobs."""
OLD_SHAPE, DATA, SHAPE, DOUBLES = (1, 2, 3, 4), 5, 7, 8
"""Fields of a blob: number, channels, height and width of the old form; floats; the shape; doubles."""
MAX_SIDES = 8
TYPES = {DATA: np.dtype("<f4"), DOUBLES: np.dtype("<f8")}


class DamagedFile(ValueError):
    """A file that is not what Caffe writes. The message is a noun phrase."""


def read_caffe_file(path: str | Path) -> dict[str, Tensor]:
    """The blobs of all layers in their order, as "layer.0", "layer.1", ...

    A layer without blobs is an empty tensor of its name: the order of layers can be seen. Shapes of the old form are
    without ones in front of vectors and matrices.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        LimitExceeded: it is larger than `max_weights_mb`, or has more entries than `max_entries`.
        DamagedFile: it is not a protocol buffer, has no layers, or states other shapes than it has numbers.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        check_bytes(size, "weights")
        if not size:
            raise DamagedFile("an empty file")
        # Private, so that torch may have writable tensors; it is never written.
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    blobs: dict[str, Tensor] = {}
    budget = Budget()
    for number, layer in fields(view, budget):
        if number not in LAYER_FIELDS or not isinstance(layer, memoryview):
            continue
        name_field, blob_field = LAYER_FIELDS[number]
        name, found = "", []
        for key, value in fields(layer, budget):
            if key == name_field and isinstance(value, memoryview):
                name = bytes(value[:1000]).decode(errors="replace")
            elif key == blob_field and isinstance(value, memoryview):
                found.append(_blob(value, budget))
        # Data layers of training and of testing share a name; they have no blobs.
        if not found:
            blobs.setdefault(name, torch.empty(0))
        blobs.update({f"{name}.{index}": blob for index, blob in enumerate(found)})
    if not any(blob.numel() for blob in blobs.values()):
        raise DamagedFile("a file without layers that have weights")
    return blobs


class Budget:
    """Count of the entries that were read, against `max_entries`."""

    def __init__(self) -> None:
        self.count = 0

    def spend(self) -> None:
        """Count one more."""
        self.count += 1
        if self.count % 1000 == 0:
            check_entries(self.count)


def fields(message: memoryview, budget: Budget) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message: number, and bytes or number.

    Raises:
        DamagedFile: it ends within a field, or has a field of an unknown type.
    """
    position = 0
    while position < len(message):
        budget.spend()
        key, position = _varint(message, position)
        kind, number = key & 7, key >> 3
        if kind == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(kind, 0)
        if kind == BYTES:
            length, position = _varint(message, position)
        elif not length:
            raise DamagedFile(f"a field of type {kind}, which protocol buffers do not have")
        if length > len(message) - position:
            raise DamagedFile(f"a field of {length} bytes, of which {len(message) - position} are there")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise DamagedFile("the end within a number")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise DamagedFile("a number of more than ten bytes")


def _blob(message: memoryview, budget: Budget) -> Tensor:
    old: dict[int, int] = {}
    shape: list[int] | None = None
    data: dict[int, list[memoryview]] = {DATA: [], DOUBLES: []}
    for number, value in fields(message, budget):
        if number in OLD_SHAPE and isinstance(value, int):
            old[number] = value
        elif number in data and isinstance(value, memoryview):
            data[number].append(value)
        elif number == SHAPE and isinstance(value, memoryview):
            shape = _shape(value, budget)
    if shape is None:
        shape = [old.get(number, 1) for number in OLD_SHAPE]
        ones = 2 if shape[2] > 1 else 3
        shape = shape[ones:] if shape[:ones] == [1] * ones else shape
    kind = DATA if data[DATA] else DOUBLES
    parts = data[kind]
    stored = parts[0] if len(parts) == 1 else memoryview(bytearray().join(parts))
    kind_type = TYPES[kind]
    if len(stored) != math.prod(shape) * kind_type.itemsize:
        stated = "x".join(map(str, shape[:MAX_SIDES]))
        raise DamagedFile(f"a blob of {len(stored)} bytes, which states the shape {stated}")
    if not len(stored):
        return torch.empty(shape)
    return torch.from_numpy(np.frombuffer(stored, kind_type)).view(shape)


def _shape(message: memoryview, budget: Budget) -> list[int]:
    sides: list[int] = []
    for number, value in fields(message, budget):
        if number != 1:
            continue
        if isinstance(value, int):
            sides.append(value)
            continue
        position = 0
        while position < len(value):
            side, position = _varint(value, position)
            sides.append(side)
            if len(sides) > MAX_SIDES:
                break
    if len(sides) > MAX_SIDES or any(side > 2**31 for side in sides):
        raise DamagedFile("a blob of an impossible shape")
    return sides
