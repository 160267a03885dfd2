"""A writer of Caffe's weights files for tests, in the old and in the present form of layers."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from torch import Tensor

Layer = tuple[str, list[Tensor]]


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(tensor: Tensor, old: bool) -> bytes:
    data = field(5, tensor.contiguous().float().numpy().tobytes())
    if old:
        shape = [1] * (4 - tensor.ndim) + list(tensor.shape)
        return b"".join(field(number, side) for number, side in enumerate(shape, 1)) + data
    return field(7, field(1, b"".join(map(varint, tensor.shape)))) + data


def caffe_bytes(layers: Iterable[Layer], old: bool = False) -> bytes:
    """A `.caffemodel` with these layers."""
    net = field(1, b"net")
    for name, blobs in layers:
        stored = b"".join(field(6 if old else 7, blob(each, old)) for each in blobs)
        net += field(2 if old else 100, field(4 if old else 1, name.encode()) + stored)
    return net


def layers_of(state: Mapping[str, Tensor], order: Iterable[str] = ()) -> list[Layer]:
    """The layers of a state dict as Caffe stores them: a normalization and its scale are two layers.

    Args:
        state: "conv1.weight", ...; running statistics of a layer "bn1" become the layer "bn1", and its weight and bias
            the layer "scale1".
        order: layers without weights, each "after:name".
    """
    layers: dict[str, list[Tensor]] = {}
    for name in state:
        layer, part = name.rsplit(".", 1)
        if part == "running_mean":
            factor = 4.0
            mean, variance = (factor * state[f"{layer}.{which}"] for which in ("running_mean", "running_var"))
            layers[layer] = [mean, variance, mean.new_tensor([factor])]
        elif f"{layer}.running_mean" in state:
            if part in ("weight", "bias"):
                layers.setdefault(layer.replace("bn", "scale", 1), []).append(state[name])
        else:
            layers.setdefault(layer, []).append(state[name])
    stored = []
    after = dict(entry.split(":") for entry in order)
    for layer, blobs in layers.items():
        stored.append((layer, blobs))
        stored += [(each, []) for each in after.get(layer, "").split()]
    return stored


def packed(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)
