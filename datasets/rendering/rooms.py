"""Rooms with furniture, their exact depth and their camera, for depth estimation.

A room is drawn in the order in which one is built: walls and openings, the place of the camera, furniture along the
walls and in the middle, images where the wall is still free, lamps. Only then is it looked at (`raycast`) and
photoed (`lighting`). The draw does not depend on the image's size, so the same generator shows the same room at
any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .fittings import ceiling_lamp, door, image, skirting, wall_shelf, window
from .furniture import (
    armchair,
    ball_toy,
    bed,
    bedside_table,
    bookshelf,
    chair,
    coffee_table,
    crates,
    cupboard,
    desk,
    dining_group,
    floor_lamp,
    island,
    kitchen_row,
    litter,
    office_chair,
    plant,
    rug,
    sofa,
    stool,
    table,
    television,
    wardrobe,
)
from .lighting import Light, Scene, develop, photo
from .materials import Decor, Dice, linear
from .parts import Part, Piece, box, moved
from .raycast import Camera, Solids, look

FAR, RIGHT, NEAR, LEFT = range(4)
# yaw that turns a piece's back to the wall: far is y = depth, right is x = width
WALL_YAW = {FAR: math.pi, RIGHT: math.pi / 2, NEAR: 0.0, LEFT: -math.pi / 2}
LONGEST_VIEW = 9.9


Maker = Callable[[Decor], Piece]
Chances = tuple[tuple[Maker, float], ...]


class Programme(NamedTuple):
    """What a kind of room holds: pieces with their backs to a wall and pieces that stand free, with their chances."""

    wall: Chances
    free: Chances


PROGRAMMES: dict[str, Programme] = {
    "living": Programme(
        wall=((sofa, 0.9), (television, 0.7), (bookshelf, 0.7), (cupboard, 0.6), (armchair, 0.6), (floor_lamp, 0.5),
              (plant, 0.6), (bookshelf, 0.4), (sofa, 0.5), (cupboard, 0.4), (litter, 0.4)),
        free=((rug, 0.6), (coffee_table, 0.9), (armchair, 0.5), (stool, 0.3), (litter, 0.6), (ball_toy, 0.15)),
    ),
    "dining": Programme(
        wall=((cupboard, 0.8), (bookshelf, 0.5), (plant, 0.5), (cupboard, 0.6), (chair, 0.5), (wardrobe, 0.3),
              (chair, 0.4), (sofa, 0.3), (plant, 0.3)),
        free=((rug, 0.3), (dining_group, 1.0), (dining_group, 0.2), (stool, 0.3), (chair, 0.3), (litter, 0.4)),
    ),
    "bedroom": Programme(
        wall=((bed, 1.0), (bedside_table, 0.8), (wardrobe, 0.8), (cupboard, 0.6), (desk, 0.4), (bookshelf, 0.3),
              (armchair, 0.4), (plant, 0.4), (bedside_table, 0.4), (bed, 0.2), (wardrobe, 0.3)),
        free=((rug, 0.5), (stool, 0.3), (chair, 0.3), (litter, 0.7), (litter, 0.4), (ball_toy, 0.2)),
    ),
    "kitchen": Programme(
        wall=((kitchen_row, 1.0), (kitchen_row, 0.7), (cupboard, 0.5), (table, 0.5), (stool, 0.4), (crates, 0.3),
              (chair, 0.5), (wardrobe, 0.3), (litter, 0.4)),
        free=((island, 0.4), (dining_group, 0.6), (stool, 0.5), (table, 0.3), (chair, 0.4), (litter, 0.5)),
    ),
    "office": Programme(
        wall=((desk, 1.0), (desk, 0.8), (bookshelf, 0.8), (cupboard, 0.7), (wardrobe, 0.3), (plant, 0.4),
              (crates, 0.3), (desk, 0.6), (bookshelf, 0.5), (litter, 0.5)),
        free=((desk, 0.6), (table, 0.4), (office_chair, 0.6), (chair, 0.3), (dining_group, 0.3), (litter, 0.6)),
    ),
    "store": Programme(
        wall=((crates, 0.9), (bookshelf, 0.7), (wardrobe, 0.6), (crates, 0.7), (table, 0.6), (cupboard, 0.5),
              (bookshelf, 0.6), (crates, 0.6), (chair, 0.4)),
        free=((crates, 0.8), (table, 0.5), (stool, 0.5), (chair, 0.5), (litter, 0.7), (litter, 0.7), (ball_toy, 0.3)),
    ),
}  # fmt: skip


def render_room(rng: np.random.Generator, height: int, width: int) -> dict[str, np.ndarray]:
    """One photo of one room.

    Args:
        rng: the only source of randomness; the room does not depend on the size.
        height, width: of the image, in pixels.

    Returns:
        image: (H, W, 3) uint8 sRGB.
        depth: (H, W) float32 meters along the camera axis, about 0.5 to 10, exact at the pixel centers.
        camera: (3, 3) float64 K, pixel centers at integers.
    """
    dice = Dice(rng)
    room = Room.draw(dice)
    camera = room.viewpoint.camera(height, width)
    depth, colors = photo(furnish(room, dice), camera, exposure=dice.uniform(0.14, 0.48))
    return {"image": develop(colors, rng), "depth": depth, "camera": camera.matrix}


@dataclass(frozen=True)
class Viewpoint:
    """Position (m) and viewing direction (radians) of the camera; `field` is the angle of view along the long side."""

    x: float
    y: float
    z: float
    yaw: float
    pitch: float
    roll: float
    field: float

    def camera(self, height: int, width: int) -> Camera:
        focal = max(height, width) / 2 / math.tan(self.field / 2)
        return Camera(np.array([self.x, self.y, self.z]), look(self.yaw, self.pitch, self.roll), focal, height, width)


@dataclass
class Room:
    """The floor plan: who stands where, so that nothing stands in anything else.

    `taken` holds rectangles (x0, x1, y0, y1, free height): lower things may stand there, as a sofa below a window.
    `hung` holds what covers a wall: (wall, from, to) in meters along x or y.
    """

    width: float
    depth: float
    height: float
    viewpoint: Viewpoint
    parts: list[Part] = field(default_factory=list)
    taken: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    hung: list[tuple[int, float, float]] = field(default_factory=list)

    @classmethod
    def draw(cls, dice: Dice) -> Room:
        """An empty room, and a place near one of its sides from which to look into it."""
        width, depth = dice.uniform(2.5, 7.0), dice.uniform(2.8, 8.0)
        shrink = min(1.0, LONGEST_VIEW / math.hypot(width, depth))
        width, depth, height = width * shrink, depth * shrink, dice.uniform(2.3, 3.2)
        x = dice.uniform(0.5, width - 0.5)
        y = dice.uniform(0.25, 0.7) if dice.chance(0.65) else dice.uniform(0.3, 0.62) * depth
        target_x, target_y = dice.uniform(0.05, 0.95) * width, dice.uniform(0.65, 1.0) * depth
        yaw = math.atan2(max(target_y - y, 0.8), target_x - x)
        pitch, roll = dice.uniform(-25, 5), (dice.uniform(-1, 1) + dice.uniform(-1, 1)) * 2.5
        eye, angle = dice.uniform(1.0, 1.8), dice.uniform(50, 75)
        view = Viewpoint(x, y, eye, yaw, math.radians(pitch), math.radians(roll), math.radians(angle))
        return cls(width, depth, height, view)

    def wall_length(self, wall: int) -> float:
        return self.width if wall in (FAR, NEAR) else self.depth

    def against(self, wall: int, along: float, off: float = 0.0) -> tuple[float, float, float]:
        """x, y and yaw of a piece whose back touches a wall, `along` meters from the wall's start."""
        x, y = {
            FAR: (along, self.depth - off),
            RIGHT: (self.width - off, along),
            NEAR: (along, off),
            LEFT: (off, along),
        }[wall]
        return x, y, WALL_YAW[wall]

    def put(self, piece: Piece, x: float, y: float, z: float, yaw: float) -> None:
        self.parts += moved(piece.parts, x, y, z, yaw)

    def stand(self, piece: Piece, x: float, y: float, yaw: float) -> bool:
        """Put the piece there if nothing is in its way and it leaves the camera its view."""
        c, s = math.cos(yaw), math.sin(yaw)
        middle_x, middle_y = x - s * piece.depth / 2, y + c * piece.depth / 2
        half_x = (abs(c) * piece.width + abs(s) * piece.depth) / 2
        half_y = (abs(s) * piece.width + abs(c) * piece.depth) / 2
        x0, x1, y0, y1 = middle_x - half_x, middle_x + half_x, middle_y - half_y, middle_y + half_y
        if x0 < -0.01 or y0 < -0.01 or x1 > self.width + 0.01 or y1 > self.depth + 0.01:
            return False
        eye = self.viewpoint
        away = math.hypot(max(x0 - eye.x, eye.x - x1, 0), max(y0 - eye.y, eye.y - y1, 0))
        if piece.height > 0.05 and away < (0.75 if piece.height < eye.z - 0.3 else 1.1):
            return False
        for left, right, near, far, free in self.taken:
            if piece.height > free and x0 < right and x1 > left and y0 < far and y1 > near:
                return False
        if piece.height > 0.05:
            self.taken.append((x0, x1, y0, y1, 0.0))
        self.put(piece, x, y, 0.0, yaw)
        return True

    def from_eye(self, x: float, y: float) -> float:
        """Meters from the camera to (x, y), seen from above."""
        return math.hypot(x - self.viewpoint.x, y - self.viewpoint.y)

    def is_bare(self, wall: int, start: float, stop: float) -> bool:
        return not any(at == wall and start < high and stop > low for at, low, high in self.hung)


def furnish(room: Room, dice: Dice) -> Scene:
    """The room with everything in it, ready to be photoed."""
    decor = Decor(dice)
    daylight = dice.pick((0.0, 0.4, 0.8, 1.0))
    surfaces = _room_surfaces(decor)
    lights = _cut_openings(room, decor, daylight)
    _build_out(room, decor, surfaces[0])
    if dice.chance(0.8):
        room.parts += skirting(decor, room.width, room.depth)
    programme = PROGRAMMES[dice.pick(tuple(PROGRAMMES))]
    _stand_along_walls(room, decor, [make for make, chance in programme.wall if dice.chance(chance)])
    _stand_in_the_middle(room, decor, [make for make, chance in programme.free if dice.chance(chance)])
    _hang_images(room, decor)
    lights = _hang_lamps(room, decor, daylight if lights else 0.0) + lights

    parts = sorted(room.parts, key=lambda part: part.kind)
    numbers = np.array([part[:8] for part in parts], float).reshape(-1, 8)
    faces = np.array([[part.material] * 3 + [part.front] + [part.material] * 2 for part in parts] + [surfaces])
    bounce = dice.uniform(0.15, 0.45) * np.array([dice.uniform(0.95, 1.1), 1.0, dice.uniform(0.85, 1.05)])
    floor = decor.materials[surfaces[4]].first
    return Scene(
        size=np.array([room.width, room.depth, room.height]),
        solids=Solids(numbers[:, 0].astype(int), numbers[:, 1:4], numbers[:, 4:7], numbers[:, 7]),
        faces=faces,
        casts_shadow=np.array([part.shadow for part in parts], bool),
        materials=decor.materials,
        lights=lights,
        ambient=np.stack([bounce, bounce * (0.45 + 0.6 * np.array(floor))]),
    )


def _room_surfaces(decor: Decor) -> list[int]:
    """Materials of the walls left, right, near and far, of the floor and of the ceiling."""
    wall = decor.wall()
    feature = decor.wall() if decor.dice.chance(0.3) else wall
    ceiling = decor.white if decor.dice.chance(0.8) else decor.new_paint(0.2, 0.7, 0.95)
    walls = [wall] * 4
    walls[decor.dice.integer(0, 3)] = feature
    return [*walls, decor.floor(), ceiling]


def _cut_openings(room: Room, decor: Decor, daylight: float) -> list[Light]:
    """Doors and windows; the windows shine."""
    dice, lights = decor.dice, []
    for number in range(dice.integer(1, 4)):
        is_door = number == 0 or (number == 3 and dice.chance(0.5))
        piece = door(decor) if is_door else window(decor, max(daylight, 0.02), room.height)
        wall = dice.pick((FAR, FAR, RIGHT, LEFT, NEAR))
        length, half = room.wall_length(wall), piece.width / 2
        if length < piece.width + 0.2:
            continue
        along = dice.uniform(half + 0.1, length - half - 0.1)
        if not room.is_bare(wall, along - half, along + half):
            continue
        x, y, yaw = room.against(wall, along)
        room.put(piece, x, y, 0.0, yaw)
        room.hung.append((wall, along - half, along + half))
        inward_x, inward_y = -math.sin(yaw), math.cos(yaw)
        reach = 0.7 if is_door else 0.3
        x0, x1 = sorted((x - abs(inward_y) * half, x + abs(inward_y) * half + inward_x * reach))
        y0, y1 = sorted((y - abs(inward_x) * half, y + abs(inward_x) * half + inward_y * reach))
        room.taken.append((x0, x1, y0, y1, 0.0 if is_door else 0.9))
        if not is_door and daylight > 0 and len(lights) < 2:
            sky = np.array(linear(0.93, 0.97, 1.0)) * daylight * dice.uniform(4.0, 9.0)
            place = np.array([x + 0.12 * inward_x, y + 0.12 * inward_y, min(1.7, room.height - 0.6)])
            lights.append(Light(place, yaw + math.pi / 2, -0.15, sky, flat=True))
    return lights


def _build_out(room: Room, decor: Decor, wall: int) -> None:
    """Sometimes a chimney or a neighbor's room cuts into a far corner, or a beam runs below the ceiling."""
    dice = decor.dice
    if dice.chance(0.3):
        x, depth = dice.uniform(0.15, 0.22 * room.width), dice.uniform(0.25, 0.35 * room.depth)
        block = Piece(2 * x, depth, room.height, [box(-x, x, 0.0, depth, 0.0, room.height, wall)])
        along = dice.pick((x, room.width - x, dice.uniform(x, room.width - x)))
        if room.is_bare(FAR, along - x, along + x) and room.stand(block, *room.against(FAR, along)):
            room.hung.append((FAR, along - x, along + x))
    if dice.chance(0.15):
        y, down = dice.uniform(0.4, 0.9) * room.depth, dice.uniform(0.15, 0.3)
        beam = box(0.0, room.width, y, y + dice.uniform(0.15, 0.4), room.height - down, room.height, wall)
        room.parts.append(beam._replace(shadow=False))


def _stand_along_walls(room: Room, decor: Decor, makers: list[Maker]) -> None:
    dice = decor.dice
    for make in makers:
        piece = make(decor)
        for _ in range(6):
            wall = dice.pick((FAR, FAR, RIGHT, LEFT))
            length, half = room.wall_length(wall), piece.width / 2
            if length < piece.width:
                continue
            along = dice.uniform(half, length - half)
            if dice.chance(0.4):  # corners fill first
                along = dice.pick((half + 0.02, length - half - 0.02)) if wall == FAR else length - half - 0.02
            if room.stand(piece, *room.against(wall, along, off=0.02)):
                if piece.height > 1.1:
                    room.hung.append((wall, along - half, along + half))
                break


def _stand_in_the_middle(room: Room, decor: Decor, makers: list[Maker]) -> None:
    dice = decor.dice
    for make in makers:
        piece = make(decor)
        yaw = dice.pick((0.0, math.pi / 2, math.pi, -math.pi / 2)) + dice.pick((0.0, dice.uniform(-0.8, 0.8)))
        for _ in range(6):
            x, y = dice.uniform(0.15, 0.85) * room.width, dice.uniform(0.2, 0.9) * room.depth
            if room.stand(piece, x, y, yaw):
                break


def _hang_images(room: Room, decor: Decor) -> None:
    dice = decor.dice
    for _ in range(dice.integer(1, 6)):
        piece = image(decor) if dice.chance(0.75) else wall_shelf(decor)
        wall = dice.pick((FAR, FAR, RIGHT, LEFT))
        half, length = piece.width / 2 + 0.05, room.wall_length(wall)
        along = dice.uniform(half, max(length - half, half))
        if along + half > length or not room.is_bare(wall, along - half, along + half):
            continue
        middle = dice.uniform(1.35, 1.75)
        x, y, yaw = room.against(wall, along)
        if middle + piece.height / 2 < room.height - 0.1 and room.from_eye(x, y) > half + 0.6:
            room.put(piece, x, y, middle, yaw)
            room.hung.append((wall, along - half, along + half))


def _hang_lamps(room: Room, decor: Decor, daylight: float) -> list[Light]:
    """One lamp, or two in a long room; by day they may be off."""
    dice = decor.dice
    is_lit = daylight < 0.3 or dice.chance(0.5)
    warm = np.array(linear(1.0, dice.uniform(0.86, 1.0), dice.uniform(0.7, 1.0)))
    shine = decor.flat(tuple(warm), emission=4.0 if is_lit else 0.0)
    count = 2 if room.depth > 5 and dice.chance(0.6) else 1
    lamp = ceiling_lamp(decor, shine)
    lights = []
    for k in range(count):
        x = room.width * dice.uniform(0.4, 0.6)
        y = room.depth * (k + 0.5 + dice.uniform(-0.12, 0.12)) / count
        if room.from_eye(x, y) > 0.9:  # else it hangs above the photographer's head, unseen
            room.put(lamp, x, y, room.height, 0.0)
        if is_lit:
            place = np.array([x, y, room.height - lamp.height - 0.05])
            color = warm * dice.uniform(2.5, 5.0)
            lights.append(Light(place, dice.uniform(0, math.pi), -math.pi / 2, color, flat=False))
    return lights
