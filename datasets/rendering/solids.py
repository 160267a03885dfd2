"""Solids: hulls of two spheres, perhaps pressed flat, traced by parallel rays into an image of what is nearest.

A body is made of them: a limb is the hull of a large sphere and a small one, a chest the same hull pressed flat. A ray
meets such a hull in closed form, so what is seen, how deep it lies and where on its cover are exact at every pixel.
The camera's frame: x to the right, y down, z away from the viewer, pixel centers at integers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

TEXELS = 48
"""The sides of a face of a cover."""

AMBIENT, DIFFUSE, FACING = 0.34, 0.6, 0.34
"""Light from everywhere, from the lamp, and from behind the viewer: what turns away is darker, and looks round."""


class Solid(NamedTuple):
    """The hull of two spheres, pressed flat along one direction.

    Attributes:
        part: what it belongs to ("left thigh"); several solids may be of one part.
        cover: what it is covered with, by name.
        start, end: (3,) the middles of the spheres.
        radii: theirs, before the pressing.
        front: (3,) of length 1, across the axis: where the front of the cover is.
        flat: how deep it is along `front`, as a share of how wide it is.
    """

    part: str
    cover: str
    start: np.ndarray
    end: np.ndarray
    radii: tuple[float, float]
    front: np.ndarray
    flat: float = 1.0

    def placed(self, scale: float, shift: np.ndarray) -> Solid:
        """The solid `scale` times as large, moved by `shift`, (3,)."""
        radii = self.radii[0] * scale, self.radii[1] * scale
        return self._replace(start=self.start * scale + shift, end=self.end * scale + shift, radii=radii)

    def extent(self) -> tuple[float, float, float, float]:
        """The rectangle around it: left, top, right, bottom."""
        (x, y), (a, b) = ((side[0], side[1]) for side in (self.start, self.end))
        large, small = self.radii
        # An ellipsoid reaches as far along a unit vector as that vector is long in the pressed space.
        pressed = 1 - self.flat**2
        across, down = (math.sqrt(1 - pressed * self.front[side] ** 2) for side in (0, 1))
        return (
            min(x - large * across, a - small * across), min(y - large * down, b - small * down),
            max(x + large * across, a + small * across), max(y + large * down, b + small * down),
        )  # fmt: skip


class Canvas:
    """What is nearest at every pixel: its depth, which solid it is, where on its cover, and how lit.

    Args:
        size: (height, width).
        light: (3,) of length 1, from the scene towards the lamp.
    """

    def __init__(self, size: tuple[int, int], light: np.ndarray) -> None:
        self._light = light
        self.depth = np.full(size, np.inf, np.float32)
        self.owner = np.full(size, -1, np.int16)
        """The number that `lay` was given, -1 where there is nothing."""
        self._column, self._row, self._lit = (np.zeros(size, np.float32) for _ in range(3))

    def lay(self, solid: Solid, number: int, cover: int) -> None:
        """Put a solid in, behind what is nearer.

        Args:
            solid: in pixels of the canvas.
            number: for `owner`.
            cover: the place of its cover among those that `paint` is given.
        """
        height, width = self.depth.shape
        left, top, right, bottom = solid.extent()
        left, right = max(0, math.floor(left)), min(width, math.ceil(right) + 1)
        top, bottom = max(0, math.floor(top)), min(height, math.ceil(bottom) + 1)
        if left >= right or top >= bottom:
            return
        y, x = np.divmod(np.arange((bottom - top) * (right - left)), right - left)
        rays = np.stack([x + (left - solid.start[0]), y + (top - solid.start[1])]).astype(np.float32)
        shape = Round(solid, self._light)
        reach = shape.meet(rays)
        depth = reach / shape.pace + np.float32(solid.start[2])
        # Misses are nan, which is nearer than nothing.
        hit = np.flatnonzero(depth < self.depth[top:bottom, left:right].ravel())
        at = y[hit] + top, x[hit] + left
        self.depth[at], self.owner[at] = depth[hit], number
        column, row, self._lit[at] = shape.surface(rays[:, hit], reach[hit])
        self._column[at], self._row[at] = column, row + np.float32(cover * TEXELS)

    def paint(self, covers: np.ndarray) -> np.ndarray:
        """The image, (H, W, 3) float32 about [0, 1], zero where there is nothing.

        Args:
            covers: (N, TEXELS, 2 * TEXELS, 3) uint8: of each the front beside the back, both as one sees them from
                that side with the solid's start at the top.
        """
        atlas = covers.reshape(-1, 2 * TEXELS, 3)
        colors = cv2.remap(atlas, self._column, self._row, cv2.INTER_LINEAR)
        return colors * (self._lit * np.float32(1 / 255))[..., None]


class Round:
    """A solid in a space that is stretched along its front until it is round; there a parallel ray meets it.

    The cone that touches both spheres is met as by Quilez ("round cone", iquilezles.org/articles/intersectors).
    """

    def __init__(self, solid: Solid, light: np.ndarray) -> None:
        self._large, self._small = solid.radii
        stretch = 1 / solid.flat
        self._rounded = np.eye(3) + (stretch - 1) * solid.front[:, None] * solid.front
        self._axis, sight = self._rounded @ (solid.end - solid.start), self._rounded[:, 2]
        self.pace = math.sqrt(sight @ sight)
        """A ray's length in this space, where it is 1 in the camera's."""
        self._ray = sight / self.pace
        self._length = math.sqrt(self._axis @ self._axis)
        self._slant, self._taper = float(self._axis @ self._ray), self._large - self._small
        self._cone = self._length**2 - self._taper**2
        aside = _cross(solid.front, solid.end - solid.start)
        self._directions = np.stack([solid.front, aside, self._rounded @ light, sight]).astype(np.float32)
        self._swelling = stretch**2 - 1

    def meet(self, rays: np.ndarray) -> np.ndarray:
        """How far along each ray, (2, N) from the solid's start, the solid is; (N,), nan where it is missed."""
        origin = self._rounded[:, :2].astype(np.float32) @ rays
        passed, near = self._axis.astype(np.float32) @ origin, self._ray.astype(np.float32) @ origin
        away = np.einsum("ij,ij->j", origin, origin)
        large, small, slant, cone = self._large, self._small, self._slant, self._cone
        reach = -near - _root(near * near - away + large**2)
        if self._length == 0:
            return reach
        beyond = near - slant
        reach = np.fmin(reach, -beyond - _root(beyond * beyond - away + 2 * passed + (small**2 - self._length**2)))
        opening = cone - slant**2
        # Along its axis, or with one sphere inside the other, a solid shows nothing but its spheres.
        if opening <= 1e-3 * large**2:
            return reach
        lean = self._taper * large
        half = cone * near - slant * (passed - lean)
        rest = cone * away - passed * (passed - 2 * lean) - (self._length * large) ** 2
        side = (-half - _root(half * half - opening * rest)) / opening
        along = passed - lean + slant * side
        side[~((along > 0) & (along < cone))] = np.nan
        return np.fmin(reach, side)

    def surface(self, rays: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of rays, (2, N), that meet the solid at `reach`: the column and row of its cover, and the light, (N,)."""
        point = self._rounded[:, :2].astype(np.float32) @ rays + self._ray.astype(np.float32)[:, None] * reach
        passed = self._axis.astype(np.float32) @ point
        share = np.clip((passed - self._taper * self._large) / max(self._cone, 1e-9), 0, 1)
        radius = self._large - share * self._taper
        normal = point - self._axis.astype(np.float32)[:, None] * share
        front, aside, lit, away = self._directions @ normal
        steepness = np.sqrt(radius**2 + self._swelling * front**2)
        light = AMBIENT + np.maximum(lit / steepness, 0) * DIFFUSE - away / steepness * FACING
        # From the back, what was on the right is on the left.
        across = np.clip(aside / radius, -1, 1) * np.where(front >= 0, 1, -1)
        column = (across + 1) * (0.5 * (TEXELS - 1)) + np.where(front >= 0, 0, TEXELS).astype(np.float32)
        whole = self._length + self._large + self._small
        row = (passed / max(self._length, 1e-9) + self._large) * ((TEXELS - 1) / whole)
        return column, row, light


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The direction across both, of length 1; zero where there is none. numpy's own costs as much as a whole limb."""
    (a, b, c), (x, y, z) = first.tolist(), second.tolist()
    across = np.array([b * z - c * y, c * x - a * z, a * y - b * x])
    return across / max(math.sqrt(across @ across), 1e-9)


def _root(square: np.ndarray) -> np.ndarray:
    """Nan below zero."""
    return np.sqrt(square, where=square >= 0, out=np.full_like(square, np.nan))
