"""Incremental tensor: feature maps of occluded images, computed only where they differ from the clean image.

To the model, an `IncrementalTensor` is a (B, C, H, W) tensor, one map per occluded image. It stores the map of the
clean image, shared by all, and a small tile per image. Convolutions and pools read a crop of the clean map with the
tile pasted in, and their own padding beyond the map; pointwise operations run on the tiles. This works for any Python
code in a model. Other operations (global pooling, attention) read the full maps, and everything after them runs in
full.

A tile that covers `FULL_THRESHOLD` of its map is replaced by the full map.

For changed pixels first ... last along one axis, a layer with kernel k, stride s, padding p and dilation d, and
k' = d (k - 1) + 1, changes the units

    ceil((first + p - k' + 1) / s) ... floor((last + p) / s)

clipped to the map. All other units are those of the clean image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_flatten, tree_map_only

from ...backbones.receptive_field_trace import POINTWISE_NAMES, named_arguments, window_of

FULL_THRESHOLD = 0.8
"""For larger fractions of the map, gathering the windows costs more than it saves."""
POINTWISE_FUNCTIONS = {functional.local_response_norm}
"""Pointwise functions whose inner operations are not: they use the channels as a spatial axis."""


@dataclass(frozen=True, eq=False)
class Intervals:
    """Units along one axis of a map that may have changed, for every patch.

    Attributes:
        first, last: (N,) integers, both inclusive, inside the map.
        extent: number of units of the map.
    """

    first: Tensor
    last: Tensor
    extent: int

    @cached_property
    def size(self) -> int:
        """Common size of all windows, so that they form one batch: that of the widest interval."""
        return int((self.last - self.first).max()) + 1

    @cached_property
    def start(self) -> Tensor:
        """(N,) starts of the windows of this size; near the end of the map, windows start before their interval."""
        return self.first.clamp_max(self.extent - self.size)

    @property
    def is_full(self) -> bool:
        """Whether the windows cover the entire map."""
        return self.size == self.extent

    def apply_layer(self, kernel: int, stride: int, padding: int, dilation: int, extent: int) -> Intervals:
        """Intervals after a layer whose map has `extent` units."""
        reach = dilation * (kernel - 1)
        first = -((reach - padding - self.first) // stride)
        last = (self.last + padding) // stride
        first = first.clamp(0, extent - 1)
        # A stride may skip the only changed unit; the window then contains one unchanged unit.
        return Intervals(first, torch.maximum(last.clamp(0, extent - 1), first), extent)

    def union(self, other: Intervals) -> Intervals:
        """Smallest intervals that contain both, for operations with two inputs."""
        if self is other:
            return self
        return Intervals(torch.minimum(self.first, other.first), torch.maximum(self.last, other.last), self.extent)

    def full(self) -> Intervals:
        """Intervals that cover the entire map."""
        return Intervals(torch.zeros_like(self.first), torch.full_like(self.last, self.extent - 1), self.extent)

    def same_as(self, other: Intervals) -> bool:
        """Whether both have the same windows."""
        if self is other:
            return True
        return self.size == other.size and self.extent == other.extent and torch.equal(self.start, other.start)


@dataclass
class CachedOp:
    """Result of one operation.

    Attributes:
        clean: (1, C, H, W), the map of the clean image.
        rows, columns: intervals in which the maps of the occluded images may differ from it.
    """

    clean: Tensor
    rows: Intervals
    columns: Intervals

    @property
    def is_full(self) -> bool:
        """Whether the windows cover the entire map."""
        return self.rows.is_full and self.columns.is_full


@dataclass
class CleanRunCache:
    """Results on the clean image, in the order of the operations, shared by all batches of patches.

    Attributes:
        ops: recorded during the first batch and re-used by the others.
        patch_indices: (B,) patches of the current batch.
        position: number of operations that the current batch has run.
        full_from: first operation that read full maps while the tiles were still smaller; None: there was none.
    """

    ops: list[CachedOp] = field(default_factory=list)
    patch_indices: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    position: int = 0
    full_from: str | None = None

    def begin(self, patch_indices: Tensor) -> None:
        """Start the next batch."""
        self.patch_indices, self.position = patch_indices, 0

    def get_or_compute(self, compute: Callable[[], CachedOp]) -> CachedOp:
        """The next operation: from the cache, or computed and recorded in the first batch."""
        if self.position == len(self.ops):
            op = compute()
            if op.rows.size * op.columns.size >= FULL_THRESHOLD * op.rows.extent * op.columns.extent:
                op = CachedOp(op.clean, op.rows.full(), op.columns.full())
            self.ops.append(op)
        self.position += 1
        return self.ops[self.position - 1]


class IncrementalTensor(Tensor):
    """(B, C, H, W) maps, of which only tiles are stored.

    Attributes:
        tiles: (B, C, h, w), the maps in the windows of `op` for the current patches.
        op: map of the clean image and windows of all patches.
        cache: cache of the run.
    """

    tiles: Tensor
    op: CachedOp
    cache: CleanRunCache

    @staticmethod
    def __new__(cls, tiles: Tensor, op: CachedOp, cache: CleanRunCache) -> IncrementalTensor:
        shape = (len(tiles), *op.clean.shape[1:])
        result: IncrementalTensor = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=tiles.dtype, device=tiles.device
        )
        result.tiles, result.op, result.cache = tiles, op, cache
        return result

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"IncrementalTensor({tuple(self.tiles.shape)} of {tuple(self.shape)})"

    def to_full(self) -> Tensor:
        """The full maps as a plain tensor."""
        return self.read(self.op.rows.full(), self.op.columns.full())

    def materialize(self) -> None:
        """Store the full maps, contiguous, so that views of the tensor are views of the stored data."""
        self.tiles = self.to_full().contiguous()
        self.op = CachedOp(self.op.clean, self.op.rows.full(), self.op.columns.full())

    def read(self, rows: Intervals, columns: Intervals) -> Tensor:
        """The maps in other windows, (B, C, h, w)."""
        if rows.same_as(self.op.rows) and columns.same_as(self.op.columns):
            return self.tiles
        patch_indices = self.cache.patch_indices
        return self.crop((rows.start[patch_indices], rows.size), (columns.start[patch_indices], columns.size))

    def crop(self, rows: tuple[Tensor, int], columns: tuple[Tensor, int], fill: float = 0.0) -> Tensor:
        """The maps in windows of (B,) starts and a size, (B, C, h, w); beyond the map they are `fill`."""
        patch_indices = self.cache.patch_indices
        batch, _, height, width = self.tiles.shape
        ys, xs = (start[:, None] + torch.arange(size, device=start.device) for start, size in (rows, columns))
        result = gather_windows(self.op.clean, ys, xs, fill)
        ys, xs = ys - self.op.rows.start[patch_indices, None], xs - self.op.columns.start[patch_indices, None]
        inside = ((ys >= 0) & (ys < height))[:, :, None] & ((xs >= 0) & (xs < width))[:, None, :]
        batch_index = torch.arange(batch, device=ys.device)[:, None, None]
        sources = ((batch_index * height + ys[:, :, None]) * width + xs[:, None, :])[inside]
        _pixel_rows(result)[inside.flatten()] = _pixel_rows(self.tiles).index_select(0, sources)
        return result

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in POINTWISE_FUNCTIONS:
            return apply_pointwise(func, args, kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {})


def gather_windows(clean: Tensor, ys: Tensor, xs: Tensor, fill: float = 0.0) -> Tensor:
    """Crops (B, C, h, w) of one map (1, C, H, W) at (B, h) rows and (B, w) columns; outside of the map `fill`."""
    channels, height, width = clean.shape[1:]
    positions = ys.clamp(0, height - 1)[:, :, None] * width + xs.clamp(0, width - 1)[:, None, :]
    result = _pixel_rows(clean).index_select(0, positions.flatten())
    beyond = ((ys < 0) | (ys >= height))[:, :, None] | ((xs < 0) | (xs >= width))[:, None, :]
    if bool(beyond.any()):
        result[beyond.flatten()] = fill
    return result.view(len(ys), ys.shape[1], xs.shape[1], channels).permute(0, 3, 1, 2)


def occluded_maps(
    image: Tensor, cover: Tensor, corners: tuple[Tensor, Tensor], patch: tuple[int, int], cache: CleanRunCache
) -> Callable[[Tensor], IncrementalTensor]:
    """Function that returns a batch of occluded images, given the indices of its patches.

    Patches with (N,) first rows and first columns at `corners` show `cover` (1, C, H, W) instead of `image`, the clean
    one; they may extend beyond it. The cache is empty.
    """
    windows = [
        Intervals(start, (start + length).clamp_max(extent) - 1, extent)
        for start, length, extent in zip(corners, patch, image.shape[-2:], strict=True)
    ]
    # Channels last, because pixels are gathered with all their channels.
    op = CachedOp(image.contiguous(memory_format=torch.channels_last), windows[0], windows[1])

    def cover_patches(patch_indices: Tensor) -> IncrementalTensor:
        cache.begin(patch_indices)
        ys, xs = (
            each.start[patch_indices, None] + torch.arange(each.size, device=each.start.device) for each in windows
        )
        tiles = gather_windows(cover, ys, xs)
        # Windows at the border start before their patch.
        rows, columns = (at >= each.first[patch_indices, None] for at, each in zip((ys, xs), windows, strict=True))
        covered = (rows[:, None, :, None]) & (columns[:, None, None, :])
        if not bool(covered.all()):
            tiles = torch.where(covered, tiles, gather_windows(op.clean, ys, xs))
        return IncrementalTensor(tiles, op, cache)

    return cover_patches


def _pixel_rows(maps: Tensor) -> Tensor:
    """(B, C, h, w) as (B h w, C)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def dispatch(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation with `IncrementalTensor` arguments."""
    name, arguments = func.overloadpacket.__name__, named_arguments(func, args, kwargs)
    if isinstance(args[0], IncrementalTensor) and (result := _run_windowed(func, name, arguments)) is not None:
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
    window: tuple[tuple[int, int], ...],
    fill: float = 0.0,
    overrides: dict[str, bool] | None = None,
) -> IncrementalTensor:
    """Run a convolution or a pool on crops, whose padding is `fill`; the map is its only or first result."""
    (input_name, source), *others = arguments.items()
    cache = source.cache
    geometry = list(zip(*window, strict=True))

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


def _run_windowed(func: Any, name: str, arguments: dict[str, Any]) -> Any:
    """Run a convolution or a pool on crops; None for other operations."""
    window = window_of(name, arguments)
    if window is None:
        return None
    if name == "max_pool2d_with_indices":
        result = _windowed(func, arguments, window, -inf, {"ceil_mode": False})
        # The second result, the indices of the maxima, is not supported: on the meta device, reading it fails.
        return result, torch.empty(result.shape, dtype=torch.long, device="meta")
    if name == "avg_pool2d" and (arguments["ceil_mode"] or not (arguments["count_include_pad"] or window[2] == (0, 0))):
        return None  # the divisor is smaller at the border
    return _windowed(func, arguments, window)


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
