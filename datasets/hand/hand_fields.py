"""Field types of hands: depth in a cube, the cube, and joints in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..core.drawing import draw_depth
from ..core.geometry import warp_nearest
from ..field_types import NO_JOINTS, FieldType, ValidSkeleton, describe_names, describe_shape


@dataclass(frozen=True)
class CubeDepth(FieldType):
    """Depth within a cube, (H, W) float32: 0 at its front, 1 at its back and where it is empty; as an input
    (B, 1, H, W)."""

    rank: ClassVar[int] = 2
    input_channels: ClassVar[int] = 1

    def check(self, value):
        if value.ndim < 2 or value.dtype != np.float32:
            return "depth in a cube, HxW float32", describe_shape(value)
        # Comparisons with nan are false.
        inside = ((value >= 0) & (value <= 1)).all()
        return None if inside else ("depths from 0 to 1", f"values from {value.min():.3g} to {value.max():.3g}")

    def _transform(self, value, geometry):
        return warp_nearest(value, geometry.matrix(self.frame), geometry.size, 1.0)

    def to_input(self, tensor):
        return tensor[..., None, :, :]

    def to_target(self, tensor):
        return tensor

    def _colorize(self, value, reference):
        # What is in the cube has the colors of depths from 1 to 2 m.
        return draw_depth(np.where(value < 1, 1 + value, np.nan), np.array([[1.0, 2.0]]))


@dataclass(frozen=True)
class Cube(FieldType):
    """Cube in the frame of a camera, (4,) float32 millimeters: its center (x right, y down, z forward) and its side.

    No geometry changes it: a transformed image has another `Camera`.
    """

    rank: ClassVar[int] = 1

    def check(self, value):
        if value.shape[-1:] != (4,) or value.dtype != np.float32 or not np.isfinite(value).all():
            return "a cube of 4 finite numbers, float32", describe_shape(value)
        return None if (value[..., 3] > 0).all() else ("a side above 0 mm", f"{value[..., 3].min():g}")

    def _transform(self, value, geometry):
        return value


@dataclass(frozen=True)
class Joints(FieldType):
    """Joints of a skeleton in space, (J, 3) float32 millimeters in the frame of a camera: x right, y down, z forward.

    No geometry changes them: a transformed image has another `Camera`.
    """

    rank: ClassVar[int] = 2
    skeleton: ValidSkeleton = NO_JOINTS

    def __str__(self) -> str:
        return describe_names(self.skeleton.names, "joints in space")

    def check(self, value):
        expected = f"joints of shape {len(self.skeleton.names)}x3 float32"
        if value.ndim < 2 or value.shape[-2:] != (len(self.skeleton.names), 3) or value.dtype != np.float32:
            return expected, describe_shape(value)
        return None if np.isfinite(value).all() else ("finite joints", "nan or inf")

    def _transform(self, value, geometry):
        return value
