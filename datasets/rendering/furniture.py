"""Furniture grammar: each piece is a short function that returns its parts, in plausible meters.

Sizes are those of real furniture, because a network that knows how large a chair is can tell how far
it stands.
"""

from __future__ import annotations

import math

from .materials import Decor
from .parts import Part, Piece, ball, box, cylinder, moved


def _legs(x: float, y0: float, y1: float, height: float, thickness: float, material: int) -> list[Part]:
    t = thickness
    return [box(left, left + t, back, back + t, 0.0, height, material) for left in (-x, x - t) for back in (y0, y1 - t)]


def small_things(decor: Decor, x: float, y0: float, y1: float, z: float, count: int) -> list[Part]:
    """Books, mugs, bowls and boxes that lie on a top at height z."""
    dice, parts = decor.dice, []
    for _ in range(count):
        at_x, at_y, color = dice.uniform(-x, x), dice.uniform(y0, y1), decor.new_paint(0.8, 0.15, 0.95)
        kind = dice.integer(0, 4)
        if kind == 0:
            parts.append(cylinder(at_x, at_y, z, z + 0.1, 0.042, color))
        elif kind == 1:
            parts.append(ball(at_x, at_y, z + 0.05, 0.12, 0.12, 0.05, color))
        elif kind == 2:
            height = dice.uniform(0.18, 0.32)
            parts.append(cylinder(at_x, at_y, z, z + height, dice.uniform(0.035, 0.07), color))
        else:
            half_x, half_y, height = dice.uniform(0.08, 0.15), dice.uniform(0.1, 0.12), dice.uniform(0.015, 0.2)
            lying = box(-half_x, half_x, -half_y, half_y, 0.0, height, color)
            parts += moved([lying], at_x, at_y, z, dice.uniform(0, math.pi))
    return parts


def chair(decor: Decor) -> Piece:
    dice, wood = decor.dice, decor.other_wood
    seat = decor.seat_cover() if dice.chance(0.5) else wood
    x, height = dice.uniform(0.2, 0.23), dice.uniform(0.82, 1.0)
    parts = _legs(x, 0.0, 2 * x, 0.43, 0.04, wood)
    parts.append(box(-x, x, 0.0, 2 * x, 0.42, 0.46, seat))
    if dice.chance(0.5):
        parts.append(box(-x, x, -0.02, 0.02, 0.55, height, seat))
    else:
        parts += [box(-x, x, -0.015, 0.015, z, z + 0.07, wood) for z in (0.58, 0.7, height - 0.08)]
    parts += [box(side, side + 0.04, -0.02, 0.02, 0.42, height, wood) for side in (-x, x - 0.04)]
    return Piece(2 * x, 2 * x, height, parts)


def office_chair(decor: Decor) -> Piece:
    cover = decor.dark if decor.dice.chance(0.6) else decor.accent
    parts = [
        box(-0.28, 0.28, 0.22, 0.28, 0.04, 0.09, decor.dark),
        box(-0.03, 0.03, -0.03, 0.53, 0.04, 0.09, decor.dark),
        cylinder(0.0, 0.25, 0.05, 0.45, 0.03, decor.metal),
        box(-0.24, 0.24, 0.02, 0.5, 0.44, 0.52, cover),
        box(-0.22, 0.22, -0.04, 0.03, 0.58, decor.dice.uniform(0.95, 1.15), cover),
    ]
    return Piece(0.56, 0.56, 1.0, parts)


def stool(decor: Decor) -> Piece:
    height, radius = decor.dice.uniform(0.42, 0.75), decor.dice.uniform(0.15, 0.19)
    parts = [cylinder(0.0, radius, height - 0.05, height, radius, decor.wood)]
    parts += _legs(0.13, radius - 0.13, radius + 0.13, height, 0.03, decor.metal)
    return Piece(2 * radius, 2 * radius, height, parts)


def table(decor: Decor, things: int = 3) -> Piece:
    dice = decor.dice
    x, depth, height = dice.uniform(0.45, 0.95), dice.uniform(0.7, 1.0), dice.uniform(0.72, 0.78)
    if dice.chance(0.25):
        radius = dice.uniform(0.4, 0.65)
        parts = [
            cylinder(0.0, radius, height - 0.03, height, radius, decor.wood),
            cylinder(0.0, radius, 0.03, height - 0.03, 0.05, decor.wood),
            cylinder(0.0, radius, 0.0, 0.03, 0.28, decor.wood),
        ]
        x, depth = radius, 2 * radius
        spread = 0.55 * radius
        parts += small_things(decor, spread, radius - spread, radius + spread, height, dice.integer(0, things))
        return Piece(2 * x, depth, height, parts)
    leg = dice.pick((decor.wood, decor.metal))
    parts = [box(-x, x, 0.0, depth, height - 0.035, height, decor.wood)]
    parts += _legs(x - 0.03, 0.03, depth - 0.03, height - 0.03, dice.uniform(0.045, 0.09), leg)
    parts += small_things(decor, x - 0.15, 0.15, depth - 0.15, height, dice.integer(0, things))
    return Piece(2 * x, depth, height, parts)


def dining_group(decor: Decor) -> Piece:
    """A table with chairs on its four sides, some pulled out."""
    dice, piece = decor.dice, table(decor, things=5)
    half, depth = piece.width / 2, piece.depth
    one = chair(decor).parts
    parts = list(piece.parts)
    places = [(side * half / 2, y, yaw) for side in (-1, 1) for y, yaw in ((-0.15, 0.0), (depth + 0.15, math.pi))]
    places += [(-half - 0.15, depth / 2, -math.pi / 2), (half + 0.15, depth / 2, math.pi / 2)]
    if piece.width < 1.2:
        places = [(0.0, -0.15, 0.0), (0.0, depth + 0.15, math.pi), *places[4:]]
    for x, y, yaw in places:
        if dice.chance(0.75):
            away = dice.uniform(0.0, 0.25)
            turn = yaw + dice.uniform(-0.3, 0.3)
            parts += moved(one, x + away * math.sin(yaw), y - away * math.cos(yaw), 0.0, turn)
    return Piece(piece.width + 1.1, depth + 1.1, 1.0, moved(parts, 0.0, 0.55))


def coffee_table(decor: Decor) -> Piece:
    dice = decor.dice
    x, depth, height = dice.uniform(0.35, 0.65), dice.uniform(0.5, 0.7), dice.uniform(0.35, 0.48)
    parts = [box(-x, x, 0.0, depth, height - 0.04, height, decor.wood)]
    parts += _legs(x - 0.02, 0.02, depth - 0.02, height - 0.04, 0.05, decor.wood)
    if dice.chance(0.5):
        parts.append(box(-x + 0.04, x - 0.04, 0.04, depth - 0.04, 0.14, 0.16, decor.wood))
    parts += small_things(decor, x - 0.1, 0.1, depth - 0.1, height, dice.integer(0, 4))
    return Piece(2 * x, depth, height, parts)


def sofa(decor: Decor, width: float = 0.0) -> Piece:
    dice, cloth = decor.dice, decor.fabric
    x, depth = (width or dice.uniform(1.4, 2.3)) / 2, dice.uniform(0.82, 0.98)
    seat, back, arm = dice.uniform(0.4, 0.46), dice.uniform(0.74, 0.92), dice.uniform(0.1, 0.22)
    parts = [
        box(-x, x, 0.05, depth, 0.08, seat - 0.14, cloth),
        box(-x, x, 0.0, 0.2, 0.08, back, cloth),
        box(-x, -x + arm, 0.0, depth, 0.08, seat + 0.18, cloth),
        box(x - arm, x, 0.0, depth, 0.08, seat + 0.18, cloth),
    ]
    seats = max(1, round(2 * (x - arm) / 0.68))
    each = 2 * (x - arm) / seats
    for k in range(seats):
        left = -x + arm + k * each
        parts.append(box(left + 0.008, left + each - 0.008, 0.18, depth + 0.02, seat - 0.14, seat, cloth))
        parts.append(box(left + 0.008, left + each - 0.008, 0.18, 0.34, seat, back + 0.04, cloth))
        if dice.chance(0.4):
            at = left + each * dice.uniform(0.3, 0.7)
            parts.append(ball(at, 0.42, seat + 0.18, 0.22, 0.09, 0.2, decor.accent))
    parts += _legs(x - 0.05, 0.08, depth - 0.05, 0.09, 0.05, decor.dark)
    return Piece(2 * x, depth, back, parts)


def armchair(decor: Decor) -> Piece:
    return sofa(decor, width=decor.dice.uniform(0.75, 0.95))


def bed(decor: Decor) -> Piece:
    dice = decor.dice
    x, length, height = dice.pick((0.45, 0.6, 0.7, 0.8, 0.9)), dice.uniform(1.95, 2.1), dice.uniform(0.42, 0.6)
    sheet, cover = decor.white, decor.new_fabric(0.6)
    parts = [
        box(-x, x, 0.0, length, 0.14, height - 0.2, decor.wood),
        box(-x + 0.02, x - 0.02, 0.05, length - 0.02, height - 0.2, height - 0.02, sheet),
        box(-x - 0.02, x + 0.02, dice.uniform(0.5, 0.9), length + 0.01, height - 0.25, height + 0.05, cover),
        box(-x - 0.03, x + 0.03, -0.02, 0.04, 0.0, dice.uniform(0.7, 1.2), decor.wood),
    ]
    for center in (0.0,) if x < 0.6 else (-x / 2, x / 2):
        parts.append(ball(center, 0.3, height + 0.05, 0.32, 0.2, 0.09, sheet))
    parts += _legs(x, 0.0, length, 0.15, 0.07, decor.wood)
    return Piece(2 * x + 0.06, length, height, parts)


def bedside_table(decor: Decor) -> Piece:
    piece = cupboard(decor, width=0.45, height=decor.dice.uniform(0.4, 0.6))
    lamp = moved(table_lamp(decor), 0.0, 0.2, piece.height) if decor.dice.chance(0.6) else []
    return Piece(piece.width, piece.depth, piece.height, piece.parts + lamp)


def table_lamp(decor: Decor) -> list[Part]:
    lit = decor.lamp_shade()
    return [cylinder(0.0, 0.0, 0.0, 0.2, 0.05, decor.metal), cylinder(0.0, 0.0, 0.2, 0.4, 0.13, lit, shadow=False)]


def floor_lamp(decor: Decor) -> Piece:
    height = decor.dice.uniform(1.4, 1.75)
    parts = [
        cylinder(0.0, 0.2, 0.0, 0.03, 0.15, decor.metal),
        cylinder(0.0, 0.2, 0.0, height - 0.1, 0.015, decor.metal),
        cylinder(0.0, 0.2, height - 0.28, height, 0.19, decor.lamp_shade(), shadow=False),
    ]
    return Piece(0.4, 0.4, height, parts)


def cupboard(decor: Decor, width: float = 0.0, height: float = 0.0) -> Piece:
    """A body on a plinth whose doors or drawers leave visible gaps."""
    dice = decor.dice
    x, height = (width or dice.uniform(0.6, 1.8)) / 2, height or dice.uniform(0.7, 1.3)
    depth, body, front = dice.uniform(0.38, 0.5), dice.pick((decor.wood, decor.lacquer)), decor.lacquer
    if dice.chance(0.6):
        front = body
    parts = [box(-x + 0.02, x - 0.02, 0.0, depth - 0.05, 0.0, 0.08, decor.dark)]
    parts.append(box(-x, x, 0.0, depth - 0.02, 0.08, height, body))
    columns = max(1, round(2 * x / 0.5))
    rows = dice.integer(2, 4) if height < 1.3 and dice.chance(0.5) else 1
    step_x, step_z = 2 * x / columns, (height - 0.12) / rows
    for i in range(columns):
        for k in range(rows):
            left, low = -x + i * step_x, 0.1 + k * step_z
            right, high = left + step_x, low + step_z
            parts.append(box(left + 0.008, right - 0.008, depth - 0.02, depth, low, high - 0.015, front))
            knob = left + (step_x / 2 if rows > 1 else 0.06 + (step_x - 0.12) * (i % 2 == 0))
            grip = low + (0.6 if rows > 1 or height > 1.3 else 0.85) * step_z
            parts.append(box(knob - 0.03, knob + 0.03, depth, depth + 0.025, grip - 0.012, grip + 0.012, decor.metal))
    if height < 1.4:
        parts += small_things(decor, x - 0.12, 0.12, depth - 0.12, height, dice.integer(0, 3))
    return Piece(2 * x, depth, height, parts)


def wardrobe(decor: Decor) -> Piece:
    return cupboard(decor, width=decor.dice.uniform(0.9, 2.2), height=decor.dice.uniform(1.8, 2.25))


def bookshelf(decor: Decor) -> Piece:
    dice, wood = decor.dice, decor.wood
    x, depth, height = dice.uniform(0.35, 0.7), dice.uniform(0.26, 0.36), dice.uniform(1.0, 2.15)
    parts = [
        box(-x, x, 0.0, 0.015, 0.0, height, wood),
        box(-x, -x + 0.025, 0.0, depth, 0.0, height, wood),
        box(x - 0.025, x, 0.0, depth, 0.0, height, wood),
    ]
    boards = max(2, round(height / dice.uniform(0.33, 0.4)))
    for k in range(boards + 1):
        z = 0.05 + k * (height - 0.075) / boards
        parts.append(box(-x, x, 0.0, depth - 0.005, z, z + 0.025, wood))
        if k == boards:
            break
        gap, left = (height - 0.075) / boards - 0.025, -x + 0.03
        while left < x - 0.15:
            wide = min(dice.uniform(0.12, 0.5), x - 0.03 - left)
            if dice.chance(0.75):
                tall, deep = gap * dice.uniform(0.65, 0.92), depth - dice.uniform(0.03, 0.1)
                books = decor.books()
                parts.append(box(left, left + wide, 0.02, deep, z + 0.025, z + 0.025 + tall, books))
            left += wide + 0.01
    return Piece(2 * x, depth, height, parts)


def desk(decor: Decor) -> Piece:
    """A desk with a screen, and its chair in front."""
    dice = decor.dice
    x, depth, height = dice.uniform(0.55, 0.85), dice.uniform(0.6, 0.8), dice.uniform(0.71, 0.76)
    parts = [box(-x, x, 0.0, depth, height - 0.03, height, decor.wood)]
    if dice.chance(0.5):
        parts += [box(side, side + 0.03, 0.02, depth - 0.02, 0.0, height, decor.wood) for side in (-x, x - 0.03)]
        parts.append(box(x - 0.45, x - 0.02, 0.05, depth - 0.05, 0.1, height - 0.04, decor.lacquer))
    else:
        parts += _legs(x - 0.02, 0.03, depth - 0.03, height - 0.03, 0.05, decor.metal)
    at, half = dice.uniform(-0.2, 0.2), dice.uniform(0.22, 0.32)
    parts += [
        box(at - half, at + half, 0.14, 0.17, height + 0.1, height + 0.1 + 1.25 * half, decor.dark, decor.screen()),
        box(at - 0.03, at + 0.03, 0.12, 0.15, height, height + 0.15, decor.dark),
        box(at - 0.12, at + 0.12, 0.06, 0.24, height, height + 0.015, decor.dark),
        box(at - 0.22, at + 0.22, 0.36, 0.5, height, height + 0.02, decor.dark),
    ]
    parts += small_things(decor, x - 0.12, 0.2, depth - 0.12, height, dice.integer(0, 3))
    if dice.chance(0.4):
        parts += moved(table_lamp(decor), -x + 0.2, 0.2, height)
    seat = dice.pick((office_chair, chair))(decor)
    away, turn = depth + dice.uniform(0.45, 0.7), math.pi + dice.uniform(-0.5, 0.5)
    parts += moved(seat.parts, at + dice.uniform(-0.1, 0.1), away, 0.0, turn)
    return Piece(2 * x, depth + 0.7, height, parts)


def television(decor: Decor) -> Piece:
    dice, bench = decor.dice, cupboard(decor, width=decor.dice.uniform(1.1, 1.8), height=decor.dice.uniform(0.38, 0.55))
    x, z = dice.uniform(0.42, 0.7), bench.height + 0.08
    screen = [
        box(-x, x, 0.14, 0.19, z, z + 1.15 * x, decor.dark, decor.screen() if dice.chance(0.3) else decor.dark),
        box(-0.2, 0.2, 0.08, 0.25, bench.height, z, decor.dark),
    ]
    return Piece(bench.width, bench.depth, z + 1.15 * x, bench.parts + screen)


def kitchen_row(decor: Decor) -> Piece:
    """Base cabinets with a worktop, a stove or sink, wall cabinets, perhaps a refrigerator at one end."""
    dice, front = decor.dice, decor.lacquer
    units, top = dice.integer(3, 6), dice.pick((decor.wood, decor.dark, decor.metal))
    x, parts = 0.3 * units, []
    for k in range(units):
        left = -x + 0.6 * k
        parts.append(box(left + 0.005, left + 0.595, 0.0, 0.58, 0.1, 0.86, front))
        rows = dice.pick((1, 1, 3))
        for row in range(rows):
            z = 0.12 + 0.73 * (row + 0.9) / rows
            parts.append(box(left + 0.15, left + 0.45, 0.58, 0.605, z - 0.01, z + 0.01, decor.metal))
        if dice.chance(0.65):
            parts.append(box(left + 0.004, left + 0.596, 0.0, 0.34, 1.4, 2.05, front))
            parts.append(box(left + 0.5, left + 0.52, 0.34, 0.36, 1.42, 1.55, decor.metal))
    parts.append(box(-x, x, 0.0, 0.52, 0.0, 0.1, decor.dark))
    parts.append(box(-x, x, 0.0, 0.62, 0.86, 0.9, top))
    parts.append(box(-x, x, 0.0, 0.012, 0.9, 1.4, decor.splash()))
    spot = -x + 0.6 * dice.integer(0, units - 1) + 0.3
    parts.append(box(spot - 0.26, spot + 0.26, 0.08, 0.52, 0.9, 0.91, dice.pick((decor.dark, decor.metal))))
    parts += small_things(decor, x - 0.15, 0.15, 0.45, 0.9, dice.integer(2, 6))
    if dice.chance(0.5):
        tall = dice.uniform(1.5, 2.0)
        cold = dice.pick((decor.white, decor.metal, decor.lacquer))
        parts += [
            box(x + 0.01, x + 0.61, 0.0, 0.64, 0.02, tall, cold),
            box(x + 0.05, x + 0.57, 0.64, 0.655, 0.62, 0.64, decor.dark),
            box(x + 0.07, x + 0.1, 0.64, 0.68, 0.8, 1.2, decor.metal),
        ]
        parts, x = moved(parts, -0.31, 0.0), x + 0.31
    return Piece(2 * x, 0.65, 1.4, parts)


def plant(decor: Decor) -> Piece:
    dice, leaves, pot = decor.dice, decor.leaves(), decor.new_paint(0.6, 0.3, 0.9)
    radius, height = dice.uniform(0.12, 0.2), dice.uniform(0.7, 1.7)
    parts = [cylinder(0.0, 0.25, 0.0, 1.7 * radius, radius, pot), cylinder(0.0, 0.25, 0.1, height, 0.02, decor.wood)]
    for _ in range(dice.integer(5, 9)):
        x, y, z = dice.uniform(-0.2, 0.2), 0.25 + dice.uniform(-0.2, 0.2), height * dice.uniform(0.55, 1.0)
        parts.append(ball(x, y, z, dice.uniform(0.08, 0.2), dice.uniform(0.08, 0.2), dice.uniform(0.06, 0.16), leaves))
    return Piece(0.5, 0.5, height, parts)


def crates(decor: Decor) -> Piece:
    """Cardboard or plastic boxes, sometimes stacked."""
    dice, x, height, parts = decor.dice, 0.0, 0.0, []
    for _ in range(dice.integer(1, 3)):
        half_x, half_y, z = dice.uniform(0.15, 0.32), dice.uniform(0.15, 0.28), 0.0
        for _ in range(dice.integer(1, 2)):
            tall = dice.uniform(0.2, 0.45)
            one = box(-half_x, half_x, -half_y, half_y, 0.0, tall, decor.crate())
            parts += moved([one], x + half_x, 0.32, z, dice.uniform(-0.2, 0.2))
            half_x, half_y, z = half_x * 0.9, half_y * 0.9, z + tall
            height = max(height, z)
        x += 2.3 * half_x
    return Piece(x, 0.64, height, moved(parts, -x / 2, 0.0))


def rug(decor: Decor) -> Piece:
    x, depth = decor.dice.uniform(0.6, 1.3), decor.dice.uniform(1.0, 2.4)
    return Piece(2 * x, depth, 0.0, [box(-x, x, 0.0, depth, 0.0, 0.012, decor.rug())])


def island(decor: Decor) -> Piece:
    x, depth = decor.dice.uniform(0.6, 1.1), decor.dice.uniform(0.6, 0.9)
    parts = [
        box(-x + 0.05, x - 0.05, 0.05, depth - 0.2, 0.0, 0.88, decor.lacquer),
        box(-x, x, 0.0, depth, 0.88, 0.92, decor.wood),
    ]
    parts += small_things(decor, x - 0.15, 0.15, depth - 0.15, 0.92, decor.dice.integer(0, 4))
    return Piece(2 * x, depth, 0.92, parts)


def litter(decor: Decor) -> Piece:
    """What lies about: bins, baskets, bags, small boxes."""
    dice, cloth = decor.dice, decor.new_paint(0.7, 0.15, 0.9)
    kind = dice.integer(0, 3)
    if kind == 0:
        radius, height = dice.uniform(0.12, 0.18), dice.uniform(0.25, 0.5)
        return Piece(2 * radius, 2 * radius, height, [cylinder(0.0, radius, 0.0, height, radius, cloth)])
    if kind == 1:
        return Piece(0.45, 0.3, 0.3, [ball(0.0, 0.15, 0.14, 0.22, 0.14, dice.uniform(0.12, 0.2), cloth)])
    x, y, height = dice.uniform(0.1, 0.25), dice.uniform(0.08, 0.2), dice.uniform(0.05, 0.35)
    return Piece(2 * x, 2 * y, height, [box(-x, x, 0.0, 2 * y, 0.0, height, decor.crate())])


def ball_toy(decor: Decor) -> Piece:
    radius = decor.dice.uniform(0.1, 0.32)
    return Piece(2 * radius, 2 * radius, 2 * radius, [ball(0.0, radius, radius, radius, radius, radius, decor.accent)])
