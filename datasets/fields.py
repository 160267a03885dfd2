"""The kinds of field: how each is checked, moved by a geometry, batched, and drawn (with the pens of `drawing`).

A kind is a frozen value with parameters. Shapes below are those of one sample; a leading T (clips) or N (views)
is allowed everywhere and moved frame by frame with the same matrix.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .drawing import draw_depth, draw_flow, draw_labels, draw_skeleton
from .geometry import Geometry, move_picture, move_points, sources, warp_nearest

if TYPE_CHECKING:
    from torch import Tensor

Wrong = tuple[str, str]
"""What was expected and what was found."""


@dataclass(frozen=True)
class Skeleton:
    """The joints of a body: names, edges to draw, and the pairs that a flip exchanges."""

    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Kind(ABC):
    """What every kind can do. `rank` is the number of axes of one sample's value, without a leading T or N."""

    rank: ClassVar[int]
    # By keyword, so that a kind's own parameters come first: Image(1) is a grey picture.
    frame: int = dataclasses.field(default=0, kw_only=True)

    def __str__(self) -> str:
        """For sentences. Kinds with names say how many and which."""
        return type(self).__name__

    @abstractmethod
    def check(self, value: np.ndarray) -> Wrong | None:
        """What was expected and what was found, None where the value is sound."""

    def move(self, value: np.ndarray, geometry: Geometry) -> np.ndarray:
        """The value after the geometry. A leading axis is moved entry by entry."""
        if value.ndim > self.rank:
            return np.stack([self.move(entry, geometry) for entry in value])
        return self._move(value, geometry)

    @abstractmethod
    def _move(self, value: np.ndarray, geometry: Geometry) -> np.ndarray:
        """`move` of one entry, without a leading T or N."""

    def collate(self, name: str, values: list[np.ndarray]) -> dict[str, Tensor]:
        """A batch of values: `name`, and `name_mask` where values may be invalid (zero there, since 0 * nan is nan)."""
        import torch

        return {name: torch.from_numpy(np.stack(values))}

    def arrive(self, tensor: Tensor) -> Tensor:
        """What a batch becomes on its device; pictures travel as integers and turn into floats here."""
        return tensor

    def draw(self, value: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
        """A picture for eyes, (H, W, 3) uint8 RGB. `like` is a value whose range is to be used (the truth's).

        Raises:
            TypeError: a camera, a box or a number alone is nothing to look at.
        """
        raise TypeError(f"a {type(self).__name__} has no picture of its own")


def _named(names: tuple[str, ...], what: str) -> str:
    return f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _shape(value: np.ndarray) -> str:
    return "x".join(map(str, value.shape)) + f" {value.dtype}"


def _masked(name: str, values: list[np.ndarray], axis: int | None) -> dict[str, Tensor]:
    """Values with nan replaced by zero, beside the mask of what was known."""
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
class Image(Kind):
    """A picture, (H, W, C): uint8 or uint16 over their full range, or float32 in [0, 1]. RGB where C is 3."""

    rank: ClassVar[int] = 3
    channels: int = 3

    def check(self, value):
        if value.ndim < 3 or value.shape[-1] != self.channels or min(value.shape[-3:-1]) < 1:
            return f"a picture of shape HxWx{self.channels}", _shape(value)
        if value.dtype == np.float32 and not np.isfinite(value).all():
            return "floats in [0, 1]", "nan or inf"
        if value.dtype == np.float32 and not (value.min() >= 0 and value.max() <= 1):
            return "floats in [0, 1]", f"values from {value.min():.3g} to {value.max():.3g}"
        if value.dtype not in (np.uint8, np.uint16, np.float32):
            return "uint8, uint16 or float32", str(value.dtype)
        return None

    def _move(self, value, geometry):
        moved = move_picture(value, geometry, self.frame)
        return moved.reshape(*geometry.size, value.shape[2])

    def collate(self, name, values):
        import torch

        stacked = np.stack(values)
        if stacked.dtype == np.uint16:
            stacked = stacked.astype(np.float32) / 65535
        # A view, not a copy: (B, H, W, C) in memory is channels_last already.
        return {name: torch.from_numpy(stacked).movedim(-1, -3)}

    def arrive(self, tensor):
        return tensor if tensor.is_floating_point() else tensor.float().div_(255)

    def draw(self, value, like=None):
        if value.dtype == np.uint16:
            value = (value >> 8).astype(np.uint8)
        elif value.dtype != np.uint8:
            value = np.round(np.clip(value, 0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(value[..., :3], (*value.shape[:2], 3)))


@dataclass(frozen=True)
class Depth(Kind):
    """Distance along the camera axis, (H, W) float32 metres, nan where unknown."""

    rank: ClassVar[int] = 2

    def check(self, value):
        if value.ndim < 2 or value.dtype != np.float32:
            return "depth of shape HxW float32", _shape(value)
        known = value[np.isfinite(value)]
        if known.size == 0:
            return "at least one known depth", "none"
        if np.isinf(value).any() or known.min() <= 0:
            return "depths above 0 m, nan where unknown", "inf" if np.isinf(value).any() else f"{known.min():.3g} m"
        return None

    def _move(self, value, geometry):
        moved = warp_nearest(value, geometry.matrix(self.frame), geometry.size, np.nan)
        return moved if geometry.zoom == 1 else (moved / geometry.zoom).astype(np.float32)

    def collate(self, name, values):
        return _masked(name, values, axis=None)

    def draw(self, value, like=None):
        return draw_depth(value, value if like is None else like)


@dataclass(frozen=True)
class Flow(Kind):
    """Motion from one frame to another, (H, W, 2) float32 pixels, x then y, nan where unknown."""

    rank: ClassVar[int] = 3
    frame: int = 0
    frame_to: int = 1

    def check(self, value):
        if value.ndim < 3 or value.shape[-1] != 2 or value.dtype != np.float32:
            return "flow of shape HxWx2 float32", _shape(value)
        return ("finite flow or nan", "inf") if np.isinf(value).any() else None

    def _move(self, value, geometry):
        """f'(x') = M2 (x + f(x)) - x' with x = M1^-1 x'."""
        first, second = geometry.matrix(self.frame), geometry.matrix(self.frame_to)
        flow = warp_nearest(value, first, geometry.size, np.nan)
        x, y = sources(first, geometry.size)
        to_x, to_y = move_points(second, x + flow[..., 0], y + flow[..., 1])
        columns, rows = np.meshgrid(np.arange(geometry.size[1]), np.arange(geometry.size[0]))
        return np.stack([to_x - columns, to_y - rows], axis=-1).astype(np.float32)

    def collate(self, name, values):
        batch = _masked(name, values, axis=-1)
        batch[name] = batch[name].movedim(-1, -3)
        return batch

    def draw(self, value, like=None):
        return draw_flow(value, value if like is None else like)


@dataclass(frozen=True)
class Labels(Kind):
    """A class per pixel, (H, W) integers: positions in `names`, or `ignore` where nothing is said."""

    rank: ClassVar[int] = 2
    names: tuple[str, ...] = ()
    ignore: int = 255

    def __str__(self) -> str:
        return _named(self.names, "labels")

    def check(self, value):
        if value.ndim < 2 or value.dtype.kind not in "iu":
            return "labels of shape HxW, integers", _shape(value)
        odd = np.setdiff1d(np.unique(value), [*range(len(self.names)), self.ignore])
        return (f"labels below {len(self.names)} or {self.ignore}", f"label {odd[0]}") if odd.size else None

    def _move(self, value, geometry):
        return warp_nearest(value, geometry.matrix(self.frame), geometry.size, self.ignore)

    def collate(self, name, values):
        import torch

        return {name: torch.from_numpy(np.stack(values).astype(np.int64))}

    def draw(self, value, like=None):
        return draw_labels(value, len(self.names), self.ignore)


@dataclass(frozen=True)
class OneHot(Labels):
    """Labels as a network takes them: a channel for every class, and a last one for where nothing is said.

    No set stores it; a task says in `prepared` which of a set's labels go in so.
    """

    @property
    def channels(self) -> int:
        return len(self.names) + 1

    def arrive(self, tensor):
        import torch

        places = torch.where(tensor == self.ignore, len(self.names), tensor)
        return torch.nn.functional.one_hot(places, self.channels).movedim(-1, 1).float()


@dataclass(frozen=True)
class Mask(Kind):
    """Yes or no per pixel, (H, W) bool."""

    rank: ClassVar[int] = 2

    def check(self, value):
        return None if value.ndim >= 2 and value.dtype == np.bool_ else ("a mask of shape HxW bool", _shape(value))

    def _move(self, value, geometry):
        return warp_nearest(value, geometry.matrix(self.frame), geometry.size, False)

    def draw(self, value, like=None):
        return np.repeat(np.where(value, 255, 0).astype(np.uint8)[..., None], 3, axis=-1)


@dataclass(frozen=True)
class Keypoints(Kind):
    """Joints of a skeleton, (J, 3) float32: x, y in pixels, and 0 unlabelled, 1 occluded, 2 visible."""

    rank: ClassVar[int] = 2
    skeleton: Skeleton = Skeleton((), (), ())

    def __str__(self) -> str:
        return _named(self.skeleton.names, "joints")

    def check(self, value):
        joints = len(self.skeleton.names)
        if value.ndim < 2 or value.shape[-2:] != (joints, 3) or value.dtype != np.float32:
            return f"keypoints of shape {joints}x3 float32", _shape(value)
        if not np.isin(value[..., 2], (0, 1, 2)).all():
            return "flags 0, 1 or 2", f"flag {value[..., 2].max():g}"
        labelled = value[..., 2] > 0
        return None if np.isfinite(value[labelled]).all() else ("finite coordinates of labelled joints", "nan or inf")

    def _move(self, value, geometry):
        matrix = geometry.matrix(self.frame)
        x, y = move_points(matrix, value[:, 0].astype(np.float64), value[:, 1].astype(np.float64))
        # A pixel reaches half a pixel beyond its centre on either side.
        inside = (x >= -0.5) & (x < geometry.size[1] - 0.5) & (y >= -0.5) & (y < geometry.size[0] - 0.5)
        moved = np.stack([x, y, np.where(inside, value[:, 2], 0)], axis=1).astype(np.float32)
        if np.linalg.det(matrix) < 0:
            order = np.arange(len(moved))
            for left, right in self.skeleton.pairs:
                order[[left, right]] = right, left
            moved = moved[order]
        return moved

    def draw(self, value, like=None):
        """The skeleton alone, on black, as large as its joints need."""
        joints = value[value[:, 2] > 0]
        extent = np.ceil(joints[:, :2].max(0)).astype(int) + 3 if len(joints) else np.array([3, 3])
        return self.draw_on(np.zeros((max(extent[1], 3), max(extent[0], 3), 3), np.uint8), value)

    def draw_on(self, picture: np.ndarray, value: np.ndarray) -> np.ndarray:
        """The skeleton over a copy of a picture."""
        return draw_skeleton(picture, value, self.skeleton.edges, self.skeleton.pairs)


@dataclass(frozen=True)
class Box(Kind):
    """A rectangle, (4,) float32 pixels: left, top, right, bottom, edges included as in pixel centres."""

    rank: ClassVar[int] = 1

    def check(self, value):
        if value.shape[-1:] != (4,) or not np.isfinite(value).all():
            return "a box of 4 finite numbers", _shape(value)
        return None if (value[..., 2:] >= value[..., :2]).all() else ("left <= right and top <= bottom", f"{value}")

    def _move(self, value, geometry):
        left, top, right, bottom = value.astype(np.float64)
        corners = np.array([left, right, left, right]), np.array([top, top, bottom, bottom])
        x, y = move_points(geometry.matrix(self.frame), *corners)
        x, y = x.clip(0, geometry.size[1] - 1), y.clip(0, geometry.size[0] - 1)
        return np.array([x.min(), y.min(), x.max(), y.max()], np.float32)


@dataclass(frozen=True)
class Camera(Kind):
    """A pinhole camera's matrix K, (3, 3) in pixels with pixel centres at integers."""

    rank: ClassVar[int] = 2

    def check(self, value):
        if value.shape[-2:] != (3, 3) or not np.isfinite(value).all():
            return "a finite 3x3 camera matrix", _shape(value)
        focal = min(value[..., 0, 0].min(), value[..., 1, 1].min())
        return None if focal > 0 else ("focal lengths above 0 px", f"{focal:g}")

    def _move(self, value, geometry):
        return geometry.matrix(self.frame) @ value


@dataclass(frozen=True)
class Category(Kind):
    """What a whole picture shows: one integer, a position in `names`."""

    rank: ClassVar[int] = 0
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return _named(self.names, "classes")

    def check(self, value):
        if value.dtype.kind not in "iu":
            return "a class as an integer", str(value.dtype)
        sound = (value >= 0).all() and (value < len(self.names)).all()
        return None if sound else (f"a class from 0 to {len(self.names) - 1}", f"{value}")

    def _move(self, value, geometry):
        return value

    def collate(self, name, values):
        import torch

        return {name: torch.from_numpy(np.asarray(values, np.int64))}


@dataclass(frozen=True)
class Number(Kind):
    """One number that no geometry touches: a score."""

    rank: ClassVar[int] = 0

    def check(self, value):
        return None if np.isfinite(value).all() else ("a finite number", f"{value}")

    def _move(self, value, geometry):
        return value

    def collate(self, name, values):
        import torch

        return {name: torch.from_numpy(np.asarray(values))}


KINDS: dict[str, type[Kind]] = {
    kind.__name__: kind for kind in (Image, Depth, Flow, Labels, Mask, Keypoints, Box, Camera, Category, Number)
}


def fields_to_json(fields: dict[str, Kind]) -> dict[str, dict[str, Any]]:
    """The fields as plain data, for a checkpoint's header."""
    return {name: {"kind": type(kind).__name__, **dataclasses.asdict(kind)} for name, kind in fields.items()}


def fields_from_json(stored: dict[str, dict[str, Any]]) -> dict[str, Kind]:
    """The fields that `fields_to_json` wrote."""
    fields = {}
    for name, values in stored.items():
        arguments = {key: _tuples(value) for key, value in values.items() if key != "kind"}
        if "skeleton" in arguments:
            arguments["skeleton"] = Skeleton(**{k: _tuples(v) for k, v in values["skeleton"].items()})
        fields[name] = KINDS[values["kind"]](**arguments)
    return fields


def _tuples(value: Any) -> Any:
    return tuple(_tuples(entry) for entry in value) if isinstance(value, (list, tuple)) else value


def move_sample(sample: dict[str, np.ndarray], fields: dict[str, Kind], geometry: Geometry) -> dict[str, np.ndarray]:
    """Every field of a sample through one geometry."""
    return {name: kind.move(sample[name], geometry) for name, kind in fields.items() if name in sample}


def collate(samples: list[dict[str, np.ndarray]], fields: dict[str, Kind]) -> dict[str, Tensor]:
    """A batch of equal-sized samples: per field its tensor, and its mask where values may be invalid."""
    batch: dict[str, Tensor] = {}
    for name, kind in fields.items():
        batch.update(kind.collate(name, [sample[name] for sample in samples]))
    return batch
