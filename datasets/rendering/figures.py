"""Figures: one person in the middle of things, with every joint's place and whether it is seen.

The person stands, plays or falls before a ground or a photo, among clutter and other people; bars, balls and
screens may hide a part. Lengths are shares of the image, so that the same generator shows the same figure at any
size. What hides what is decided by depth, at the very pixel where a joint lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .bodies import JOINTS, PARTS, SEATS, draw_body
from .clothes import COVERS, draw_cloth, draw_outfit
from .materials import Dice
from .poses import SPORT, Manner, draw_pose
from .scenery import draw_backdrop, draw_color, draw_screen, fill
from .solids import Canvas, Solid

FILLS = (0.55, 0.95)
"""How much of the image's height or width, whichever is filled first, a person takes who is whole in it."""

BEYOND, LARGER = 0.08, (1.0, 1.25)
"""How often a person may reach out of the image, and how much of it such a one would take."""

STRANGERS, THINGS, SCREENS = 0.35, 0.4, 0.15
"""How often there is another person, how often a bar or a ball, and how often something flat before everything."""

SOFT = 0.3
"""How often the image is a little out of focus."""

SUPERSAMPLING = 2

_APART = 3.0
"""Statures in depth between the person and who is behind or before."""

_TO_VIEWER = np.array([0.0, 0.0, -1.0])


class Drawn(NamedTuple):
    """An image and its person.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        joints: (14, 3) float32 in the order of `bodies.JOINTS`: x, y in pixels, and 0 outside of the image, 1 hidden,
            2 seen. Left and right are the person's own.
        box: (4,) float32, the person's left, top, right and bottom within the image.
        parts: (H, W) int16: the place in `bodies.PARTS` of what a pixel shows of the person, -1 of anything else.
    """

    image: np.ndarray
    joints: np.ndarray
    box: np.ndarray
    parts: np.ndarray


class _Piece(NamedTuple):
    """A solid in pixels, its cover's place among all, and its part's in `PARTS`, or -1 where it is not the person's."""

    solid: Solid
    cover: int
    part: int


def draw_figure(
    rng: np.random.Generator, height: int, width: int, photos: Sequence[np.ndarray] = (), manner: Manner = SPORT
) -> Drawn:
    """One person.

    Args:
        rng: the only source of the draw.
        height, width: of the image.
        photos: (h, w, 3) uint8 each, for backdrops and some clothes; none: this package's grounds and patterns.
        manner: what people do.
    """
    dice, size = Dice(rng, 512), (height, width)
    outfit = draw_outfit(dice, photos)
    body = draw_body(dice, draw_pose(dice, manner), outfit)
    stature, shift = _place(dice, body.solids, size)
    person = [solid.placed(stature, shift) for solid in body.solids]
    joints = body.joints * stature + shift
    pieces = [_Piece(solid, COVERS.index(solid.cover), PARTS.index(solid.part)) for solid in person]
    others, covers = _others(dice, stature, joints, size, photos, manner)
    canvas = Canvas((height * SUPERSAMPLING, width * SUPERSAMPLING), _light(dice))
    # Pixel centers are at integers, in the fine image too.
    fine = np.array([(SUPERSAMPLING - 1) / 2, (SUPERSAMPLING - 1) / 2, 0])
    # The nearer first: what they hide is not worked out.
    for piece in sorted(pieces + others, key=lambda piece: float(piece.solid.start[2] + piece.solid.end[2])):
        canvas.lay(piece.solid.placed(SUPERSAMPLING, fine), piece.part, piece.cover)

    image = _laid_over(draw_backdrop(dice, size, photos), canvas, np.concatenate([outfit.covers, *covers]))
    half = SUPERSAMPLING // 2
    parts = canvas.owner[half::SUPERSAMPLING, half::SUPERSAMPLING].copy()
    screen = draw_screen(dice, size) if dice.chance(SCREENS) else None
    if screen is not None:
        fill(image, screen, draw_color(dice))
        hidden = np.zeros(size, np.uint8)
        fill(hidden, screen, np.array([255]))
        parts[hidden >= 128] = -1
    flags = flags_of(canvas, joints, stature, screen, size)
    box = _box(person, size)
    return Drawn(_exposed(dice, image), np.column_stack([joints[:, :2], flags]).astype(np.float32), box, parts)


def _place(dice: Dice, solids: Sequence[Solid], size: tuple[int, int]) -> tuple[float, np.ndarray]:
    """A person's stature in pixels, and where in the camera's frame the person's origin is then, (3,)."""
    extents = np.array([solid.extent() for solid in solids])
    low, high = extents[:, :2].min(0), extents[:, 2:].max(0)
    room = np.array(size[::-1], np.float64)
    beyond = dice.chance(BEYOND)
    stature = dice.uniform(*(LARGER if beyond else FILLS)) * float((room / (high - low)).min())
    free = np.abs(room - stature * (high - low)) / 2
    away = np.array([dice.uniform(-1, 1), dice.uniform(-1, 1)]) * np.minimum(free, 0.1 * room)
    return stature, np.append((room - 1) / 2 + away - stature * (low + high) / 2, 0)


def _others(
    dice: Dice,
    stature: float,
    joints: np.ndarray,
    size: tuple[int, int],
    photos: Sequence[np.ndarray],
    manner: Manner,
) -> tuple[list[_Piece], list[np.ndarray]]:
    """Who and what else is there, and the covers that come after the person's."""
    pieces: list[_Piece] = []
    covers: list[np.ndarray] = []
    height, width = size
    if dice.chance(STRANGERS):
        outfit = draw_outfit(dice, photos)
        body = draw_body(dice, draw_pose(dice, manner), outfit)
        # The person is the one in the middle: others are aside, and who is before the person reaches in from outside.
        before = dice.chance(0.25)
        aside = dice.uniform(0.55, 0.75) if before else dice.uniform(0.35, 0.65)
        scale = min(stature, height) * dice.uniform(0.6, 1.2)
        middle = width * (0.5 + aside * dice.pick((-1, 1))), height * dice.uniform(0.3, 0.7)
        shift = np.array([*middle, (-_APART if before else _APART) * stature])
        for solid in body.solids:
            pieces.append(_Piece(solid.placed(scale, shift), len(COVERS) + COVERS.index(solid.cover), -1))
        covers.append(outfit.covers)
    if dice.chance(THINGS):
        cover = len(COVERS) * (1 + len(covers))
        covers.append(draw_cloth(dice)[None])
        near = joints[dice.integer(0, len(JOINTS) - 1)]
        pieces.append(_Piece((_ball if dice.chance(0.5) else _bar)(dice, near, stature), cover, -1))
    return pieces, covers


def _ball(dice: Dice, near: np.ndarray, stature: float) -> Solid:
    """Beside a joint, before or behind it."""
    radius = stature * dice.uniform(0.04, 0.1)
    away = np.array([dice.uniform(-1, 1), dice.uniform(-1, 1), dice.uniform(-1, 1)])
    middle = near + away * (0.2 * stature)
    return Solid("ball", "ball", middle, middle, (radius, radius), _TO_VIEWER)


def _bar(dice: Dice, near: np.ndarray, stature: float) -> Solid:
    """Past a joint, to hang from, to climb over or to hold."""
    angle = dice.pick((0.0, math.pi / 2, dice.uniform(0, math.pi))) + dice.uniform(-0.1, 0.1)
    along = np.array([math.cos(angle), math.sin(angle), 0])
    middle = near + np.array([0, 0, dice.uniform(-0.25, 0.25)]) * stature
    first, second = (dice.pick((0.4, 3.0)) * stature * along for _ in range(2))
    radius = stature * dice.uniform(0.01, 0.03)
    return Solid("bar", "bar", middle - first, middle + second, (radius, radius), _TO_VIEWER)


def _light(dice: Dice) -> np.ndarray:
    """From above, from the side or from behind the viewer."""
    light = np.array([dice.uniform(-1, 1), -dice.uniform(0.2, 1), -dice.uniform(0.3, 1)])
    return light / np.sqrt(light @ light)


def _laid_over(backdrop: np.ndarray, canvas: Canvas, covers: np.ndarray) -> np.ndarray:
    """The image of the solids before a backdrop, (H, W, 3) uint8."""
    size = backdrop.shape[1::-1]
    lit = cv2.resize(canvas.paint(covers), size, interpolation=cv2.INTER_AREA)
    empty = cv2.resize((canvas.depth == np.inf).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return cv2.convertScaleAbs(lit * 255 + backdrop * empty[..., None])


def flags_of(
    canvas: Canvas, joints: np.ndarray, stature: float, screen: np.ndarray | None, size: tuple[int, int]
) -> np.ndarray:
    """Of every joint 0, 1 or 2.

    Args:
        canvas: the scene, `SUPERSAMPLING` times as large as the image.
        joints: (14, 3) in pixels of the image, with depth.
        stature: the person's, in pixels.
        screen: something flat before everything, a contour in pixels.
        size: (height, width) of the image.
    """
    flags = np.zeros(len(JOINTS))
    for number, (x, y, z) in enumerate(joints.tolist()):
        if not (-0.5 <= x < size[1] - 0.5 and -0.5 <= y < size[0] - 0.5):
            continue
        at = int((y + 0.5) * SUPERSAMPLING), int((x + 0.5) * SUPERSAMPLING)
        depth, owner = float(canvas.depth[at]) / SUPERSAMPLING, int(canvas.owner[at])
        parts, flesh = SEATS[JOINTS[number]]
        # Beside the silhouette by a hair nothing hides it.
        free = depth > z or (owner >= 0 and PARTS[owner] in parts and z - depth <= flesh * stature)
        behind = screen is not None and cv2.pointPolygonTest(screen.astype(np.float32), (x, y), False) >= 0
        flags[number] = 2 if free and not behind else 1
    return flags


def _box(person: Sequence[Solid], size: tuple[int, int]) -> np.ndarray:
    extents = np.array([solid.extent() for solid in person])
    corners = np.concatenate([extents[:, :2].min(0), extents[:, 2:].max(0)])
    return corners.clip(0, np.array([size[1], size[0]] * 2) - 1).astype(np.float32)


def _exposed(dice: Dice, image: np.ndarray) -> np.ndarray:
    """Never quite as bright, as white or as sharp."""
    if dice.chance(SOFT):
        image = cv2.GaussianBlur(image, (0, 0), dice.uniform(0.002, 0.005) * max(image.shape[:2]))
    gain = dice.uniform(0.75, 1.15) * np.array([dice.uniform(0.93, 1.07) for _ in range(3)])
    table = np.clip(np.arange(256)[:, None] * gain, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[None])
