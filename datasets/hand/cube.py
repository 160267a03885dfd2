"""The cube around a hand: how DeepPrior cuts a hand out of a depth image (Oberweger, Wohlhart, Lepetit 2015).

The rules are those of the released code: the cube is centered at the palm, then at the center of mass of what is in it;
pixels are the nearest ones, since a mean at a silhouette is a depth that nothing has.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core.geometry import Size, Window, scaling, translation, warp_nearest
from ..dataset import Sample
from ..rendering.hands import FOCAL_PX, SENSOR

NEAREST_MM, FARTHEST_MM = 10, 1500
"""Depths outside are errors of the sensor or the background."""

CUT_SIZE = (128, 128)
"""(height, width) of the input of DeepPrior."""


class HandFrame(NamedTuple):
    """A complete depth image of a hand, and its labels.

    Attributes:
        depth: (H, W) millimeters, 0 where unknown.
        camera: (3, 3) intrinsic matrix.
        joints: (J, 3) float32 millimeters in the frame of the camera.
        palm: (3,), the labeled palm.
        side: of the cube, in millimeters.
    """

    depth: np.ndarray
    camera: np.ndarray
    joints: np.ndarray
    palm: np.ndarray
    side: float

    def cut(self, palm: np.ndarray, size: Size) -> Sample:
        """A sample: what is in the cube around a palm (see `cut_cube`), and the joints."""
        return {**cut_cube(self.depth, self.camera, palm, self.side, size), "joints": self.joints}


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    """(3, 3) intrinsic matrix in pixels."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def project(points: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of points (..., 3) in the frame of a camera; depths below 1 mm count as 1 mm."""
    image = points.astype(np.float64) @ camera.T
    return image[..., :2] / np.maximum(image[..., 2:], 1.0)


def unproject(pixels: np.ndarray, depth: np.ndarray | float, camera: np.ndarray) -> np.ndarray:
    """Points (..., 3) in the frame of a camera of pixels (..., 2) with depths (...)."""
    rays = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1) @ np.linalg.inv(camera).T
    return rays * np.asarray(depth)[..., None]


def cut_cube(depth: np.ndarray, camera: np.ndarray, palm: np.ndarray, side: float, size: Size = CUT_SIZE) -> Sample:
    """Cut the cube around a hand.

    Args:
        depth: (H, W) millimeters; 0 or nan where unknown.
        camera: (3, 3) intrinsic matrix.
        palm: (3,) millimeters in the frame of the camera.
        side: of the cube, in millimeters.
        size: (height, width) of the result, into which the window is fitted with its aspect ratio kept.

    Returns:
        "depth", see `CubeDepth`; "camera", (3, 3), that of the result; "cube", (4,) float32, see `Cube`.
    """
    # Comparisons with nan are false.
    depth = np.where((depth >= NEAREST_MM) & (depth <= FARTHEST_MM), depth, 0).astype(np.float32)
    center = np.array([*project(palm, camera), max(float(palm[2]), NEAREST_MM)])
    window = _window(center, side, camera)
    mass = _center_of_mass(_clamped(_part(depth, window), center[2], side))
    if mass is not None:
        center = mass + np.array([max(window[1], 0), max(window[0], 0), 0])
        window = _window(center, side, camera)
    top, left, height, width = window
    # Floor division, as the released code resizes.
    wide = width * size[0] > height * size[1]
    scaled = (height * size[1] // width, size[1]) if wide else (size[0], width * size[0] // height)
    scaled = max(scaled[0], 1), max(scaled[1], 1)
    corner = (size[0] - scaled[0]) // 2, (size[1] - scaled[1]) // 2
    rows, columns = (np.arange(n) * length // n for n, length in zip(scaled, (height, width), strict=True))
    resized = _clamped(_gather(depth, rows + top, columns + left), center[2], side)
    cut = np.ones(size, np.float32)
    share = np.where(resized > 0, (resized - center[2]) / side + 0.5, 1)
    cut[corner[0] : corner[0] + scaled[0], corner[1] : corner[1] + scaled[1]] = np.clip(share, 0, 1)
    moved = translation(corner[1], corner[0]) @ scaling(scaled[1] / width, scaled[0] / height)
    position = unproject(center[:2], center[2], camera)
    return {
        "depth": cut,
        "camera": moved @ translation(-left, -top) @ camera,
        "cube": np.array([*position, side], np.float32),
    }


def move_cube(cut: Sample, offset: np.ndarray, factor: float) -> Sample:
    """Cut another cube out of a cut one: what was outside of the old cube is empty in the new one.

    Args:
        cut: "depth", "camera" and "cube", as `cut_cube` returns them; the image may have been rotated.
        offset: (3,) millimeters by which the center moves, at most by half the distance of the hand.
        factor: of the side.
    """
    depth, camera, cube = cut["depth"], cut["camera"], cut["cube"].astype(np.float64)
    reach = cube[2] / 2
    center, side = cube[:3] + np.clip(offset, -reach, reach), cube[3] * factor
    zoom = (center[2] / side) / (cube[2] / cube[3])
    old, new = project(cube[:3], camera), project(center, camera)
    # The new center takes the place of the old one.
    matrix = translation(*old) @ np.diag([zoom, zoom, 1.0]) @ translation(*-new)
    seen = warp_nearest(depth, matrix, (depth.shape[0], depth.shape[1]), 1.0).astype(np.float64)
    share = (seen * cube[3] + cube[2] - cube[3] / 2 - center[2]) / side + 0.5
    return {
        "depth": np.where(seen < 1, np.clip(share, 0, 1), 1).astype(np.float32),
        "camera": matrix @ camera,
        "cube": np.array([*center, side], np.float32),
    }


def uncut(depth: np.ndarray, side: float = 250.0) -> np.ndarray:
    """A depth image that shows what is in a cube, for examples: (240, 320) uint16 millimeters, 0 where it is empty.

    The cube is in the middle of an image of ICVL's camera, at the distance at which it has its size in pixels.

    Args:
        depth: at most (240, 320), see `CubeDepth`.
        side: of the cube, in millimeters.
    """
    height, width = depth.shape
    image = np.zeros(SENSOR, np.uint16)
    top, left = (SENSOR[0] - height) // 2, (SENSOR[1] - width) // 2
    distance = FOCAL_PX * side / min(height, width)
    image[top : top + height, left : left + width] = np.where(depth < 1, distance + side * (depth - 0.5), 0)
    return image


def _window(center: np.ndarray, side: float, camera: np.ndarray) -> Window:
    """The pixels of the cube at the depth of its center: top, left, height, width; it may extend beyond the image."""
    edges = []
    for axis in (1, 0):
        reach = side / 2 / center[2] * camera[axis, axis]
        edges.append((int(np.floor(center[axis] - reach)), int(np.floor(center[axis] + reach))))
    (top, bottom), (left, right) = edges
    return top, left, max(bottom - top, 1), max(right - left, 1)


def _part(depth: np.ndarray, window: Window) -> np.ndarray:
    """The part of a window that is in the image, maybe empty."""
    top, left, height, width = window
    return depth[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]


def _gather(depth: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The pixels of rows and columns, 0 outside the image."""
    inside = [(numbers >= 0) & (numbers < n) for numbers, n in zip((rows, columns), depth.shape, strict=True)]
    result = np.zeros((len(rows), len(columns)), np.float32)
    result[np.ix_(*inside)] = depth[np.ix_(rows[inside[0]], columns[inside[1]])]
    return result


def _clamped(depth: np.ndarray, center: float, side: float) -> np.ndarray:
    """Depths beyond the back of the cube become 0; known ones before its front become the front."""
    result = np.where(depth > center + side / 2, 0, depth)
    return np.where((result > 0) & (result < center - side / 2), np.float32(center - side / 2), result)


def _center_of_mass(depth: np.ndarray) -> np.ndarray | None:
    """Mean column, row and depth of the known pixels; None if there are none."""
    rows, columns = np.nonzero(depth)
    if not len(rows):
        return None
    return np.array([columns.mean(), rows.mean(), depth[rows, columns].mean(dtype=np.float64)])
