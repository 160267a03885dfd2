"""Field types of bodies in an image: the joints of a skeleton, and the box around a body."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator

from ...schema import Text
from ..core.drawing import draw_skeleton
from ..core.geometry import transform_points
from .field_type import FieldType, Names, describe_names, describe_shape


@dataclass(frozen=True)
class Skeleton:
    """Joints of a body.

    Attributes:
        names: of the joints.
        edges: pairs of joint indices between which a bone is drawn.
        pairs: (left, right) joint indices that a left-right flip exchanges.
        category: name of what has these joints ("cat"); empty if unknown, see `skeletons.category_of`. Skeletons that
            differ in it only are equal.
    """

    names: Names
    edges: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int], ...]
    category: Text = dataclasses.field(default="", compare=False)


def _check_indices(skeleton: Skeleton) -> Skeleton:
    for index in (index for pair in (*skeleton.edges, *skeleton.pairs) for index in pair):
        if not 0 <= index < len(skeleton.names):
            raise ValueError(f"its {len(skeleton.names)} joints have no index {index}")
    return skeleton


ValidSkeleton = Annotated[Skeleton, AfterValidator(_check_indices)]
"""A skeleton whose indices, which a file may state, are those of its joints."""
NO_JOINTS = Skeleton((), (), ())


@dataclass(frozen=True)
class Keypoints(FieldType):
    """Joints of a skeleton, (J, 3) float32: x and y in pixels, and a flag (0 unlabeled, 1 occluded, 2 visible)."""

    rank: ClassVar[int] = 2
    skeleton: ValidSkeleton = NO_JOINTS

    def __str__(self) -> str:
        return describe_names(self.skeleton.names, "joints")

    def check(self, value):
        joints = len(self.skeleton.names)
        if value.ndim < 2 or value.shape[-2:] != (joints, 3) or value.dtype != np.float32:
            return f"keypoints of shape {joints}x3 float32", describe_shape(value)
        if not np.isin(value[..., 2], (0, 1, 2)).all():
            return "flags 0, 1 or 2", f"flag {value[..., 2].max():g}"
        labeled = value[..., 2] > 0
        return None if np.isfinite(value[labeled]).all() else ("finite coordinates of labeled joints", "nan or inf")

    def _transform(self, value, geometry):
        matrix = geometry.matrix(self.frame)
        x, y = transform_points(matrix, value[:, 0].astype(np.float64), value[:, 1].astype(np.float64))
        # Pixel centers are at integers: the image extends half a pixel beyond the first and the last one.
        inside = (x >= -0.5) & (x < geometry.size[1] - 0.5) & (y >= -0.5) & (y < geometry.size[0] - 0.5)
        joints = np.stack([x, y, np.where(inside, value[:, 2], 0)], axis=1).astype(np.float32)
        if np.linalg.det(matrix) < 0:
            order = np.arange(len(joints))
            for left, right in self.skeleton.pairs:
                order[[left, right]] = right, left
            joints = joints[order]
        return joints

    def _colorize(self, value, reference):
        """Skeleton on a black image that is just large enough for its joints."""
        joints = value[value[:, 2] > 0]
        extent = np.ceil(joints[:, :2].max(0)).astype(int) + 3 if len(joints) else np.array([3, 3])
        return self.draw_on(np.zeros((max(extent[1], 3), max(extent[0], 3), 3), np.uint8), value)

    def draw_on(self, image: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Draw the skeleton on a copy of an image (H, W, 3) uint8."""
        return draw_skeleton(image, value, self.skeleton.edges, self.skeleton.pairs)


@dataclass(frozen=True)
class Box(FieldType):
    """Box, (4,) float32 pixels: left, top, right, bottom as centers of the outermost pixels (edges included)."""

    rank: ClassVar[int] = 1

    def check(self, value):
        if value.shape[-1:] != (4,) or not np.isfinite(value).all():
            return "a box of 4 finite numbers", describe_shape(value)
        return None if (value[..., 2:] >= value[..., :2]).all() else ("left <= right and top <= bottom", f"{value}")

    def _transform(self, value, geometry):
        left, top, right, bottom = value.astype(np.float64)
        corners = np.array([left, right, left, right]), np.array([top, top, bottom, bottom])
        x, y = transform_points(geometry.matrix(self.frame), *corners)
        x, y = x.clip(0, geometry.size[1] - 1), y.clip(0, geometry.size[0] - 1)
        return np.array([x.min(), y.min(), x.max(), y.max()], np.float32)
