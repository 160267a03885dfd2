"""What every tensor of a running network sees of the image, operation by operation.

`TraceMode` watches the operations that a backbone really performs, so any Python in between is followed. `Interval` is
the state of a tensor along one axis; the arithmetic is that of `receptive_field.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Interval:
    """Unit 0 sees pixels first ... last; the next unit sees them `jump` further on.

    Behind an operation over the whole image the span is infinite, and `cause` names the first such operation.
    """

    first: float
    last: float
    jump: float
    cause: str | None = None

    def through(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Interval:
        """Behind a window of `kernel` units."""
        reach = dilation * (kernel - 1)
        first, last = self.first - padding * self.jump, self.last + (reach - padding) * self.jump
        return replace(self, first=first, last=last, jump=self.jump * stride)

    def joined(self, other: Interval) -> Interval:
        """Where two branches meet: from the first pixel of either to the last of either."""
        if self.cause or other.cause:
            # What was pooled over the whole image has no grid of its own.
            jump = other.jump if self.cause else self.jump
            return Interval(-math.inf, math.inf, jump, self.cause or other.cause)
        if self.jump != other.jump:
            raise ValueError(f"two branches with units every {self.jump:g} and every {other.jump:g} pixels meet")
        return Interval(min(self.first, other.first), max(self.last, other.last), self.jump)

    def everything(self, cause: str) -> Interval:
        """Behind an operation over the whole image."""
        return Interval(-math.inf, math.inf, self.jump, self.cause or cause)


@dataclass(frozen=True)
class Intervals:
    """The spans of a tensor along both axes."""

    height: Interval
    width: Interval

    def joined(self, other: Intervals) -> Intervals:
        """As `Interval.joined`."""
        return Intervals(self.height.joined(other.height), self.width.joined(other.width))

    def through(self, *window: tuple[int, int]) -> Intervals:
        """As `Interval.through`: kernel, stride, padding and dilation, (height, width) each."""
        height, width = zip(*window, strict=True)
        return Intervals(self.height.through(*height), self.width.through(*width))

    def everything(self, cause: str) -> Intervals:
        """As `Interval.everything`."""
        return Intervals(self.height.everything(cause), self.width.everything(cause))

    @property
    def is_everything(self) -> bool:
        """Whether both axes are infinite."""
        return bool(self.height.cause and self.width.cause)


IMAGE = Intervals(Interval(0, 0, 1), Interval(0, 0, 1))


POINTWISE_NAMES = {
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
    "clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh",
    "hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_",
}  # fmt: skip
"""Operations in evaluation that move nothing in space, beside those which torch itself calls pointwise."""
# Operations over the whole image, in a reader's words.
_GLOBAL = {
    "native_group_norm": "group normalization",
    "_adaptive_avg_pool2d": "adaptive average pool",
    "adaptive_max_pool2d": "adaptive maximum pool",
}
_REDUCTIONS = {
    "mean": "mean", "sum": "sum", "amax": "maximum", "var": "variance", "std": "standard deviation",
    "var_mean": "mean and variance",
}  # fmt: skip
_RESHAPES = {
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "unsqueeze", "squeeze", "flatten",
    "split", "split_with_sizes", "chunk", "select", "unbind",
}  # fmt: skip
_PRODUCTS = {"mm", "addmm", "bmm", "matmul", "linear"}


class TraceMode(TorchDispatchMode):
    """Follows the spans of every tensor that depends on the image.

    Attributes:
        inside: names of the modules that are running, outermost first, kept by whoever runs them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []
        # The tensor is kept beside its spans, so that its id is not given to another.
        self.known: dict[int, tuple[Tensor, Intervals]] = {}

    def remember(self, tensor: Tensor, spans: Intervals) -> None:
        """State the spans of a tensor."""
        self.known[id(tensor)] = (tensor, spans)

    def of(self, value: object) -> Intervals | None:
        """The spans of a tensor; None for what does not depend on the image."""
        found = self.known.get(id(value))
        return found[1] if found is not None and found[0] is value else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = named_arguments(func, args, kwargs or {})
        sources = [
            (value, spans)
            for argument in given.values()
            for value in (argument if isinstance(argument, (list, tuple)) else (argument,))
            if (spans := self.of(value)) is not None
        ]
        if sources:
            results = made if isinstance(made, (list, tuple)) else (made,)
            first = next(result for result in results if isinstance(result, Tensor))
            place = f" in {self.inside[-1]}" if self.inside else ""
            spans = _rule(func, given, [value for value, _ in sources], [spans for _, spans in sources], first, place)
            for result in results:
                if isinstance(result, Tensor):
                    self.remember(result, spans)
        return made


def _rule(
    func: Any, given: dict[str, Any], tensors: list[Tensor], spans: list[Intervals], result: Tensor, place: str
) -> Intervals:
    """Spans of an operation's result from those of its sources; `place` says where it runs, for the cause."""
    name = func.overloadpacket.__name__.rstrip("_") if not func.overloadpacket.__name__.startswith("__") else ""
    source = spans[0]
    if (window := window_of(name, given)) is not None:
        return source.through(*window)
    if name == "avg_pool3d" and tuple(given["kernel_size"][1:]) == (1, 1):  # local response normalization
        return source
    joined = reduce(Intervals.joined, spans)
    pointwise = torch.Tag.pointwise in func.tags or name in POINTWISE_NAMES or name == "native_dropout"
    if pointwise or joined.is_everything:
        return joined
    if name in _GLOBAL:
        same = result.shape[-2:] == tensors[0].shape[-2:] and name != "native_group_norm"
        return joined if same else joined.everything(_GLOBAL[name] + place)
    if name in _REDUCTIONS:
        axes = {axis % tensors[0].ndim for axis in given.get("dim") or range(tensors[0].ndim)}
        spatial = {tensors[0].ndim - 2, tensors[0].ndim - 1}
        return joined.everything(f"{_REDUCTIONS[name]} over positions{place}") if axes & spatial else joined
    if name == "constant_pad_nd":
        left, _, top, _ = (*given["pad"], 0, 0, 0, 0)[:4]  # what is added behind moves no unit
        return Intervals(joined.height.through(1, 1, top), joined.width.through(1, 1, left))
    if name == "slice":
        axis = given["dim"] % tensors[0].ndim - tensors[0].ndim
        start, step = given["start"] or 0, given["step"]
        start += tensors[0].shape[axis] if start < 0 else 0
        height = joined.height.through(1, step, -start) if axis == -2 else joined.height
        width = joined.width.through(1, step, -start) if axis == -1 else joined.width
        return Intervals(height, width)
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


def window_of(name: str, given: dict[str, Any]) -> tuple[tuple[int, int], ...] | None:
    """Kernel, stride, padding and dilation, (height, width) each, of a convolution or a pool; None for all others.

    `given` are the arguments of the operation of this name, see `named_arguments`.
    """
    if name == "convolution" and not given["transposed"] and given["weight"].ndim == 4:
        kernel = given["weight"].shape[2:]
    elif name in ("max_pool2d_with_indices", "avg_pool2d"):
        kernel = given["kernel_size"]
    else:
        return None
    stride, dilation = given["stride"] or kernel, given.get("dilation", 1)
    return tuple(map(_pair, (kernel, stride, given["padding"], dilation)))


def _pair(values: Any) -> tuple[int, int]:
    if isinstance(values, int):
        return values, values
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def named_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
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
