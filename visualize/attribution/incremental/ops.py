"""Operations on `IncrementalTensor`: windows and results of convolutions, pools and pointwise operations.

All other operations read the full maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_map_only

from .tensor import CachedOp, IncrementalTensor

# Pointwise operations that torch does not tag as pointwise.
POINTWISE_NAMES = {
    "clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh",
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
}  # fmt: skip
POINTWISE_FUNCTIONS = {functional.local_response_norm}
"""Pointwise functions whose inner operations are not: they use the channels as a spatial axis."""


def dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation with `IncrementalTensor` arguments."""
    name, arguments = func.overloadpacket.__name__, _named_arguments(func, args, kwargs)
    if name in WINDOWED and isinstance(args[0], IncrementalTensor):
        result = WINDOWED[name](func, arguments)
        if result is not None:
            return result
    if _is_pointwise(func, name, arguments):
        return apply_pointwise(func, args, kwargs)
    for source in _incremental_tensors(args, kwargs):
        if not source.op.is_full and source.cache.full_from is None:
            source.cache.full_from = name
        source.materialize()
    full, others = tree_map_only(IncrementalTensor, lambda source: source.tiles, (args, kwargs))
    result = func(*full, **others)
    return args[0] if func._schema.is_mutable and isinstance(args[0], IncrementalTensor) else result


def apply_pointwise(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a pointwise operation on the tiles of its arguments, in the union of their windows."""
    sources = _incremental_tensors(args, kwargs)
    cache = sources[0].cache
    in_place = getattr(getattr(func, "_schema", None), "is_mutable", False)

    def run(read: Callable[[IncrementalTensor], Tensor], copy_first: bool) -> Any:
        arguments, others = tree_map_only(IncrementalTensor, read, (args, kwargs))
        arguments = (arguments[0].clone(), *arguments[1:]) if copy_first else arguments
        return func(*arguments, **others)

    def compute() -> CachedOp:
        rows, columns = sources[0].op.rows, sources[0].op.columns
        for other in sources[1:]:
            rows, columns = rows.union(other.op.rows), columns.union(other.op.columns)
        return CachedOp(_first(run(lambda source: source.op.clean, copy_first=in_place)), rows, columns)

    op = cache.get_or_compute(compute)
    # Copy, because other tensors may share the tiles; full maps are modified in place, as their views expect.
    result = run(lambda source: source.read(op.rows, op.columns), copy_first=in_place and not args[0].op.is_full)
    if in_place:
        args[0].tiles, args[0].op = result, op
        return args[0]
    output = IncrementalTensor(_first(result), op, cache)
    return (output, *result[1:]) if isinstance(result, (tuple, list)) else output


def _windowed(
    func: Any,
    arguments: dict[str, Any],
    kernel: Sequence[int],
    fill: float = 0.0,
    overrides: dict[str, bool] | None = None,
) -> IncrementalTensor:
    """Run a convolution or a pool on crops.

    Args:
        func: the operation; the map is its only or first result.
        arguments: its arguments by name.
        kernel: (height, width).
        fill: value of its padding.
        overrides: arguments to change for crops (ceil_mode).
    """
    (input_name, source), *others = arguments.items()
    cache = source.cache
    stride, padding = _pair(arguments["stride"] or kernel), _pair(arguments["padding"])
    dilation = _pair(arguments.get("dilation", 1))
    geometry = list(zip(_pair(kernel), stride, padding, dilation, strict=True))

    def compute() -> CachedOp:
        clean = _first(func(**{input_name: source.op.clean}, **dict(others)))
        intervals = [
            interval.apply_layer(*numbers, extent)
            for interval, numbers, extent in zip(
                (source.op.rows, source.op.columns), geometry, clean.shape[-2:], strict=True
            )
        ]
        return CachedOp(clean, *intervals)

    op = cache.get_or_compute(compute)
    if op.is_full:
        return IncrementalTensor(_first(func(**{input_name: source.to_full()}, **dict(others))), op, cache)
    if all(numbers == (1, 1, 0, 1) for numbers in geometry):
        crop = source.read(op.rows, op.columns)
    else:
        rows, columns = (
            (
                interval.start[cache.patch_indices] * stride - padding,
                (interval.size - 1) * stride + dilation * (kernel - 1) + 1,
            )
            for interval, (kernel, stride, padding, dilation) in zip((op.rows, op.columns), geometry, strict=True)
        )
        crop = source.crop(rows, columns, fill)
    crop_arguments = {**dict(others), "padding": [0, 0], **(overrides or {})}
    return IncrementalTensor(_first(func(**{input_name: crop}, **crop_arguments)), op, cache)


def _convolution(func: Any, arguments: dict[str, Any]) -> IncrementalTensor | None:
    if arguments["transposed"] or arguments["weight"].ndim != 4:
        return None
    return _windowed(func, arguments, arguments["weight"].shape[2:])


def _max_pool(func: Any, arguments: dict[str, Any]) -> tuple[IncrementalTensor, Tensor]:
    result = _windowed(func, arguments, arguments["kernel_size"], -inf, {"ceil_mode": False})
    # The second result, the indices of the maxima, is not supported: on the meta device, reading it fails.
    return result, torch.empty(result.shape, dtype=torch.long, device="meta")


def _average_pool(func: Any, arguments: dict[str, Any]) -> IncrementalTensor | None:
    divisor_is_constant = arguments["count_include_pad"] or not any(_pair(arguments["padding"]))
    if arguments["ceil_mode"] or not divisor_is_constant:
        return None  # the divisor is smaller at the border
    return _windowed(func, arguments, arguments["kernel_size"])


WINDOWED: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _average_pool,
}


def _is_pointwise(func: Any, name: str, arguments: dict[str, Any]) -> bool:
    """Whether an output position depends on the same input position only, with the same parameters for all patches."""
    tensors = tree_flatten(list(arguments.values()))[0]
    sizes = {each.shape[-2:] for each in tensors if isinstance(each, IncrementalTensor)}
    others = [each for each in tensors if isinstance(each, Tensor) and not isinstance(each, IncrementalTensor)]
    if len(sizes) > 1:
        return False
    if name in POINTWISE_NAMES:
        return not arguments.get("training", False)
    if name == "cat":
        return not others and arguments["dim"] % 4 == 1
    if name == "flip":
        return [dim % 4 for dim in arguments["dims"]] == [1]
    # Per-channel values are the same for all patches, unless they were computed from them: batches have 2 or more.
    per_channel = all(
        each.ndim == 0 or (set(each.shape[-2:]) == {1} and each.shape[:-3].numel() == 1) for each in others
    )
    written = next(iter(arguments.values())) if func._schema.is_mutable else None
    return torch.Tag.pointwise in func.tags and per_channel and not any(each is written for each in others)


def _incremental_tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[IncrementalTensor]:
    return [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, IncrementalTensor)]


def _first(result: Any) -> Tensor:
    return result[0] if isinstance(result, (tuple, list)) else result


def _pair(values: Any) -> tuple[int, int]:
    if isinstance(values, int):
        return values, values
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def _named_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an operation by the names of its schema, with defaults."""
    arguments = {}
    for position, argument in enumerate(func._schema.arguments):
        if position < len(args):
            arguments[argument.name] = args[position]
        elif argument.name in kwargs:
            arguments[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            arguments[argument.name] = argument.default_value
    return arguments
