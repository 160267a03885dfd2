"""Torch7's files (`.t7`) of networks: the weights of every layer, read without Lua.

A file is one object: tables and objects of classes in each other, whose tensors are views of storages. Only tensors,
tables, numbers and text are kept; functions are skipped. Numbers are views of the mapped file, so that what a file
states allocates nothing.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..limits import check_entries, map_file

NIL, NUMBER, TEXT, TABLE, OBJECT, BOOLEAN, FUNCTION, OLD_RECURSIVE, RECURSIVE = range(9)
TYPES = {
    "Float": "<f4", "Cuda": "<f4", "Double": "<f8", "CudaDouble": "<f8", "Half": "<f2", "CudaHalf": "<f2",
    "Long": "<i8", "CudaLong": "<i8", "Int": "<i4", "CudaInt": "<i4", "Short": "<i2", "Byte": "u1", "CudaByte": "u1",
    "Char": "i1",
}  # fmt: skip
CLASS = re.compile(r"torch\.(\w+?)(Tensor|Storage)")
MAX_DEPTH = 200
"""Tables and objects in each other; every module of a network in another takes three."""
PARTS = ("weight", "bias", "running_mean", "running_var", "running_std")
"""Tensors of a layer that are read."""
STRIDE = "stride"
"""Name under which the vertical stride of a convolution stands beside its tensors."""


@dataclass
class Object:
    """An object of a class, with its attributes."""

    kind: str
    table: dict[Any, Any] = field(default_factory=dict)


def read_torch7_file(path: str | Path) -> dict[str, Tensor]:
    """The tensors of all layers that have some, in the order in which the network contains them.

    A name is "number.class.part", as in "0.SpatialConvolution.weight"; a convolution has its stride besides.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        LimitExceeded: it is larger than `max_weights_mb`, or has more values than `max_entries`.
        ValueError: it is not what Torch7 writes, or contains no layers.
    """
    reader = Reader(map_file(path))
    tensors: dict[str, Tensor] = {}
    number = 0
    for layer in layers(reader.value(0)):
        found = {part: layer.table.get(part) for part in PARTS}
        parts = {part: tensor for part, tensor in found.items() if isinstance(tensor, Tensor) and tensor.numel()}
        if not parts:
            continue
        kind = layer.kind.rpartition(".")[2]
        if "Convolution" in kind:
            sides = [layer.table.get(name) for name in ("nOutputPlane", "nInputPlane", "kH", "kW", "dH")]
            if not all(isinstance(side, float) and 0 < side < 2**31 for side in sides):
                raise ValueError("a convolution without its size")
            parts["weight"] = parts["weight"].reshape([int(side) for side in sides[:4]])  # type: ignore[arg-type]
            parts[STRIDE] = torch.tensor([float(sides[4])])  # type: ignore[arg-type]
        tensors |= {f"{number}.{kind}.{part}": tensor for part, tensor in parts.items()}
        number += 1
    if not tensors:
        raise ValueError("no network with weights")
    return tensors


def layers(network: Any) -> Iterator[Object]:
    """A network and all modules in it, from first to last."""
    pending, count = [network], 0
    while pending:
        module = pending.pop()
        count += 1
        check_entries(count)
        if not isinstance(module, (Object, dict)):
            continue
        table = module.table if isinstance(module, Object) else module
        if isinstance(module, Object):
            yield module
        inner = table.get("modules", table if isinstance(module, dict) else {})
        if isinstance(inner, dict):
            numbered = sorted((key for key in inner if isinstance(key, float)), reverse=True)
            pending += [inner[key] for key in numbered]
        pending += [table[key] for key in ("model",) if isinstance(table.get(key), Object)]


class Reader:
    """Reader of the values of a file, one after the other."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.position, self.count = data, 0, 0
        self.known: dict[int, Any] = {}

    def take(self, count: int) -> memoryview:
        """The next bytes.

        Raises:
            ValueError: the file ends before.
        """
        if not 0 <= count <= len(self.data) - self.position:
            raise ValueError("truncated")
        self.position += count
        return self.data[self.position - count : self.position]

    def integer(self) -> int:
        return struct.unpack("<i", self.take(4))[0]

    def longs(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}q", self.take(8 * count))

    def text(self) -> str:
        return bytes(self.take(self.integer())).decode("latin-1")

    def value(self, depth: int) -> Any:
        """The next value: None, a float, a bool, text, a dict, an `Object`, a tensor or a storage (a numpy array)."""
        self.count += 1
        check_entries(self.count)
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} values in each other")
        kind = self.integer()
        if kind == NIL:
            return None
        if kind == NUMBER:
            return struct.unpack("<d", self.take(8))[0]
        if kind == TEXT:
            return self.text()
        if kind == BOOLEAN:
            return bool(self.integer())
        if kind == FUNCTION:
            return self._function(depth)
        if kind not in (TABLE, OBJECT, RECURSIVE, OLD_RECURSIVE):
            raise ValueError(f"a value of the unknown type {kind}")
        index = self.integer()
        if index in self.known:
            return self.known[index]
        if kind == TABLE:
            return self._table(self.known.setdefault(index, {}), depth)
        if kind == OBJECT:
            return self._object(index, depth)
        self.known[index] = None
        return self._function(depth)

    def _function(self, depth: int) -> None:
        self.take(self.integer())
        self.value(depth + 1)

    def _table(self, table: dict[Any, Any], depth: int) -> dict[Any, Any]:
        for _ in range(self.integer()):
            key, value = self.value(depth + 1), self.value(depth + 1)
            if isinstance(key, (float, str)):
                table[key] = value
        return table

    def _object(self, index: int, depth: int) -> Any:
        kind = self.text()
        if kind.startswith("V "):
            kind = self.text()
        match = CLASS.fullmatch(kind)
        if match is None:
            made = self.known[index] = Object(kind)
            table = self.value(depth + 1)
            made.table = table if isinstance(table, dict) else {}
        elif match[1] not in TYPES:
            raise ValueError(f"a {kind[:100]}, which is unknown")
        elif match[2] == "Storage":
            dtype = np.dtype(TYPES[match[1]])
            (size,) = self.longs(1)
            self.known[index] = np.frombuffer(self.take(size * dtype.itemsize), dtype)
        else:
            self.known[index] = self._tensor(depth)
        return self.known[index]

    def _tensor(self, depth: int) -> Tensor:
        axes = self.integer()
        if not 0 <= axes <= 8:
            raise ValueError(f"a tensor of {axes} axes")
        sizes, strides, (offset,) = self.longs(axes), self.longs(axes), self.longs(1)
        storage = self.value(depth + 1)
        if not axes or storage is None:
            return torch.empty(0)
        if not isinstance(storage, np.ndarray) or min((*sizes, *strides, offset - 1)) < 0:
            raise ValueError("a tensor without a storage")
        last = offset - 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        # A stride of 0 would repeat a number without end.
        if max(last + 1, math.prod(sizes)) > len(storage) or 0 in sizes:
            raise ValueError(f"a tensor of {math.prod(sizes)} numbers in a storage of {len(storage)}")
        return torch.from_numpy(storage).as_strided(sizes, strides, offset - 1)
