"""Exact receptive fields: which input pixels a unit of a level can depend on.

State of a tensor along one axis: size r, jump j (input pixels between neighbouring units) and centre c of unit 0, with
pixel centres at integers. The picture has r = 1, j = 1, c = 0. A layer of kernel k, stride s, padding p, dilation d,
with k' = d (k - 1) + 1, makes

    r' = r + (k' - 1) j        c' = c + ((k' - 1) / 2 - p) j        j' = j s

Pooling counts as a convolution; branches that meet are joined: from the first pixel of any to the last of any.
The rules are applied to the operations that a trunk really performs, recorded while it runs on an empty picture on the
meta device. So any Python in between is followed, and timm's trunks as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .backbone import Backbone, empty_pictures, features_on_meta


@dataclass(frozen=True)
class ReceptiveField:
    """What the units of one level see along one axis.

    Attributes:
        size: pixels; `math.inf` behind a global operation.
        jump: pixels between the fields of neighbouring units.
        centre: of unit 0's field, in pixels; may lie outside the picture.
    """

    size: float
    jump: float
    centre: float

    @property
    def first(self) -> float:
        """The first pixel of unit 0's field; negative in the padding."""
        return self.centre - (self.size - 1) / 2

    def pixels(self, unit: int) -> tuple[float, float]:
        """First and last pixel that a unit sees, both inclusive, padding included."""
        first = self.first + unit * self.jump
        return first, first + self.size - 1

    def units(self, start: int, stop: int, count: int) -> range:
        """The units that see any of the pixels start ... stop - 1.

        Args:
            start, stop: the pixels, half open.
            count: how many units the level has along the axis.
        """
        if math.isinf(self.size):
            return range(count)
        low = math.ceil((start - self.first - self.size + 1) / self.jump)
        high = math.floor((stop - 1 - self.first) / self.jump)
        return range(max(low, 0), min(high + 1, count))


def receptive_fields(trunk: Backbone, axis: str = "width") -> dict[str, ReceptiveField]:
    """The receptive field of every built level. Normalisation counts as in evaluation.

    Args:
        trunk: any trunk; it is not run and not changed.
        axis: "width" or "height"; they differ only in trunks whose kernels are not square.

    Returns:
        By name of the level.

    Raises:
        ValueError: the trunk performs an operation whose field is not known here.
    """
    image = empty_pictures(trunk)
    recorder = _Recorder()
    recorder.remember(image, _Spans(_Span(0, 0, 1), _Span(0, 0, 1)))
    with recorder:
        maps, _ = features_on_meta(trunk, image)
    fields = {}
    for level, made in zip(trunk.levels, maps, strict=True):
        spans = recorder.of(made)
        if spans is None:
            raise ValueError(f"level {level.name} of {trunk.name} does not depend on the picture")
        fields[level.name] = (spans.height if axis == "height" else spans.width).field()
    return fields


@dataclass(frozen=True)
class _Span:
    """Unit 0 sees pixels first ... last; the next unit sees them `jump` further on."""

    first: float
    last: float
    jump: float

    def field(self) -> ReceptiveField:
        if math.isinf(self.last):
            return ReceptiveField(math.inf, self.jump, math.nan)
        return ReceptiveField(self.last - self.first + 1, self.jump, (self.first + self.last) / 2)

    def through(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> _Span:
        reach = dilation * (kernel - 1)
        return _Span(self.first - padding * self.jump, self.last + (reach - padding) * self.jump, self.jump * stride)

    def joined(self, other: _Span) -> _Span:
        if math.isinf(self.last) or math.isinf(other.last):
            # What was pooled over the whole picture has no grid of its own.
            jump = other.jump if math.isinf(self.last) else self.jump
            return _Span(-math.inf, math.inf, jump)
        if self.jump != other.jump:
            raise ValueError(f"two branches with units every {self.jump:g} and every {other.jump:g} pixels meet")
        return _Span(min(self.first, other.first), max(self.last, other.last), self.jump)

    def everything(self) -> _Span:
        return _Span(-math.inf, math.inf, self.jump)


@dataclass(frozen=True)
class _Spans:
    height: _Span
    width: _Span

    def joined(self, other: _Spans) -> _Spans:
        return _Spans(self.height.joined(other.height), self.width.joined(other.width))

    def through(
        self, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int] = (1, 1)
    ) -> _Spans:
        settings = [_pair(values) for values in (kernel, stride or kernel, padding, dilation)]
        height, width = zip(*settings, strict=True)
        return _Spans(self.height.through(*height), self.width.through(*width))

    def everything(self) -> _Spans:
        return _Spans(self.height.everything(), self.width.everything())

    @property
    def is_everything(self) -> bool:
        return math.isinf(self.height.last) and math.isinf(self.width.last)


# Operations that move nothing in space beside those which torch itself calls pointwise.
_IN_PLACE_OF_SPACE = {
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
    "native_dropout", "clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh",
}  # fmt: skip
_GLOBAL = {"native_group_norm", "_adaptive_avg_pool2d", "adaptive_max_pool2d"}
_RESHAPES = {
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "unsqueeze", "squeeze", "flatten",
    "split", "split_with_sizes", "chunk", "select", "unbind",
}  # fmt: skip
_PRODUCTS = {"mm", "addmm", "bmm", "matmul", "linear"}


class _Recorder(TorchDispatchMode):
    """Follows the spans of every tensor that depends on the picture, operation by operation."""

    def __init__(self) -> None:
        super().__init__()
        # The tensor is kept beside its spans, so that its id is not given to another.
        self.known: dict[int, tuple[Tensor, _Spans]] = {}

    def remember(self, tensor: Tensor, spans: _Spans) -> None:
        self.known[id(tensor)] = (tensor, spans)

    def of(self, value: object) -> _Spans | None:
        found = self.known.get(id(value))
        return found[1] if found is not None and found[0] is value else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = _arguments(func, args, kwargs or {})
        sources = [
            (value, spans)
            for argument in given.values()
            for value in (argument if isinstance(argument, (list, tuple)) else (argument,))
            if (spans := self.of(value)) is not None
        ]
        if sources:
            results = made if isinstance(made, (list, tuple)) else (made,)
            first = next(result for result in results if isinstance(result, Tensor))
            spans = _rule(func, given, [value for value, _ in sources], [spans for _, spans in sources], first)
            for result in results:
                if isinstance(result, Tensor):
                    self.remember(result, spans)
        return made


def _rule(func: Any, given: dict[str, Any], tensors: list[Tensor], spans: list[_Spans], result: Tensor) -> _Spans:
    """Spans of an operation's result from those of its sources."""
    name = func.overloadpacket.__name__.rstrip("_") if not func.overloadpacket.__name__.startswith("__") else ""
    source = spans[0]
    if name == "convolution" and not given["transposed"]:
        kernel = given["weight"].shape[2:]
        return source.through(kernel, given["stride"], given["padding"], given["dilation"])
    if name == "max_pool2d_with_indices":
        return source.through(given["kernel_size"], given["stride"], given["padding"], given["dilation"])
    if name == "avg_pool2d":
        return source.through(given["kernel_size"], given["stride"], given["padding"])
    if name == "avg_pool3d" and tuple(given["kernel_size"][1:]) == (1, 1):  # local response normalisation
        return source
    joined = source
    for other in spans[1:]:
        joined = joined.joined(other)
    if torch.Tag.pointwise in func.tags or name in _IN_PLACE_OF_SPACE:
        return joined
    if joined.is_everything:
        return joined
    if name in _GLOBAL:
        same = result.shape[-2:] == tensors[0].shape[-2:] and name != "native_group_norm"
        return joined if same else joined.everything()
    if name in ("mean", "sum", "amax", "var", "std", "var_mean"):
        axes = {axis % tensors[0].ndim for axis in given.get("dim") or range(tensors[0].ndim)}
        spatial = {tensors[0].ndim - 2, tensors[0].ndim - 1}
        return joined.everything() if axes & spatial else joined
    if name == "constant_pad_nd":
        left, right, top, bottom = (*given["pad"], 0, 0, 0, 0)[:4]
        del right, bottom  # what is added behind moves no unit
        return _Spans(joined.height.through(1, 1, top), joined.width.through(1, 1, left))
    if name == "slice":
        axis = given["dim"] % tensors[0].ndim - tensors[0].ndim
        start, step = given["start"] or 0, given["step"]
        start += tensors[0].shape[axis] if start < 0 else 0
        height = joined.height.through(1, step, -start) if axis == -2 else joined.height
        width = joined.width.through(1, step, -start) if axis == -1 else joined.width
        return _Spans(height, width)
    if name == "cat" and given["dim"] % result.ndim < result.ndim - 2:
        return joined
    if name in _RESHAPES and _keeps_space(name, given, tensors[0], result):
        return joined
    if name in _PRODUCTS:
        raise ValueError("a product of matrices mixes positions, so its receptive field is not known")
    raise ValueError(f"the receptive field of the operation {func} is not known")


def _keeps_space(name: str, given: dict[str, Any], tensor: Tensor, result: Tensor) -> bool:
    """Whether a rearrangement leaves the last two axes as they were."""
    if name == "permute":
        last = [axis % tensor.ndim for axis in given["dims"]][-2:]
        return last == [tensor.ndim - 2, tensor.ndim - 1]
    if name in ("transpose", "t"):
        moved = {given.get(key, position) % tensor.ndim for position, key in enumerate(("dim0", "dim1"))}
        return not moved & {tensor.ndim - 2, tensor.ndim - 1}
    return result.shape[-2:] == tensor.shape[-2:]


def _pair(values: Any) -> tuple[int, int]:
    if isinstance(values, int):
        return values, values
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def _arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """An operation's arguments by the names of its schema, defaults filled in."""
    given = {}
    for position, argument in enumerate(func._schema.arguments):
        if position < len(args):
            given[argument.name] = args[position]
        elif argument.name in kwargs:
            given[argument.name] = kwargs[argument.name]
        else:
            given[argument.name] = argument.default_value if argument.has_default_value() else None
    return given
