"""Hands of capsules: a kinematic chain in millimeters, and its depth by exact intersections of rays.

Coordinates are those of a camera: x right, y down, z forward. In its rest pose a right hand shows its palm to the
camera, its fingers point up, and its thumb is on the right of the image.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ..core.geometry import Size

SENSOR = (240, 320)
"""(height, width) of the depth images."""
FOCAL_PX = 241.42
"""Focal length for images 320 pixels wide: that of ICVL's sensor."""
DISTANCE_MM = (300.0, 520.0)
ROTATION = (70.0, 45.0, 55.0)
"""Maximum roll, pitch and yaw in degrees."""
NOISE_MM = 1.5
LOST_AT_EDGES, LOST = 0.3, 0.01
"""Shares of the pixels at silhouettes, and of all pixels, that the sensor does not measure."""

ROOTS = np.array([[26.0, -26, -6], [24, -88, 0], [3, -92, 0], [-17, -86, 0], [-35, -76, 2]])
"""Roots of the fingers, thumb first; the wrist is at the origin."""
BONES = np.array([[42.0, 32, 27], [42, 25, 22], [46, 29, 23], [43, 27, 23], [34, 20, 20]])
RADII = np.array([[12.5, 10.5, 9], [9.5, 8.5, 7.5], [10, 9, 8], [9.5, 8.5, 7.5], [8, 7.2, 6.5]])
PALM_RADIUS, FOREARM_RADIUS = 13.0, 24.0
SPREAD = np.radians([0.0, 14, 3, -6, -14])
"""Directions of the fingers at full abduction."""


class Hand(NamedTuple):
    """A rendered hand.

    Attributes:
        depth: (H, W) float32, whole millimeters, 0 where nothing was measured.
        joints: (21, 3) millimeters: wrist, then four joints of each finger from root to tip, thumb first.
        camera: (3, 3) intrinsic matrix.
    """

    depth: np.ndarray
    joints: np.ndarray
    camera: np.ndarray


def draw_hand(
    rng: np.random.Generator,
    size: Size,
    camera: np.ndarray | None = None,
    rotation: tuple[float, float, float] = ROTATION,
) -> Hand:
    """Render a random right hand in a depth image of this (height, width).

    Args:
        rng: random generator.
        size: (height, width) of the image.
        camera: (3, 3) intrinsic matrix; None: ICVL's focal length at this size, with the axis in the middle.
        rotation: maximum roll, pitch and yaw in degrees.
    """
    return place_hand(pose_hand(rng) @ random_rotation(rng, rotation).T, rng, size, camera)


def place_hand(joints: np.ndarray, rng: np.random.Generator, size: Size, camera: np.ndarray | None = None) -> Hand:
    """Render a hand, (21, 3) at the size of the rest pose, at a random size and place; as `draw_hand`."""
    joints = joints * rng.uniform(0.88, 1.10)
    if camera is None:
        focal = FOCAL_PX * min(size[1] / SENSOR[1], size[0] / SENSOR[0])
        camera = np.array([[focal, 0, (size[1] - 1) / 2], [0, focal, (size[0] - 1) / 2], [0, 0, 1]])
    distance = rng.uniform(*DISTANCE_MM)
    x, y = rng.uniform(-0.12, 0.12, 2) * distance
    joints = joints - palm_of(joints) + (x, y, distance)
    depth = cast_capsules(*capsules_of(joints), camera, size)
    return Hand(measure(depth, rng), joints, camera)


def palm_of(joints: np.ndarray) -> np.ndarray:
    """The middle of the palm: the mean of the wrist and of the roots of the fingers without the thumb, (3,)."""
    return joints[[0, 5, 9, 13, 17]].mean(0)


def pose_hand(rng: np.random.Generator) -> np.ndarray:
    """Joints (21, 3) of a random pose: all fingers curl alike, and each a little on its own."""
    curl, abduction = rng.uniform(0, 1), rng.uniform(0, 1)
    flexion = np.clip(curl + rng.normal(0, 0.18, 5), 0, 1)
    middle = np.clip(curl + rng.normal(0, 0.18, 5), 0, 1)
    joints = [np.zeros((1, 3))]
    for finger in range(5):
        if finger == 0:
            bends = np.radians(np.array([10 + 25 * flexion[0], 8 + 22 * flexion[0], 30 * middle[0]]))
            turns = np.radians(np.array([rng.uniform(25, 60), -25 * middle[0], -30 * middle[0]]))
        else:
            proximal = np.radians(105 * middle[finger])
            bends = np.array([np.radians(95 * flexion[finger] - 10), proximal, 0.6 * proximal])
            turns = np.array([SPREAD[finger] * abduction + np.radians(rng.normal(0, 3)), 0, 0])
        bends, turns = np.cumsum(bends), np.cumsum(turns)
        # Bending is towards the palm, which faces the camera.
        directions = np.stack([np.sin(turns) * np.cos(bends), -np.cos(turns) * np.cos(bends), -np.sin(bends)], 1)
        steps = np.concatenate([ROOTS[finger][None], directions * BONES[finger][:, None]])
        joints.append(np.cumsum(steps, 0))
    return np.concatenate(joints)


def random_rotation(rng: np.random.Generator, maximum: tuple[float, float, float] = ROTATION) -> np.ndarray:
    """(3, 3) rotation: yaw, then pitch, then roll, each uniform up to a maximum in degrees."""
    (a, b, c) = np.radians(rng.uniform(-1, 1, 3) * maximum)
    roll = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    pitch = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    yaw = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    return roll @ pitch @ yaw


def capsules_of(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts (25, 3), ends (25, 3) and radii (25,) of the capsules: fingers, palm and forearm."""
    scale = np.linalg.norm(joints[9] - joints[0]) / np.linalg.norm(ROOTS[2])
    starts = [1 + 4 * finger + bone for finger in range(5) for bone in range(3)]
    pairs = [(start, start + 1) for start in starts]
    pairs += [(0, 5), (0, 9), (0, 13), (0, 17), (5, 9), (9, 13), (13, 17), (1, 5), (0, 1)]
    first, second = (joints[list(numbers)] for numbers in zip(*pairs, strict=True))
    forearm = joints[0] + 1.3 * (joints[0] - joints[9])
    radii = scale * np.concatenate([RADII.ravel(), np.full(9, PALM_RADIUS), [FOREARM_RADIUS]])
    return np.concatenate([first, joints[:1]]), np.concatenate([second, forearm[None]]), radii


def cast_capsules(
    starts: np.ndarray, ends: np.ndarray, radii: np.ndarray, camera: np.ndarray, size: Size
) -> np.ndarray:
    """Depth (H, W) of the first intersection of the ray of every pixel with capsules, inf where there is none.

    Rays have a depth of 1 per unit, so that their parameter is the depth. Each capsule is intersected in the rectangle
    around it.
    """
    depth = np.full(size, np.inf)
    x = (np.arange(size[1]) - camera[0, 2]) / camera[0, 0]
    y = (np.arange(size[0]) - camera[1, 2]) / camera[1, 1]
    for start, end, radius in zip(starts, ends, radii, strict=True):
        if min(start[2], end[2]) - radius <= 1:
            continue
        window = tuple(_reach(axis, start, end, radius, rays) for axis, rays in ((1, y), (0, x)))
        columns, rows = x[window[1]], y[window[0]][:, None]
        bone = end - start
        square, along = columns**2 + rows**2 + 1, columns * bone[0] + rows * bone[1] + bone[2]
        towards = -(columns * start[0] + rows * start[1] + start[2])
        length, offset, distance = bone @ bone, -(bone @ start), start @ start
        a = length * square - along**2
        b = length * towards - offset * along
        c = length * (distance - radius**2) - offset**2
        discriminant = b * b - a * c
        with np.errstate(invalid="ignore", divide="ignore"):
            hit = (-b - np.sqrt(discriminant)) / a
            position = offset + hit * along
            # Beyond the ends of the axis, the ball at that end is hit.
            at_end = position > length / 2
            cosine = np.where(at_end, -(columns * end[0] + rows * end[1] + end[2]), towards)
            rest = np.where(at_end, end @ end, distance) - radius**2
            ball = (-cosine - np.sqrt(cosine * cosine - square * rest)) / square
            hit = np.where((position > 0) & (position < length), hit, ball)
        part = depth[window]
        np.fmin(part, hit, out=part)
    return depth


def _reach(axis: int, start: np.ndarray, end: np.ndarray, radius: float, rays: np.ndarray) -> slice:
    """The sorted rays that may meet a capsule, along one axis."""
    low, high = np.inf, -np.inf
    for point in (start, end):
        for depth in (point[2] - radius, point[2] + radius):
            low, high = min(low, (point[axis] - radius) / depth), max(high, (point[axis] + radius) / depth)
    return slice(int(np.searchsorted(rays, low)), int(np.searchsorted(rays, high, "right")))


def measure(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a sensor measures of a depth image (H, W), inf where nothing is: with noise and holes, 0 there, float32."""
    hit = np.isfinite(depth)
    inside = cv2.erode(hit.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    rows, columns = np.nonzero(hit)
    lost = rng.random(len(rows)) < np.where(inside[rows, columns], LOST, LOST_AT_EDGES)
    values = np.round(depth[rows, columns] + rng.normal(0, NOISE_MM, len(rows)))
    measured = np.zeros(depth.shape, np.float32)
    measured[rows, columns] = np.where(lost, 0, values)
    return measured
