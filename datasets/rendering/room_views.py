"""A room seen from several places: exact poses and depth, one exposure, and colors that do not depend on the view."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .lighting import develop_views, photos
from .materials import Dice
from .raycast import Camera, look
from .rooms import Room, Viewpoint, furnish

REACH = (0.08, 0.2)
"""Meters from the target camera to the sources. `Room.stand` leaves more than that free around the eye."""
JITTER, TURN = 0.3, 0.02
"""Random part of the distance of a source, as a share of it, and standard deviation of its turn in radians."""
CORNERS = ((-1, -1), (1, -1), (-1, 1), (1, 1))
"""Directions of the sources along x and y of the target camera."""
GLOSSY = 0.1
"""Share of the rooms whose glossy surfaces have highlights, which move with the camera."""


def render_views(rng: np.random.Generator, height: int, width: int) -> dict[str, np.ndarray]:
    """One room from a target camera and four cameras around it.

    Args:
        rng: the only source of randomness; the room does not depend on the size.
        height, width: of the images, in pixels.

    Returns:
        image, depth, camera: of the target, as in `rooms.render_room`.
        views: (4, H, W, 3) uint8 sRGB of the sources.
        view_depths: (4, H, W) float32 depth of the sources.
        cameras: (4, 3, 3) float64 K of the sources.
        poses: (4, 3, 4) float64 [R t] from the frame of the target camera to those of the sources, meters.
    """
    dice = Dice(rng)
    room = Room.draw(dice)
    scene = furnish(room, dice)
    if not dice.chance(GLOSSY):
        scene = dataclasses.replace(scene, materials=[each._replace(gloss=0.0) for each in scene.materials])
    target = room.viewpoint.camera(height, width)
    sources = [_beside(room.viewpoint, target, corner, dice, rng) for corner in CORNERS]
    taken = photos(scene, [target, *sources], exposure=dice.uniform(0.14, 0.48))
    developed = develop_views(np.stack([colors for _, colors in taken]), rng)
    rotations = [source.axes.T @ target.axes for source in sources]
    shifts = [source.axes.T @ (target.position - source.position) for source in sources]
    return {
        "views": developed[1:],
        "view_depths": np.stack([depth for depth, _ in taken[1:]]),
        "cameras": np.stack([source.matrix for source in sources]),
        "poses": np.stack([np.column_stack(pose) for pose in zip(rotations, shifts, strict=True)]),
        "camera": target.matrix,
        "image": developed[0],
        "depth": taken[0][0],
    }


def _beside(view: Viewpoint, target: Camera, corner: tuple[int, int], dice: Dice, rng: np.random.Generator) -> Camera:
    """A camera beside the target, turned a little."""
    reach = dice.uniform(*REACH) / math.sqrt(2)
    x, y = (reach * (side + JITTER * dice.uniform(-1, 1)) for side in corner)
    yaw, pitch, roll = rng.normal(0, TURN, 3)
    position = target.position + x * target.axes[:, 0] + y * target.axes[:, 1]
    axes = look(view.yaw + yaw, view.pitch + pitch, view.roll + roll)
    return dataclasses.replace(target, position=position, axes=axes)
