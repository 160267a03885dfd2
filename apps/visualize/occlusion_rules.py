"""How operations run on `Changed` maps: what a convolution, a pool or an addition reads, and which windows it makes.

Operations that have no rule here read the maps in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_map_only

from .occlusion_maps import Changed, Step

# Operations that work place by place beside those which torch itself calls pointwise.
PLACE_BY_PLACE = {
    "clone", "detach", "alias", "_to_copy", "contiguous", "lift_fresh",
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
}  # fmt: skip
AS_A_WHOLE = {functional.local_response_norm}
"""Functions that work place by place although operations inside them do not: there channels are an axis of space."""


def follow(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation that reads `Changed` maps."""
    name, given = func.overloadpacket.__name__, _given(func, args, kwargs)
    if name in WINDOWED and isinstance(args[0], Changed):
        made = WINDOWED[name](func, given)
        if made is not None:
            return made
    if _works_place_by_place(func, name, given):
        return place_by_place(func, args, kwargs)
    for source in _changed(args, kwargs):
        if not source.step.whole and source.trail.left_at is None:
            source.trail.left_at = name
        source.fill_up()
    full, others = tree_map_only(Changed, lambda source: source.tiles, (args, kwargs))
    made = func(*full, **others)
    return args[0] if func._schema.is_mutable and isinstance(args[0], Changed) else made


def place_by_place(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation on the tiles of what it reads, in the windows that hold all of them."""
    sources = _changed(args, kwargs)
    trail = sources[0].trail
    in_place = getattr(getattr(func, "_schema", None), "is_mutable", False)

    def run(read: Callable[[Changed], Tensor], copied: bool) -> Any:
        given, others = tree_map_only(Changed, read, (args, kwargs))
        given = (given[0].clone(), *given[1:]) if copied else given
        return func(*given, **others)

    def make() -> Step:
        rows, columns = sources[0].step.rows, sources[0].step.columns
        for other in sources[1:]:
            rows, columns = rows.joined(other.step.rows), columns.joined(other.step.columns)
        return Step(_first(run(lambda source: source.step.clean, copied=in_place)), rows, columns)

    step = trail.step(make)
    # Others may read the same tiles. Maps that are stored in full are written into, as their views expect.
    made = run(lambda source: source.within(step.rows, step.columns), copied=in_place and not args[0].step.whole)
    if in_place:
        args[0].tiles, args[0].step = made, step
        return args[0]
    changed = Changed(_first(made), step, trail)
    return (changed, *made[1:]) if isinstance(made, (tuple, list)) else changed


def _windowed(
    func: Any, given: dict[str, Any], kernel: Sequence[int], fill: float = 0.0, ends: dict[str, bool] | None = None
) -> Changed:
    """A convolution or a pool on crops.

    Args:
        func: the operation; it may return more than its map.
        given: its arguments by name.
        kernel: (height, width).
        fill: what it pads with.
        ends: the argument that makes a crop end where its last window ends, of operations that have one.
    """
    (called, source), *others = given.items()
    trail = source.trail
    stride, padding = _pair(given["stride"] or kernel), _pair(given["padding"])
    dilation = _pair(given.get("dilation", 1))
    shape = list(zip(_pair(kernel), stride, padding, dilation, strict=True))

    def make() -> Step:
        clean = _first(func(**{called: source.step.clean}, **dict(others)))
        windows = [
            before.through(*numbers, extent)
            for before, numbers, extent in zip(
                (source.step.rows, source.step.columns), shape, clean.shape[-2:], strict=True
            )
        ]
        return Step(clean, *windows)

    step = trail.step(make)
    if step.whole:
        return Changed(_first(func(**{called: source.whole()}, **dict(others))), step, trail)
    if all(numbers == (1, 1, 0, 1) for numbers in shape):
        crop = source.within(step.rows, step.columns)
    else:
        rows, columns = (
            (windows.start[trail.chosen] * stride - padding, (windows.size - 1) * stride + dilation * (kernel - 1) + 1)
            for windows, (kernel, stride, padding, dilation) in zip((step.rows, step.columns), shape, strict=True)
        )
        crop = source.crop(rows, columns, fill)
    settings = {**dict(others), "padding": [0, 0], **(ends or {})}
    return Changed(_first(func(**{called: crop}, **settings)), step, trail)


def _convolution(func: Any, given: dict[str, Any]) -> Changed | None:
    if given["transposed"] or given["weight"].ndim != 4:
        return None
    return _windowed(func, given, given["weight"].shape[2:])


def _max_pool(func: Any, given: dict[str, Any]) -> tuple[Changed, Tensor]:
    made = _windowed(func, given, given["kernel_size"], -inf, {"ceil_mode": False})
    # The second result, where the maxima were, is not followed: what reads it fails.
    return made, torch.empty(made.shape, dtype=torch.long, device="meta")


def _average_pool(func: Any, given: dict[str, Any]) -> Changed | None:
    counted = given["count_include_pad"] or not any(_pair(given["padding"]))
    if given["ceil_mode"] or not counted:
        return None  # at the border the mean is over fewer
    return _windowed(func, given, given["kernel_size"])


WINDOWED: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _average_pool,
}


def _works_place_by_place(func: Any, name: str, given: dict[str, Any]) -> bool:
    """Whether an operation moves nothing in space and reads nothing that differs between places or patches."""
    read = tree_flatten(list(given.values()))[0]
    sizes = {each.shape[-2:] for each in read if isinstance(each, Changed)}
    others = [each for each in read if isinstance(each, Tensor) and not isinstance(each, Changed)]
    if len(sizes) > 1:
        return False
    if name in PLACE_BY_PLACE:
        return not given.get("training", False)
    if name == "cat":
        return not others and given["dim"] % 4 == 1
    if name == "flip":
        return [dim % 4 for dim in given["dims"]] == [1]
    # What has one number a channel is the same for all patches, unless it was made of them: batches are of 2 and more.
    constant = all(each.ndim == 0 or (set(each.shape[-2:]) == {1} and each.shape[:-3].numel() == 1) for each in others)
    written = next(iter(given.values())) if func._schema.is_mutable else None
    return torch.Tag.pointwise in func.tags and constant and not any(each is written for each in others)


def _changed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Changed]:
    return [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Changed)]


def _first(made: Any) -> Tensor:
    return made[0] if isinstance(made, (tuple, list)) else made


def _pair(values: Any) -> tuple[int, int]:
    if isinstance(values, int):
        return values, values
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def _given(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """An operation's arguments by the names of its schema, defaults filled in."""
    given = {}
    for position, argument in enumerate(func._schema.arguments):
        if position < len(args):
            given[argument.name] = args[position]
        elif argument.name in kwargs:
            given[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            given[argument.name] = argument.default_value
    return given
