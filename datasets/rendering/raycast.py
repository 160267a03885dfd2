"""Exact ray casting of boxes, cylinders and ellipsoids: which solid a pixel sees, and how far.

Scene frame: meters, z up. Camera frame: x right, y down, z forward. Pixel centers at integers.
A ray is written origin + depth * direction with a direction of unit *camera-axis* component, so the
parameter of the hit is the z-depth itself and never has to be converted from a ray length.

Speed comes from one idea: every solid is projected first, and only the pixels of its bounding
rectangle are intersected with it. All rectangles of all solids form one long list of (pixel, solid)
pairs, and numpy walks that list once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

BOX, CYLINDER, ELLIPSOID = 0, 1, 2
NEAR_PLANE = 0.05
PAIRS_PER_CHUNK = 32768  # the dozen temporaries of one chunk stay in the second-level cache
_CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_EDGES = np.array([(a, b) for a in range(8) for b in (a ^ 1, a ^ 2, a ^ 4) if a < b])


@dataclass(frozen=True)
class Camera:
    """A pin-hole camera.

    Args:
        position: (3,) meters.
        axes: (3, 3); its columns are the camera's x, y and z axes in the scene frame.
        focal: focal length in pixels.
        height, width: of the image, in pixels; the principal point is its center.
    """

    position: np.ndarray
    axes: np.ndarray
    focal: float
    height: int
    width: int

    @property
    def matrix(self) -> np.ndarray:
        """The intrinsic matrix K, (3, 3) float64."""
        cx, cy = (self.width - 1) / 2, (self.height - 1) / 2
        return np.array([[self.focal, 0, cx], [0, self.focal, cy], [0, 0, 1]], np.float64)

    @cached_property
    def ray_matrix(self) -> np.ndarray:
        """(3, 3): direction in the scene frame of the ray through pixel (u, v) is ray_matrix @ (u, v, 1)."""
        return self.axes @ np.linalg.inv(self.matrix)

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of every pixel, (H * W,) float32 each, row by row."""
        v, u = np.divmod(np.arange(self.height * self.width), self.width)
        return u.astype(np.float32), v.astype(np.float32)

    def points(self, u: np.ndarray, v: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Points in the scene frame (3, Q) of pixels u, v (Q,) at z-depth (Q,)."""
        rays = self.ray_matrix.astype(np.float32)
        directions = rays[:, 0:1] * u + rays[:, 1:2] * v + rays[:, 2:3]
        return self.position.astype(np.float32)[:, None] + directions * depth


def look(yaw: float, pitch: float, roll: float = 0.0) -> np.ndarray:
    """Axes (3, 3) of a camera that looks along +x turned left by yaw and up by pitch (radians)."""
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    level_right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    level_down = np.cross(forward, level_right)
    right = np.cos(roll) * level_right + np.sin(roll) * level_down
    return np.stack([right, np.cross(forward, right), forward], axis=1)


@dataclass(frozen=True)
class Solids:
    """P solids: a unit cube, cylinder (upright) or ball, scaled, turned about z and moved.

    Args:
        kind: (P,) BOX, CYLINDER or ELLIPSOID, in ascending order.
        center, half: (P, 3) meters; `half` is half the size along the solid's own axes.
        yaw: (P,) radians, the turn about the vertical.
    """

    kind: np.ndarray
    center: np.ndarray
    half: np.ndarray
    yaw: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def subset(self, chosen: np.ndarray) -> Solids:
        return Solids(self.kind[chosen], self.center[chosen], self.half[chosen], self.yaw[chosen])

    @cached_property
    def own_axes(self) -> np.ndarray:
        """(P, 3, 3): rows are the solid's axes in the scene frame, so own_axes @ x is x in its frame."""
        axes = np.zeros((len(self), 3, 3))
        axes[:, 0, 0] = axes[:, 1, 1] = np.cos(self.yaw)
        axes[:, 0, 1] = np.sin(self.yaw)
        axes[:, 1, 0] = -axes[:, 0, 1]
        axes[:, 2, 2] = 1
        return axes

    def corners(self) -> np.ndarray:
        """Corners of the solids' bounding boxes in the scene frame, (P, 8, 3) meters."""
        return self.center[:, None] + (_CORNERS * self.half[:, None]) @ self.own_axes

    def unit_rays(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """The camera in each solid's unit frame, where the solid has half size one.

        Returns: origin (3, P) and coefficients (3, 3, P), float32: the direction through pixel
        (u, v) is coefficients[:, 0] * u + coefficients[:, 1] * v + coefficients[:, 2].
        """
        to_unit = self.own_axes / self.half[:, :, None]
        origin = np.einsum("pij,pj->ip", to_unit, camera.position - self.center)
        coefficients = np.einsum("pij,jk->ikp", to_unit, camera.ray_matrix)
        return origin.astype(np.float32), coefficients.astype(np.float32)


def span(kind: int, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where Q rays enter and leave the unit solid of one kind.

    Args:
        origin, direction: (3, Q) float32 in the solid's unit frame.

    Returns:
        enter, leave: (Q,) ray parameters; the ray misses where not enter <= leave.
    """
    if kind == ELLIPSOID:
        return _ball_span(origin, direction)
    if kind == CYLINDER:
        enter, leave = _ball_span(origin[:2], direction[:2])
        first_slab = 2
    else:
        enter, leave = _slab_span(origin[0], direction[0])
        first_slab = 1
    for axis in range(first_slab, 3):
        slab_enter, slab_leave = _slab_span(origin[axis], direction[axis])
        np.maximum(enter, slab_enter, out=enter)
        np.minimum(leave, slab_leave, out=leave)
    return enter, leave


def _slab_span(origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inverse = np.float32(1) / (direction + np.float32(1e-20))  # a ray in the slab's plane: no nan
    middle = origin * inverse
    np.negative(middle, out=middle)
    reach = np.abs(inverse, out=inverse)
    return middle - reach, np.add(middle, reach, out=middle)


def _ball_span(origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    squared = (direction * direction).sum(0)
    np.maximum(squared, np.float32(1e-20), out=squared)
    middle = -(origin * direction).sum(0) / squared
    nearest = origin + direction * middle
    with np.errstate(invalid="ignore"):  # sqrt of a negative number is nan: a miss
        reach = np.sqrt((np.float32(1) - (nearest * nearest).sum(0)) / squared)
    return middle - reach, middle + reach


def cast(camera: Camera, solids: Solids) -> tuple[np.ndarray, np.ndarray]:
    """What every pixel center sees first.

    Returns:
        depth: (H * W,) float32 meters along the camera axis, inf where nothing is hit.
        solid: (H * W,) int64 index of the solid, -1 where nothing is hit.
    """
    count = camera.height * camera.width
    depth = np.full(count, np.inf, np.float32)
    solid = np.full(count, -1)
    hits = list(_hits(camera, solids))
    if not hits:
        return depth, solid
    pixel, hit_depth, hit_solid = (np.concatenate(part) for part in zip(*hits, strict=True))
    np.minimum.at(depth, pixel, hit_depth)
    first = hit_depth == depth[pixel]
    solid[pixel[first]] = hit_solid[first]
    return depth, solid


def _hits(camera: Camera, solids: Solids) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pixel, depth and solid of every entry into any solid, hidden ones too, in chunks."""
    origin, coefficients = solids.unit_rays(camera)
    left, right, top, bottom = _bounding_rectangles(camera, solids)
    rows = np.where(right > left, bottom - top, 0)
    row_solid = np.repeat(np.arange(len(solids)), rows)
    row = np.arange(len(row_solid)) - np.repeat(rows.cumsum() - rows, rows) + top[row_solid]
    row_length = (right - left)[row_solid]
    pairs_before = np.append(0, row_length.cumsum())

    for kind in (BOX, CYLINDER, ELLIPSOID):
        start, stop = np.searchsorted(solids.kind[row_solid], (kind, kind + 1))
        while start < stop:
            limit = pairs_before[start] + PAIRS_PER_CHUNK
            end = min(stop, max(start + 1, int(np.searchsorted(pairs_before, limit, "right")) - 1))
            chunk, start = slice(start, end), end
            owner, length = row_solid[chunk], row_length[chunk]
            row_pixel = row[chunk] * camera.width + left[owner]
            first_pair = pairs_before[chunk] - pairs_before[chunk.start]
            pixel = np.arange(length.sum()) + np.repeat(row_pixel - first_pair, length)

            column = (pixel - np.repeat(row[chunk] * camera.width, length)).astype(np.float32)
            row_direction = coefficients[:, 1].take(owner, axis=1) * row[chunk].astype(np.float32)
            row_direction += coefficients[:, 2].take(owner, axis=1)
            direction = np.repeat(coefficients[:, 0].take(owner, axis=1), length, axis=1)
            direction *= column
            direction += np.repeat(row_direction, length, axis=1)
            enter, leave = span(kind, np.repeat(origin.take(owner, axis=1), length, axis=1), direction)
            hit = np.flatnonzero((enter <= leave) & (enter > NEAR_PLANE))
            yield pixel[hit], enter[hit], np.repeat(owner, length)[hit]


def _bounding_rectangles(camera: Camera, solids: Solids) -> tuple[np.ndarray, ...]:
    """Left, right, top, bottom (P,) of each solid's pixels, half open, clipped to the image."""
    corners = (solids.corners() - camera.position) @ camera.axes
    a, b = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
    depth_a, depth_b = a[..., 2:], b[..., 2:]
    crosses = (depth_a > NEAR_PLANE) != (depth_b > NEAR_PLANE)
    where = (NEAR_PLANE - depth_a) / np.where(crosses, depth_b - depth_a, 1)
    outline = np.concatenate([corners, a + where * (b - a)], axis=1)
    in_front = np.concatenate([corners[..., 2] > NEAR_PLANE, crosses[..., 0]], axis=1)
    scale = camera.focal / np.where(in_front, outline[..., 2], 1)

    bounds = []
    for axis, size in ((0, camera.width), (1, camera.height)):
        position = outline[..., axis] * scale + (size - 1) / 2
        low = np.ceil(np.where(in_front, position, np.inf).min(1) - 1e-3)
        high = np.floor(np.where(in_front, position, -np.inf).max(1) + 1e-3) + 1
        bounds += [np.clip(low, 0, size).astype(int), np.clip(high, 0, size).astype(int)]
    left, right, top, bottom = bounds
    return left, right, top, np.maximum(top, bottom)


def recast(
    camera: Camera, solids: Solids, u: np.ndarray, v: np.ndarray, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest hit of Q rays among a few candidate solids each.

    Args:
        u, v: (Q,) float32 pixel positions, fractional ones too.
        candidates: (Q, C) indices of solids; -1 for none.

    Returns:
        depth (Q,) float32 and solid (Q,), as `cast` gives them.
    """
    origin, coefficients = solids.unit_rays(camera)
    depth = np.full(candidates.shape, np.inf, np.float32)
    kind = np.append(solids.kind, -1)[candidates]
    for wanted in (BOX, CYLINDER, ELLIPSOID):
        ray, column = np.nonzero(kind == wanted)
        if not len(ray):
            continue
        owner = candidates[ray, column]
        direction = coefficients[:, 0].take(owner, axis=1) * u[ray]
        direction += coefficients[:, 1].take(owner, axis=1) * v[ray]
        direction += coefficients[:, 2].take(owner, axis=1)
        enter, leave = span(wanted, origin.take(owner, axis=1), direction)
        depth[ray, column] = np.where((enter <= leave) & (enter > NEAR_PLANE), enter, np.inf)
    first = depth.argmin(1)
    everyone = np.arange(len(u))
    nearest = depth[everyone, first]
    return nearest, np.where(np.isfinite(nearest), candidates[everyone, first], -1)


def room_exit(camera: Camera, size: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Depth (Q,) at which rays from inside leave the box from the origin to `size` (3,) meters."""
    room = Solids(np.zeros(1, int), size[None] / 2, size[None] / 2, np.zeros(1))
    origin, coefficients = room.unit_rays(camera)
    direction = coefficients[:, 0] * u + coefficients[:, 1] * v + coefficients[:, 2]
    return span(BOX, origin, direction)[1]
