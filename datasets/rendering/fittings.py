"""Fittings on the walls and the ceiling of a room: doors, windows, skirting, framed images, shelves, lamps."""

from __future__ import annotations

from .furniture import small_things
from .materials import Decor
from .parts import Part, Piece, ball, box, cylinder


def door(decor: Decor) -> Piece:
    x, height, frame, leaf = decor.dice.uniform(0.38, 0.46), decor.dice.uniform(1.96, 2.1), decor.white, decor.door()
    parts = [
        box(-x, x, 0.0, 0.025, 0.0, height, leaf),
        box(-x - 0.08, -x, 0.0, 0.05, 0.0, height + 0.08, frame),
        box(x, x + 0.08, 0.0, 0.05, 0.0, height + 0.08, frame),
        box(-x, x, 0.0, 0.05, height, height + 0.08, frame),
    ]
    return Piece(2 * x + 0.16, 0.05, height, parts)


def window(decor: Decor, daylight: float, room_height: float) -> Piece:
    """A framed pane over a sill, often with curtains at its sides or a radiator below."""
    dice, frame = decor.dice, decor.white
    x, low = dice.uniform(0.4, 1.1), dice.uniform(0.75, 1.05)
    high = min(low + dice.uniform(0.9, 1.5), room_height - 0.2)
    parts = [
        box(-x, x, 0.0, 0.02, low, high, decor.window(daylight)),
        box(-x - 0.06, -x, 0.0, 0.05, low - 0.06, high + 0.06, frame),
        box(x, x + 0.06, 0.0, 0.05, low - 0.06, high + 0.06, frame),
        box(-x, x, 0.0, 0.05, high, high + 0.06, frame),
        box(-x - 0.1, x + 0.1, 0.0, 0.16, low - 0.07, low - 0.03, frame),
    ]
    half = x + 0.1
    if dice.chance(0.45):
        cloth, bottom = decor.curtain(), 0.02 if dice.chance(0.6) else low - 0.15
        drawn = dice.uniform(0.25, 0.5)
        parts += [
            box(side - drawn / 2, side + drawn / 2, 0.17, 0.24, bottom, high + 0.15, cloth)._replace(shadow=False)
            for side in (-x - 0.05, x + 0.05)
        ]
        half = x + 0.3
    if dice.chance(0.5):
        fins = range(int(2 * x / 0.12))
        parts += [
            box(-x + 0.12 * k + 0.01, -x + 0.12 * k + 0.1, 0.04, 0.13, 0.12, low - 0.15, decor.white) for k in fins
        ]
    return Piece(2 * half, 0.25, high, parts)


def image(decor: Decor) -> Piece:
    """A framed image or a notice, centered at z = 0, to be hung by whoever knows the wall."""
    dice = decor.dice
    x, z = dice.uniform(0.12, 0.6), dice.uniform(0.15, 0.45)
    t = dice.uniform(0.015, 0.05)
    frame = dice.pick((decor.dark, decor.wood, decor.white, decor.metal))
    parts = [
        box(-x, x, 0.0, 0.015, -z, z, decor.image()),
        box(-x - t, -x, 0.0, 0.025, -z - t, z + t, frame),
        box(x, x + t, 0.0, 0.025, -z - t, z + t, frame),
        box(-x, x, 0.0, 0.025, z, z + t, frame),
        box(-x, x, 0.0, 0.025, -z - t, -z, frame),
    ]
    return Piece(2 * (x + t), 0.03, 2 * (z + t), parts)


def wall_shelf(decor: Decor) -> Piece:
    """A board with small things or books, centered at z = 0 like an image."""
    dice, x = decor.dice, decor.dice.uniform(0.3, 0.8)
    parts = [box(-x, x, 0.0, 0.24, -0.02, 0.01, decor.wood)]
    if dice.chance(0.6):
        end, top = dice.uniform(-0.1, x - 0.03), dice.uniform(0.2, 0.28)
        parts.append(box(-x + 0.03, end, 0.02, 0.2, 0.01, top, decor.books()))
    parts += small_things(decor, x - 0.1, 0.1, 0.14, 0.01, dice.integer(1, 4))
    return Piece(2 * x, 0.24, 0.5, parts)


def skirting(decor: Decor, width: float, depth: float) -> list[Part]:
    """Boards along the foot of the walls of a width x depth meter room, in the room's frame."""
    height, wood = decor.dice.uniform(0.05, 0.14), decor.dice.pick((decor.white, decor.white, decor.wood, decor.dark))
    t = 0.015
    edges = ((0, width, depth - t, depth), (0, t, 0, depth), (width - t, width, 0, depth))
    return [box(*edge, 0.0, height, wood)._replace(shadow=False) for edge in edges]


def ceiling_lamp(decor: Decor, shine: int) -> Piece:
    """A lamp below z = 0, centered; `height` is how far it hangs down and `shine` the material that glows."""
    dice = decor.dice
    kind = dice.pick(("disc", "panel", "pendant", "globe"))
    if kind == "disc":
        drop, parts = 0.08, [cylinder(0.0, 0.0, -0.07, 0.0, dice.uniform(0.12, 0.25), shine)]
    elif kind == "panel":
        drop, parts = 0.08, [box(-0.3, 0.3, -0.3, 0.3, -0.03, 0.0, shine)]
    else:
        drop = dice.uniform(0.45, 0.7)
        shade = cylinder(0.0, 0.0, -drop, 0.2 - drop, dice.uniform(0.12, 0.22), shine)
        if kind == "globe":
            shade = ball(0.0, 0.0, 0.12 - drop, 0.12, 0.12, 0.12, shine)
        parts = [cylinder(0.0, 0.0, 0.15 - drop, 0.0, 0.008, decor.dark), shade]
    return Piece(0.5, 0.5, drop, [part._replace(shadow=False) for part in parts])
