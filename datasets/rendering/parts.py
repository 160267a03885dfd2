"""Building blocks of furniture: solids with a material, and pieces put together from them.

A piece has its own frame: x along its back, y from its back (0) to its front, z up from the floor; its back is centered
on x = 0. So a piece turned and moved to a wall stands with its back to that wall.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from .raycast import BOX, CYLINDER, ELLIPSOID


class Part(NamedTuple):
    """One solid: center, half sizes (meters), yaw (radians); `front` is the material of its +y face."""

    kind: int
    x: float
    y: float
    z: float
    half_x: float
    half_y: float
    half_z: float
    yaw: float
    material: int
    front: int
    shadow: bool = True


@dataclass(frozen=True)
class Piece:
    """Parts within width x depth x height meters."""

    width: float
    depth: float
    height: float
    parts: list[Part]


def box(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float, material: int, front: int = -1) -> Part:
    return Part(BOX, (x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2, (x1 - x0) / 2, (y1 - y0) / 2, (z1 - z0) / 2, 0.0,
                material, material if front < 0 else front)  # fmt: skip


def cylinder(x: float, y: float, z0: float, z1: float, radius: float, material: int, shadow: bool = True) -> Part:
    return Part(CYLINDER, x, y, (z0 + z1) / 2, radius, radius, (z1 - z0) / 2, 0.0, material, material, shadow)


def ball(x: float, y: float, z: float, rx: float, ry: float, rz: float, material: int, shadow: bool = True) -> Part:
    return Part(ELLIPSOID, x, y, z, rx, ry, rz, 0.0, material, material, shadow)


def moved(parts: Iterable[Part], x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> list[Part]:
    """The parts turned by yaw about their frame's origin, then shifted."""
    c, s = math.cos(yaw), math.sin(yaw)
    return [
        part._replace(x=x + c * part.x - s * part.y, y=y + s * part.x + c * part.y, z=z + part.z, yaw=part.yaw + yaw)
        for part in parts
    ]
