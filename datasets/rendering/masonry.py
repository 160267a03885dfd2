"""Masonry: what the elements of a facade are made of, and what stands around it; labels tell none of it.

An element becomes parts: a window is a frame, panes, curtains and a reflection, a balcony is a slab, bars and a rail. A
part stays within its element, so that the labels are the elements' own. Lengths are meters, as in `elevations`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .elevations import Element, Elevation
from .materials import Dice
from .styles import Style

BEYOND = 30.0
"""Meters of surroundings at every side."""

Corners = Sequence[tuple[float, float]]


class Part(NamedTuple):
    """One flat thing.

    Attributes:
        corners: of a convex outline, meters.
        paint: linear light in [0, 1].
        relief: meters before the wall.
        rough: how strongly the texture of the wall is seen on it.
    """

    corners: Corners
    paint: np.ndarray
    relief: float
    rough: float = 0.0


def build(dice: Dice, style: Style, elevation: Elevation) -> list[Part]:
    """All parts of an image from the farthest to the nearest; where there is none, there is sky."""
    site = _Site(dice, style)
    _surroundings(site, elevation)
    for element in elevation.elements:
        _BUILDERS[element.name](site, element)
    return site.parts


class _Site:
    """Where parts are put one over the other."""

    def __init__(self, dice: Dice, style: Style) -> None:
        self.dice, self.style = dice, style
        self.parts: list[Part] = []

    def outline(self, element: Element, thing: str, relief: float, rough: float = 0.0, shade: float = 1.0) -> None:
        self.polygon(element.contour().tolist(), thing, relief, rough, shade)

    def box(
        self, left: float, bottom: float, right: float, top: float, thing: str, relief: float, rough: float = 0.0,
        shade: float = 1.0,
    ) -> None:  # fmt: skip
        self.polygon(((left, bottom), (right, bottom), (right, top), (left, top)), thing, relief, rough, shade)

    def polygon(self, corners: Corners, thing: str, relief: float, rough: float = 0.0, shade: float = 1.0) -> None:
        self.parts.append(Part(corners, shade * self.style.paints[thing], relief, rough))


def _surroundings(site: _Site, elevation: Elevation) -> None:
    """The street, the neighboring buildings, and the roof with its chimneys and dormers."""
    dice, style, (width, height, _) = site.dice, site.style, elevation
    for start, end in ((-BEYOND, 0.0), (width, width + BEYOND)):
        if dice.chance(0.15):
            continue
        high, shade = height * dice.uniform(0.45, 1.1), dice.uniform(0.8, 1.15)
        site.box(start, 0, end, high, "neighbor", -0.3, 0.3, shade)
        site.box(start, high, end, high + dice.uniform(0.2, 1.5), "roof", -0.2)
        step, share, low = dice.uniform(1.6, 2.6), dice.uniform(0.35, 0.5), dice.uniform(0.6, 1.2)
        for row in range(int((high - low) / 3)):
            for column in range(3):
                left = end - (column + 1) * step if start < 0 else start + (column + 1 - share) * step
                bottom = low + 3 * row
                site.box(left, bottom, left + share * step, bottom + 1.6, "roof", -0.4, 0, 0.8)
    if style.roof:
        cut = min(style.hipped, width / 3)
        ridge = height + style.roof
        site.polygon(((0, height), (width, height), (width - cut, ridge), (cut, ridge)), "roof", 0, 0.4)
        for number in range(dice.integer(0, 3)):
            middle = width * (number + 1) / 4
            site.box(middle - 0.5, height, middle + 0.5, height + 0.7 * style.roof, "neighbor", 0.2)
            site.box(middle - 0.35, height + 0.1, middle + 0.35, height + 0.6 * style.roof, "roof", 0, 0, 0.8)
    for _ in range(dice.integer(0, 2)):
        left = dice.uniform(0.1, 0.85) * width
        site.box(left, height + 0.6 * style.roof, left + 0.7, height + style.roof + 0.9, "roof", 0.1, 0.5, 1.2)
    site.box(-BEYOND, -BEYOND, width + BEYOND, 0, "street", 0.5)
    site.box(-BEYOND, -0.45, width + BEYOND, 0, "neighbor", 0.5, 0, 1.1)


def _wall(site: _Site, wall: Element) -> None:
    style = site.style
    site.outline(wall, "wall", 0, style.roughness)
    if style.grooves:
        for number in range(1, int(3.3 / style.grooves)):
            joint = number * style.grooves
            site.box(0, joint - 0.035, wall.right, joint + 0.035, "wall", -0.08, 0, 0.7)


def _window(site: _Site, window: Element) -> None:
    dice, style = site.dice, site.style
    site.outline(window, "frame", -0.2)
    glass = window.inset(0.1)
    shade = dice.uniform(0.75, 1.25)
    site.outline(glass, "glass", -0.38, 0, shade)
    # Below the arch everything is square.
    top = glass.spring
    left, bottom, right, wide, high = glass.left, glass.bottom, glass.right, glass.width, top - glass.bottom
    if dice.chance(style.curtained):
        open_share, long = dice.uniform(0.1, 0.35), dice.uniform(0.5, 1) * high
        for edge, inner in ((left, left + open_share * wide), (right, right - open_share * wide)):
            fold = inner + (edge - inner) * dice.uniform(0, 0.5)
            site.polygon(((edge, top), (inner, top), (fold, top - long), (edge, top - long)), "curtain", -0.38, 0, 0.85)
    if dice.chance(style.mirroring):
        lean, start, broad = style.slant * wide, dice.uniform(0.2, 0.5) * wide, dice.uniform(0.2, 0.45) * wide
        foot, head = (max(left, min(right, left + start + sign * lean / 2)) for sign in (-1, 1))
        far_foot, far_head = (min(right, end + broad) for end in (foot, head))
        site.polygon(((foot, bottom), (far_foot, bottom), (far_head, top), (head, top)), "reflection", -0.38)
    columns, rows = style.glazing
    for number in range(1, columns):
        middle = left + wide * number / columns
        site.box(middle - 0.05, bottom, middle + 0.05, top, "frame", -0.28)
    levels = [bottom + high * number / rows for number in range(1, rows)] + ([top] if top < glass.top else [])
    for level in levels:
        site.box(left, level - 0.05, right, level + 0.05, "frame", -0.28)


def _door(site: _Site, door: Element) -> None:
    """Two leaves with panels, and a light above them."""
    site.outline(door, "leaf", -0.15, 0, 0.6)
    site.outline(door.inset(0.08)._replace(bottom=0), "leaf", -0.3)
    light = 0.16 * door.height
    spring = min(door.spring, door.top - 0.1) - light
    middle = (door.left + door.right) / 2
    for left, right in ((door.left + 0.2, middle - 0.1), (middle + 0.1, door.right - 0.2)):
        for low, high in ((0.15, 0.42), (0.5, 0.9)):
            site.box(left, low * spring, right, high * spring, "leaf", -0.36, 0, 0.65)
        site.box(left, spring + 0.1, right, spring + light, "leaf", -0.38, 0, 1.5)
    site.box(middle - 0.03, 0, middle + 0.03, spring, "leaf", -0.4, 0, 0.5)


def _cornice(site: _Site, cornice: Element) -> None:
    """A moulding in three steps, the highest farthest out, with teeth below it."""
    left, bottom, right, top = cornice[1:5]
    high = cornice.height
    site.outline(cornice, "stone", 0.25)
    site.box(left, bottom + 0.55 * high, right, top, "stone", 0.5)
    site.box(left, bottom + 0.8 * high, right, top, "stone", 0.7)
    if site.style.dentils and high > 0.45:
        for number in range(int((right - left) / site.style.dentils)):
            start = left + (number + 0.25) * site.style.dentils
            site.box(start, bottom + 0.25 * high, start + 0.5 * site.style.dentils, bottom + 0.55 * high, "stone", 0.45)


def _sill(site: _Site, sill: Element) -> None:
    site.outline(sill, "copper", 0.2)
    site.box(sill.left, sill.bottom + 0.4 * sill.height, sill.right, sill.top, "copper", 0.35)


def _balcony(site: _Site, balcony: Element) -> None:
    """A slab, and an iron railing through which it is dark."""
    left, bottom, right, top = balcony[1:5]
    railing, foot = site.style.railing, bottom + 0.25
    site.outline(balcony, "dusk", 0.62)
    count = max(2, round(balcony.width / (0.38 if railing == "bars" else 0.7)))
    step = balcony.width / count
    for number in range(count):
        start = left + number * step
        if railing == "bars":
            site.box(start + 0.35 * step, foot, start + 0.75 * step, top, "iron", 0.7)
        elif railing == "plates":
            site.box(start + 0.12 * step, foot + 0.08, start + 0.88 * step, top - 0.15, "iron", 0.7)
        else:
            for low, high in ((foot, top), (top, foot)):
                corners = ((start, low), (start + 0.12, low), (start + step, high), (start + step - 0.12, high))
                site.polygon(corners, "iron", 0.7)
    site.box(left, top - 0.12, right, top, "iron", 0.8)
    site.box(left, bottom, right, foot, "slab", 0.85)


def _blind(site: _Site, blind: Element) -> None:
    """Slats, with a gap below each."""
    site.outline(blind, "slat", 0.04)
    high = blind.spring - blind.bottom
    count = max(1, round(high / 0.24))
    step = high / count
    for number in range(count):
        low = blind.bottom + number * step
        site.box(blind.left + 0.06, low, blind.right - 0.06, low + 0.35 * step, "slat", 0, 0, 0.55)


def _deco(site: _Site, deco: Element) -> None:
    site.outline(deco, "gilt", 0.18)
    # Smaller about a point inside, it stays inside.
    corners = deco.contour()
    for size, relief, shade in ((0.72, 0.1, 0.65), (0.5, 0.2, 1.0)):
        smaller = size * corners + (1 - size) * corners.mean(0)
        site.polygon(smaller.tolist(), "gilt", relief, 0, shade)


def _molding(site: _Site, molding: Element) -> None:
    site.outline(molding, "stucco", 0.1)
    site.outline(molding.inset(0.07)._replace(bottom=molding.bottom), "stucco", 0.05, 0, 0.93)


def _pillar(site: _Site, pillar: Element) -> None:
    """A shaft between a base and a capital."""
    left, bottom, right, top = pillar[1:5]
    site.outline(pillar, "marble", 0.12)
    for number in range(2 if site.style.flutes else 0):
        middle = left + pillar.width * (number + 1) / 3
        site.box(middle - 0.03, bottom + 0.4, middle + 0.03, top - 0.4, "marble", 0.06, 0, 0.75)
    site.box(left, bottom, right, bottom + 0.3, "marble", 0.22)
    site.box(left, top - 0.35, right, top, "marble", 0.25)


def _shop(site: _Site, shop: Element) -> None:
    """A front of glass below a board and perhaps an awning."""
    dice, style = site.dice, site.style
    left, bottom, right = shop[1:4]
    site.outline(shop, "front", 0.05)
    board = bottom + 0.74 * shop.height
    count = dice.integer(1, 3)
    step = (shop.width - 0.15) / count
    for number in range(count):
        start = left + 0.15 + number * step
        site.box(
            start,
            bottom + (0.5 if number else 0.1),
            start + step - 0.15,
            board,
            "pane",
            -0.2,
            0,
            dice.uniform(0.8, 1.1),
        )
        if dice.chance(0.6):
            site.box(
                start + 0.15 * step, bottom + 0.6, start + 0.6 * step, bottom + dice.uniform(0.9, 1.6), "lit", -0.2
            )
    site.box(left + 0.25, board + 0.2, right - 0.25, board + 0.45, "lit", 0.1, 0, 0.9)
    if style.awning:
        edge = board - style.awning
        site.polygon(
            ((left, edge), (right, edge), (right - 0.1, board + 0.05), (left + 0.1, board + 0.05)), "awning", 0.7
        )
        for number in range(int(shop.width / 0.5)):
            start = left + 0.5 * number
            site.box(start, edge, start + 0.25, board + 0.05, "awning", 0.75, 0, 0.72)


_BUILDERS: dict[str, Callable[[_Site, Element], None]] = {
    "facade": _wall,
    "window": _window,
    "door": _door,
    "cornice": _cornice,
    "sill": _sill,
    "balcony": _balcony,
    "blind": _blind,
    "deco": _deco,
    "molding": _molding,
    "pillar": _pillar,
    "shop": _shop,
}
