"""Elevations: the grammar of facades. Bays by storeys in a symmetric rhythm, and what stands where.

An elevation is a list of elements from the wall to what hangs before it; where two overlap, the later one is seen. It
says what there is and not how it looks. Lengths are meters: x to the right from the left edge, y up from the street.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .materials import Dice

BAYS, STOREYS = (3, 5), (1, 3)
"""Least and most windows beside one another, and storeys above the ground floor."""

BAY, GROUND, STOREY = (2.6, 3.3), (3.5, 4.2), (2.9, 3.4)
"""Widths and heights."""

ODD = 0.06
"""How often a single window departs from the rhythm of its storey."""

ROUND = 12
"""Corners of an arch."""


class Element(NamedTuple):
    """A part of a facade.

    Attributes:
        name: one of `paints.NAMES`.
        left, bottom, right, top: the box around it.
        shape: one of `SHAPES` or of `RISES`.
    """

    name: str
    left: float
    bottom: float
    right: float
    top: float
    shape: str = "box"

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.top - self.bottom

    def inset(self, by: float, name: str = "") -> Element:
        """The same shape, smaller by `by` at every side."""
        box = self.left + by, self.bottom + by, self.right - by, self.top - by
        return Element(name or self.name, *box, self.shape)

    @property
    def spring(self) -> float:
        """Where the arch begins; the top where there is none."""
        return self.top - min(RISES.get(self.shape, 0.0) * self.width, self.height)

    def contour(self) -> np.ndarray:
        """Its outline, convex, (P, 2) meters."""
        if self.shape in RISES:
            angle = np.linspace(0, math.pi, ROUND)
            middle, half, rise = (self.left + self.right) / 2, self.width / 2, self.top - self.spring
            top = np.stack([middle + half * np.cos(angle), self.spring + rise * np.sin(angle)], 1)
            return np.concatenate([top, [[self.left, self.bottom], [self.right, self.bottom]]])
        return (self.left, self.bottom) + SHAPES[self.shape] * (self.width, self.height)


RISES = {"arch": 0.36, "segment": 0.14}
"""Shapes that end in an arch, and how high it is as a share of its width."""

_HALF, _CIRCLE = np.linspace(0, math.pi, ROUND), np.linspace(0, 2 * math.pi, 2 * ROUND, endpoint=False)

SHAPES: dict[str, np.ndarray] = {
    "box": np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]]),
    "lunette": np.stack([0.5 + 0.5 * np.cos(_HALF), np.sin(_HALF)], 1),
    "gable": np.array([[0.0, 0], [1, 0], [1, 0.15], [0.5, 1], [0, 0.15]]),
    "disc": 0.5 + 0.5 * np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], 1),
    "keystone": np.array([[0.22, 0.0], [0.78, 0], [1, 1], [0, 1]]),
}
"""Outlines in the unit box, y up."""


class Elevation(NamedTuple):
    """A facade: its extent in meters, and its elements, the wall first."""

    width: float
    height: float
    elements: list[Element]


class _Storey(NamedTuple):
    """What the windows of one storey have in common: sizes in meters, and in which bays there is what."""

    bottom: float
    height: float
    wide: float
    low: float
    high: float
    shape: str
    molding: float
    sill: bool
    crown: str
    crowned: list[bool]
    balconies: list[bool]
    one_balcony: bool
    shutters: bool


def draw_elevation(dice: Dice) -> Elevation:
    """A facade."""
    bays, storeys = dice.integer(*BAYS), dice.integer(*STOREYS)
    bay, ground = dice.uniform(*BAY), dice.uniform(*GROUND)
    storey = dice.uniform(*STOREY)
    margin = dice.uniform(0.15, 0.8)
    width = 2 * margin + bays * bay
    cornice = dice.uniform(0.5, 0.8)
    height = ground + storeys * storey + cornice + dice.uniform(0.1, 0.5)
    middles = [margin + (number + 0.5) * bay for number in range(bays)]

    elements = [Element("facade", 0, 0, width, height)]
    shutters = dice.chance(0.4)
    rolled = 0.0 if shutters else dice.pick((0.0, 0.0, 0.3, 0.6))
    elements += _pillars(dice, width, ground, height - cornice, margin, bay, bays)
    elements += _bands(dice, width, ground, storeys, storey)
    kinds = _kinds(dice, bays)
    alike = dice.chance(0.5)
    above: list[_Storey] = []
    for number in range(storeys):
        bottom = ground + number * storey
        same = alike and above and number < storeys - 1
        above.append(above[0]._replace(bottom=bottom) if same else _storey(dice, bottom, storey, bay, kinds, shutters))
    elements += _ground_floor(dice, ground, bay, middles, kinds, rolled)
    for row in above:
        elements += _row(dice, row, middles, rolled)
    elements.append(Element("cornice", 0, height - cornice, width, height))
    return Elevation(width, height, elements)


def _kinds(dice: Dice, bays: int) -> list[int]:
    """The kind of every bay, the same from the left and from the right: 0 ordinary, 1 at the edges, 2 in the middle."""
    first = [1 if bay == 0 else 2 if bay == (bays - 1) // 2 else 0 for bay in range((bays + 1) // 2)]
    return first + first[: bays // 2][::-1]


def _rhythm(dice: Dice, kinds: list[int], often: float) -> list[bool]:
    """In which bays there is something: mostly in all of a kind."""
    if not dice.chance(often):
        return [False] * len(kinds)
    chosen = dice.pick(((0, 1, 2), (0, 1, 2), (2,), (1,), (0, 2)))
    return [(kind in chosen) != dice.chance(ODD) for kind in kinds]


def _pillars(
    dice: Dice, width: float, bottom: float, top: float, margin: float, bay: float, bays: int
) -> list[Element]:
    """Flat pillars at the edges, or between the bays too."""
    if not dice.chance(0.5):
        return []
    wide = min(dice.uniform(0.35, 0.55), max(margin * 1.4, 0.3))
    lines = [margin / 2, width - margin / 2]
    if dice.chance(0.5):
        between = [margin + number * bay for number in range(1, bays)]
        lines += between if dice.chance(0.5) else [line for line in (between[0], between[-1]) if len(between) > 1]
    foot = 0.0 if dice.chance(0.3) else bottom
    lefts = [min(max(line - wide / 2, 0), width - wide) for line in lines]
    return [Element("pillar", left, foot, left + wide, top) for left in lefts]


def _bands(dice: Dice, width: float, ground: float, storeys: int, storey: float) -> list[Element]:
    """Cornices between storeys."""
    thick, every = dice.uniform(0.22, 0.4), dice.chance(0.4)
    floors = [number for number in range(storeys) if (number == 0 and dice.chance(0.8)) or (number and every)]
    return [
        Element("cornice", 0, ground + n * storey - thick / 2, width, ground + n * storey + thick / 2) for n in floors
    ]


def _storey(dice: Dice, bottom: float, height: float, bay: float, kinds: list[int], shutters: bool) -> _Storey:
    wide = bay * (dice.uniform(0.38, 0.44) if shutters else dice.uniform(0.42, 0.56))
    french = dice.chance(0.4)
    low = dice.uniform(0.3, 0.4) if french else dice.uniform(0.75, 0.95)
    room = height - low - 0.35
    high = min(room * dice.uniform(0.78, 0.95), 2.3 * wide)
    crown = dice.pick(("", "gable", "lunette", "box", "keystone", "disc"))
    if crown:
        high = min(high, room - 0.35)
    return _Storey(
        bottom, height, wide, low, high,
        shape=dice.pick(("box", "box", "segment", "arch")),
        molding=0.0 if shutters else dice.pick((0.0, dice.uniform(0.18, 0.28))),
        sill=not french and dice.chance(0.85),
        crown=crown,
        crowned=_rhythm(dice, kinds, 0.9),
        balconies=_rhythm(dice, kinds, 0.85 if french else 0.25),
        one_balcony=dice.chance(0.2),
        shutters=shutters,
    )  # fmt: skip


def _row(dice: Dice, row: _Storey, middles: list[float], rolled: float) -> list[Element]:
    """The windows of one storey, and the balconies before them."""
    found: list[Element] = []
    bottom = row.bottom + row.low
    top = bottom + row.high
    for middle, crowned in zip(middles, row.crowned, strict=True):
        left, right = middle - row.wide / 2, middle + row.wide / 2
        window = Element("window", left, bottom, right, top, row.shape)
        found += _window(dice, window, row.molding, row.sill, rolled)
        if row.shutters:
            leaf = row.wide * 0.5
            found += [
                Element("blind", left - leaf, bottom, left, top),
                Element("blind", right, bottom, right + leaf, top),
            ]
        if row.crown and crowned:
            found.append(_crown(row, middle, top + row.molding))
    if row.one_balcony and any(row.balconies):
        chosen = [middle for middle, there in zip(middles, row.balconies, strict=True) if there]
        spans = [(min(chosen), max(chosen))]
    else:
        spans = [(middle, middle) for middle, there in zip(middles, row.balconies, strict=True) if there]
    aside = row.wide / 2 + 0.3
    foot = bottom - 0.25
    return found + [Element("balcony", start - aside, foot, end + aside, foot + 1.15) for start, end in spans]


def _window(dice: Dice, window: Element, molding: float, sill: bool, rolled: float) -> list[Element]:
    """A window within its molding, on its sill, its blind perhaps let down."""
    found = [window.inset(-molding, "molding")] if molding else []
    found.append(window)
    if dice.chance(rolled):
        down = window.height * (1 - dice.pick((0.3, 0.5, 0.75, 1.0)))
        found.append(window._replace(name="blind", bottom=window.bottom + down))
    if sill:
        over = molding + 0.12
        found.append(Element("sill", window.left - over, window.bottom - 0.32, window.right + over, window.bottom))
    return found


def _crown(row: _Storey, middle: float, bottom: float) -> Element:
    """What is above a window."""
    half, high = row.wide / 2 + row.molding, max(0.3, min(0.65, row.bottom + row.height - bottom - 0.12))
    if row.crown in ("disc", "keystone"):
        half = min(half, 0.6 * high if row.crown == "keystone" else 0.55 * high)
    elif row.crown == "box":
        high = min(high, 0.34)
    return Element("deco", middle - half, bottom, middle + half, bottom + high, row.crown)


def _ground_floor(
    dice: Dice, height: float, bay: float, middles: list[float], kinds: list[int], rolled: float
) -> list[Element]:
    """A door, and shops or windows beside it."""
    bays = len(middles)
    door = dice.pick(((bays - 1) // 2, (bays - 1) // 2, 0, bays - 1))
    shops = _rhythm(dice, kinds, 0.6)
    shape, shop_shape = dice.pick(("box", "arch", "segment")), dice.pick(("box", "box", "segment"))
    wide, high, molding = bay * dice.uniform(0.42, 0.56), height - dice.uniform(0.7, 0.95), dice.pick((0.0, 0.22))
    low = dice.uniform(0.9, 1.1)
    found: list[Element] = []
    for number, middle in enumerate(middles):
        if number == door:
            leaf = Element("door", middle - wide / 2, 0, middle + wide / 2, high, shape)
            found += [leaf.inset(-molding, "molding")._replace(bottom=0)] if molding else []
            found.append(leaf)
        elif shops[number]:
            half = bay * 0.43
            found.append(Element("shop", middle - half, 0, middle + half, high + 0.15, shop_shape))
        else:
            window = Element("window", middle - wide / 2, low, middle + wide / 2, high, shape)
            found += _window(dice, window, molding, True, rolled)
    return found
