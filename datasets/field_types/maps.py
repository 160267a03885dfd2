"""Field types with a value per pixel: images, depth, flow, and classes and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from ...schema import MAX_CHANNELS
from ..core.drawing import draw_depth, draw_flow, draw_labels
from ..core.geometry import inverse_grid, transform_image, transform_points, warp_nearest
from .field_type import FieldType, FrameIndex, Names, describe_names, describe_shape

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Image(FieldType):
    """Image, (H, W, C): uint8 or uint16 over their full range, or float32 in [0, 1]. RGB if C is 3."""

    rank: ClassVar[int] = 3
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 3

    @property
    def input_channels(self) -> int:
        return self.channels

    def check(self, value):
        if value.ndim < 3 or value.shape[-1] != self.channels or min(value.shape[-3:-1]) < 1:
            return f"an image of shape HxWx{self.channels}", describe_shape(value)
        if value.dtype == np.float32 and not np.isfinite(value).all():
            return "floats in [0, 1]", "nan or inf"
        if value.dtype == np.float32 and not (value.min() >= 0 and value.max() <= 1):
            return "floats in [0, 1]", f"values from {value.min():.3g} to {value.max():.3g}"
        if value.dtype not in (np.uint8, np.uint16, np.float32):
            return "uint8, uint16 or float32", str(value.dtype)
        return None

    def _transform(self, value, geometry):
        return transform_image(value, geometry, self.frame).reshape(*geometry.size, value.shape[2])

    def collate(self, name, values):
        import torch

        stacked = np.stack(values)
        if stacked.dtype == np.uint16:
            stacked = stacked.astype(np.float32) / 65535
        # No copy: (B, H, W, C) in memory is channels_last already.
        return {name: torch.from_numpy(stacked).movedim(-1, -3)}

    def to_input(self, tensor):
        return tensor if tensor.is_floating_point() else tensor.float().div_(255)

    def _colorize(self, value, reference):
        if value.dtype == np.uint16:
            value = (value >> 8).astype(np.uint8)
        elif value.dtype != np.uint8:
            value = np.round(np.clip(value, 0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(value[..., :3], (*value.shape[:2], 3)))


@dataclass(frozen=True)
class Depth(FieldType):
    """Depth along the optical axis, (H, W) float32 in meters, nan where unknown; as an input (B, 1, H, W)."""

    rank: ClassVar[int] = 2
    input_channels: ClassVar[int] = 1

    def check(self, value):
        if value.ndim < 2 or value.dtype != np.float32:
            return "depth of shape HxW float32", describe_shape(value)
        known = value[np.isfinite(value)]
        if known.size == 0:
            return "at least one known depth", "none"
        if np.isinf(value).any() or known.min() <= 0:
            return "depths above 0 m, nan where unknown", "inf" if np.isinf(value).any() else f"{known.min():.3g} m"
        return None

    def _transform(self, value, geometry):
        warped = warp_nearest(value, geometry.matrix(self.frame), geometry.size, np.nan)
        return warped if geometry.zoom == 1 else (warped / geometry.zoom).astype(np.float32)

    def collate(self, name, values):
        return _masked(name, values, axis=None)

    def to_input(self, tensor):
        return tensor[..., None, :, :]

    def to_target(self, tensor):
        return tensor

    def _colorize(self, value, reference):
        return draw_depth(value, reference)


@dataclass(frozen=True)
class Flow(FieldType):
    """Optical flow from `frame` to `frame_to`, (H, W, 2) float32 pixels, x then y, nan where unknown."""

    rank: ClassVar[int] = 3
    input_channels: ClassVar[int] = 2
    frame: FrameIndex = 0
    frame_to: FrameIndex = 1

    def check(self, value):
        if value.ndim < 3 or value.shape[-1] != 2 or value.dtype != np.float32:
            return "flow of shape HxWx2 float32", describe_shape(value)
        return ("finite flow or nan", "inf") if np.isinf(value).any() else None

    def _transform(self, value, geometry):
        """f'(x') = M2 (x + f(x)) - x' with x = M1^-1 x'."""
        first, second = geometry.matrix(self.frame), geometry.matrix(self.frame_to)
        flow = warp_nearest(value, first, geometry.size, np.nan)
        x, y = inverse_grid(first, geometry.size)
        to_x, to_y = transform_points(second, x + flow[..., 0], y + flow[..., 1])
        columns, rows = np.meshgrid(np.arange(geometry.size[1]), np.arange(geometry.size[0]))
        return np.stack([to_x - columns, to_y - rows], axis=-1).astype(np.float32)

    def collate(self, name, values):
        batch = _masked(name, values, axis=-1)
        batch[name] = batch[name].movedim(-1, -3)
        return batch

    def _colorize(self, value, reference):
        return draw_flow(value, reference)


@dataclass(frozen=True)
class SegmentationMask(FieldType):
    """Class per pixel, (H, W) integers: indices into `names`, or `ignore` for unlabeled pixels.

    As a network's input it is one-hot, (B, classes + 1, H, W) float32; the last channel is that of unlabeled pixels.
    """

    rank: ClassVar[int] = 2
    names: Names = ()
    ignore: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 255

    def __str__(self) -> str:
        return describe_names(self.names, "labels")

    @property
    def input_channels(self) -> int:
        return len(self.names) + 1

    def check(self, value):
        if value.ndim < 2 or value.dtype.kind not in "iu":
            return "labels of shape HxW, integers", describe_shape(value)
        invalid = np.setdiff1d(np.unique(value), [*range(len(self.names)), self.ignore])
        return (f"labels below {len(self.names)} or {self.ignore}", f"label {invalid[0]}") if invalid.size else None

    def _transform(self, value, geometry):
        return warp_nearest(value, geometry.matrix(self.frame), geometry.size, self.ignore)

    def collate(self, name, values):
        import torch

        return {name: torch.from_numpy(np.stack(values).astype(np.int64))}

    def to_input(self, tensor):
        import torch

        indices = torch.where(tensor == self.ignore, len(self.names), tensor)
        return torch.nn.functional.one_hot(indices, self.input_channels).movedim(-1, -3).float()

    def to_target(self, tensor):
        return tensor

    def _colorize(self, value, reference):
        return draw_labels(value, len(self.names), self.ignore)


@dataclass(frozen=True)
class Mask(FieldType):
    """Boolean map, (H, W) bool; as an input (B, 1, H, W) float32."""

    rank: ClassVar[int] = 2
    input_channels: ClassVar[int] = 1

    def check(self, value):
        is_mask = value.ndim >= 2 and value.dtype == np.bool_
        return None if is_mask else ("a mask of shape HxW bool", describe_shape(value))

    def _transform(self, value, geometry):
        return warp_nearest(value, geometry.matrix(self.frame), geometry.size, False)

    def to_input(self, tensor):
        return tensor[..., None, :, :].float()

    def to_target(self, tensor):
        return tensor

    def _colorize(self, value, reference):
        return np.repeat(np.where(value, 255, 0).astype(np.uint8)[..., None], 3, axis=-1)


def _masked(name: str, values: list[np.ndarray], axis: int | None) -> dict[str, Tensor]:
    """Values with nan replaced by 0, and the mask of finite values; `axis` is reduced in the mask."""
    import torch

    stacked = np.stack(values).astype(np.float32)
    known = np.isfinite(stacked)
    if axis is not None:
        known = known.all(axis=axis)
        zeroed = np.where(np.expand_dims(known, axis), stacked, 0)
    else:
        zeroed = np.where(known, stacked, 0)
    return {name: torch.from_numpy(zeroed), f"{name}_mask": torch.from_numpy(known)}
