"""Caffe's weights files (`.caffemodel`): the blobs of every layer, read without Caffe and without its definitions.

A file is a protocol buffer (caffe.proto, `NetParameter`). Of it, this reader follows five messages and skips the rest:
the network, its layers in the old (V1) or the present form, their blobs and the shapes of these. Nothing is allocated
for what a file states: numbers are views of the mapped file.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..limits import map_file
from .protobuf import Budget, DamagedFile, fields, varint

OLD_LAYERS, LAYERS = 2, 100
"""Fields of the network: its layers in the old and in the present form."""
LAYER_FIELDS = {OLD_LAYERS: (4, 6), LAYERS: (1, 7)}
"""Fields of a layer, for either form: its name and its blobs."""
OLD_SHAPE, DATA, SHAPE, DOUBLES = (1, 2, 3, 4), 5, 7, 8
"""Fields of a blob: number, channels, height and width of the old form; floats; the shape; doubles."""
MAX_SIDES = 8
TYPES = {DATA: np.dtype("<f4"), DOUBLES: np.dtype("<f8")}


def read_caffe_file(path: str | Path) -> dict[str, Tensor]:
    """The blobs of all layers in their order, as "layer.0", "layer.1", ...

    A layer without blobs is an empty tensor of its name: the order of layers can be seen. Shapes of the old form are
    without ones in front of vectors and matrices.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        LimitExceeded: it is larger than `max_weights_mb`, or has more entries than `max_entries`.
        ValueError: it is empty, or a `DamagedFile`: no protocol buffer, without layers, or one that states other shapes
            than it has numbers.
    """
    view = map_file(path)
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
            side, position = varint(value, position)
            sides.append(side)
            if len(sides) > MAX_SIDES:
                break
    if len(sides) > MAX_SIDES or any(side > 2**31 for side in sides):
        raise DamagedFile("a blob of an impossible shape")
    return sides
