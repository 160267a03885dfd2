"""Field types of cameras: intrinsics, pose, and the depths that a scene has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .field_type import FieldType, describe_shape

ROTATION_TOLERANCE = 0.01
"""Maximum of |R R^T - 1|; files state rotations with few digits."""


@dataclass(frozen=True)
class Camera(FieldType):
    """Intrinsic matrix K of a pinhole camera, (3, 3) in pixels, with pixel centers at integers."""

    rank: ClassVar[int] = 2

    def check(self, value):
        if value.shape[-2:] != (3, 3) or not np.isfinite(value).all():
            return "a finite 3x3 camera matrix", describe_shape(value)
        focal = min(value[..., 0, 0].min(), value[..., 1, 1].min())
        return None if focal > 0 else ("focal lengths above 0 px", f"{focal:g}")

    def _transform(self, value, geometry):
        return geometry.matrix(self.frame) @ value

    def collate(self, name, values):
        import torch

        # float32, as the images beside it.
        return {name: torch.from_numpy(np.stack(values).astype(np.float32))}


@dataclass(frozen=True)
class Extrinsics(FieldType):
    """Pose [R t] of a camera, (3, 4): x' = R x + t maps points of another camera's frame to its own (x right, y down,
    z forward).

    No rotation, crop or resize of the images changes it: they have another `Camera`. A flip would; tasks with cameras
    do not flip.
    """

    rank: ClassVar[int] = 2

    def check(self, value):
        if value.shape[-2:] != (3, 4) or not np.isfinite(value).all():
            return "a finite 3x4 matrix [R t]", describe_shape(value)
        rotation = value[..., :3].astype(np.float64)
        error = np.abs(rotation @ np.swapaxes(rotation, -1, -2) - np.eye(3)).max()
        determinant = np.linalg.det(rotation).min()
        if error > ROTATION_TOLERANCE or determinant < 0:
            return "a rotation R", f"R R^T off by {error:.2g}, determinant {determinant:.2g}"
        return None

    def _transform(self, value, geometry):
        return value

    def collate(self, name, values):
        import torch

        return {name: torch.from_numpy(np.stack(values).astype(np.float32))}


@dataclass(frozen=True)
class DepthRange(FieldType):
    """Nearest and farthest depth of a scene, (2,) float32 in the unit of the poses."""

    rank: ClassVar[int] = 1

    def check(self, value):
        if value.shape[-1:] != (2,) or value.dtype != np.float32 or not np.isfinite(value).all():
            return "2 finite depths, float32", describe_shape(value)
        near, far = value[..., 0].min(), value[..., 1].min()
        return None if 0 < near < far else ("depths 0 < near < far", f"{near:g} and {far:g}")

    def _transform(self, value, geometry):
        return value
