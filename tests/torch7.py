"""A writer of Torch7's files of networks for tests."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Module(dict[str, Any]):
    """An object of a class, by its attributes."""

    def __init__(self, kind: str, **attributes: Any) -> None:
        super().__init__(attributes)
        self.kind = kind


def sequence(kind: str, *modules: Module) -> Module:
    """A container such as `nn.Sequential`."""
    return Module(kind, modules={float(n): module for n, module in enumerate(modules, 1)})


def convolution(state: Mapping[str, Tensor], name: str, stride: int) -> Module:
    """A convolution of a state dict as cuDNN's module."""
    weight = state[f"{name}.weight"]
    out, channels, height, width = map(float, weight.shape)
    sizes = {
        "nOutputPlane": out,
        "nInputPlane": channels,
        "kH": height,
        "kW": width,
        "dH": float(stride),
        "dW": float(stride),
    }
    bias = {"bias": state[f"{name}.bias"]} if f"{name}.bias" in state else {}
    return Module("cudnn.SpatialConvolution", weight=weight, gradWeight=weight[:0], **bias, **sizes)


def normalization(state: Mapping[str, Tensor], name: str) -> Module:
    parts = {part: state[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
    return Module("cudnn.SpatialBatchNormalization", **parts)


def torch7_bytes(value: Any) -> bytes:
    """A `.t7` with this value."""
    return b"".join(_value(value, itertools.count(1)))


def _text(text: str) -> bytes:
    return struct.pack("<i", len(text)) + text.encode()


def _value(value: Any, index: Any) -> list[bytes]:
    if value is None:
        return [struct.pack("<i", 0)]
    if isinstance(value, bool):
        return [struct.pack("<ii", 5, value)]
    if isinstance(value, (int, float)):
        return [struct.pack("<id", 1, value)]
    if isinstance(value, str):
        return [struct.pack("<i", 2), _text(value)]
    if isinstance(value, Tensor):
        if not value.numel():
            return [
                struct.pack("<ii", 4, next(index)),
                _text("V 1"),
                _text("torch.CudaTensor"),
                struct.pack("<iqi", 0, 1, 0),
            ]
        head = [struct.pack("<ii", 4, next(index)), _text("V 1"), _text("torch.CudaTensor")]
        view = value.contiguous()
        shape = struct.pack(f"<i{2 * view.ndim}qq", view.ndim, *view.shape, *view.stride(), 1)
        stored = [struct.pack("<ii", 4, next(index)), _text("V 1"), _text("torch.CudaStorage")]
        return [*head, shape, *stored, struct.pack("<q", view.numel()), view.float().numpy().tobytes()]
    start = [struct.pack("<ii", 4, next(index)), _text("V 1"), _text(value.kind)] if isinstance(value, Module) else []
    parts = [*start, struct.pack("<iii", 3, next(index), len(value))]
    for key, each in value.items():
        parts += [*_value(key, index), *_value(each, index)]
    return parts
