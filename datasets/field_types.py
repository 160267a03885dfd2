"""Field types: how the values of a field are checked, transformed by a geometry, batched and visualized.

A field type is a frozen dataclass; its attributes are its parameters. Shapes below are those of one sample. A leading
axis T (clips) or N (views) is allowed everywhere; its entries are transformed one by one with the same matrix.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, Field

from ..registry import lookup
from ..schema import MAX_CHANNELS, MAX_CLASSES, Schema, Text, create_dataclass, validate
from .core.drawing import draw_depth, draw_flow, draw_labels, draw_skeleton
from .core.geometry import Geometry, inverse_grid, transform_image, transform_points, warp_nearest

if TYPE_CHECKING:
    from torch import Tensor

# The bounds hold for what a file states, see `fields_from_json`.
Names = Annotated[tuple[Text, ...], Field(max_length=MAX_CLASSES)]
FrameIndex = Annotated[int, Field(ge=0, lt=1000)]
Mismatch = tuple[str, str]
"""(expected, found), for a `Problem`."""
ROTATION_TOLERANCE = 0.01
"""Maximum of |R R^T - 1|; files state rotations with few digits."""


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
class FieldType(ABC):
    """Base class of the field types.

    Attributes:
        rank: number of axes of the value of one sample, without a leading T or N.
        input_channels: channels C of the field as a network's input (B, C, H, W); 0 if it is not a map of pixels.
        frame: index of the frame that the field belongs to; it selects the matrix of a geometry.
    """

    rank: ClassVar[int]
    input_channels: ClassVar[int] = 0
    # Keyword-only, so that the parameters of the subclasses come first: Image(1) is a gray image.
    frame: FrameIndex = dataclasses.field(default=0, kw_only=True)

    def __str__(self) -> str:
        """Short description for messages; types with class or joint names state how many and the first three."""
        return type(self).__name__

    @abstractmethod
    def check(self, value: np.ndarray) -> Mismatch | None:
        """Compare a value with the contract of this type: (expected, found), or None if it is valid."""

    def transform(self, value: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Apply a geometry to a value, entry by entry if it has a leading axis."""
        if value.ndim > self.rank:
            return np.stack([self.transform(entry, geometry) for entry in value])
        return self._transform(value, geometry)

    @abstractmethod
    def _transform(self, value: np.ndarray, geometry: Geometry) -> np.ndarray:
        """`transform` of one entry, without a leading T or N."""

    def collate(self, name: str, values: list[np.ndarray]) -> dict[str, Tensor]:
        """Batch values as tensor `name`; types with invalid values add a bool tensor `name_mask`.

        Invalid values (nan) become 0, since 0 * nan is nan. Images and flow become (B, C, H, W).
        """
        import torch

        return {name: torch.from_numpy(np.stack(values))}

    def to_input(self, tensor: Tensor) -> Tensor:
        """Convert a batched tensor on its device to the input of a network, for example uint8 to float32 in [0, 1]."""
        return tensor

    def to_target(self, tensor: Tensor) -> Tensor:
        """Convert a batched tensor on its device to the target of a loss; as an input, if not stated otherwise."""
        return self.to_input(tensor)

    def colorize(self, value: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
        """Visualize a value as (H, W, 3) uint8 RGB, the entries of a leading axis side by side.

        Args:
            value: one sample's value.
            reference: a value whose range sets the color scale (the ground truth); `value` if None.

        Raises:
            TypeError: the type has no visualization (camera, box, class, scalar).
        """
        if value.ndim > self.rank:
            references = value if reference is None else reference
            return np.concatenate([self.colorize(*pair) for pair in zip(value, references, strict=True)], axis=1)
        return self._colorize(value, value if reference is None else reference)

    def _colorize(self, value: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """`colorize` of one entry, without a leading T or N."""
        raise TypeError(f"{type(self).__name__} has no visualization")


def describe_names(names: tuple[str, ...], what: str) -> str:
    """How many names there are of something, and the first three."""
    return f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def describe_shape(value: np.ndarray) -> str:
    """Shape and type of an array, for messages."""
    return "x".join(map(str, value.shape)) + f" {value.dtype}"


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


@dataclass(frozen=True)
class ClassLabel(FieldType):
    """Class of an image: one integer, an index into `names`."""

    rank: ClassVar[int] = 0
    names: Names = ()

    def __str__(self) -> str:
        return describe_names(self.names, "classes")

    def check(self, value):
        if value.dtype.kind not in "iu":
            return "a class as an integer", str(value.dtype)
        valid = (value >= 0).all() and (value < len(self.names)).all()
        return None if valid else (f"a class from 0 to {len(self.names) - 1}", f"{value}")

    def _transform(self, value, geometry):
        return value

    def collate(self, name, values):
        import torch

        return {name: torch.from_numpy(np.asarray(values, np.int64))}


@dataclass(frozen=True)
class Scalar(FieldType):
    """One number, which no geometry changes: for example a score."""

    rank: ClassVar[int] = 0

    def check(self, value):
        return None if np.isfinite(value).all() else ("a finite number", f"{value}")

    def _transform(self, value, geometry):
        return value

    def collate(self, name, values):
        import torch

        # float32: a loss in float64 fails on some devices.
        return {name: torch.from_numpy(np.asarray(values, np.float32))}


@dataclass(frozen=True)
class Noise(FieldType):
    """A vector of normal noise, (length,) float32, from which a network generates; no geometry changes it.

    Attributes:
        length: number of values.
    """

    rank: ClassVar[int] = 1
    length: int = 100

    def check(self, value):
        return None if value.shape[-1:] == (self.length,) else (f"{self.length} numbers", str(value.shape))

    def _transform(self, value, geometry):
        return value


FIELD_TYPES: dict[str, Any] = {
    **{
        field_type.__name__: field_type
        for field_type in (
            *(Image, Depth, Flow, SegmentationMask, Mask, Keypoints, Box, Camera, Extrinsics, DepthRange, ClassLabel),
            *(Scalar, Noise),
        )
    },
    **{name: f"datasets.hand.hand_fields:{name}" for name in ("CubeDepth", "Cube", "Joints")},
}
"""Name to class, or to the "module:attribute" of one that is defined beside its datasets."""


def fields_to_json(fields: dict[str, FieldType]) -> dict[str, dict[str, Any]]:
    """Convert field types to plain values, for the header of a checkpoint."""
    return {
        name: {"kind": type(field_type).__name__, **dataclasses.asdict(field_type)}
        for name, field_type in fields.items()
    }


class StoredField(Schema):
    """A field type in the header of a checkpoint: the name of its class, and the attributes of that class."""

    kind: str


def fields_from_json(stored: dict[str, dict[str, Any]], source: str = "The header") -> dict[str, FieldType]:
    """Field types from what `fields_to_json` returned.

    Args:
        stored: `kind` and attributes by name of the field.
        source: what states them, to begin error messages.

    Raises:
        UserError: an unknown kind, or attributes that are not as its class says.
    """
    fields, remedy = {}, "copy the file again"
    for name, values in stored.items():
        where = f"{source}, in the field '{name}',"
        kind = validate(StoredField, values, where, remedy).kind
        attributes = {key: value for key, value in values.items() if key != "kind"}
        fields[name] = create_dataclass(lookup("field type", kind, FIELD_TYPES), attributes, where, remedy)
    return fields


def transform_sample(
    sample: dict[str, np.ndarray], fields: dict[str, FieldType], geometry: Geometry
) -> dict[str, np.ndarray]:
    """Apply one geometry to every field of a sample."""
    return {name: field_type.transform(sample[name], geometry) for name, field_type in fields.items() if name in sample}


def collate(samples: list[dict[str, np.ndarray]], fields: dict[str, FieldType]) -> dict[str, Tensor]:
    """Batch samples of equal size: the tensor of every field, and its mask where values may be invalid."""
    batch: dict[str, Tensor] = {}
    for name, field_type in fields.items():
        batch.update(field_type.collate(name, [sample[name] for sample in samples]))
    return batch
