"""Styles of facades: paints, walls, panes and railings, drawn without a look at what there is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .materials import Dice
from .paints import PAINTS, color

WALLS = {"bricks": 1.0, "felt": 0.35, "cobbles": 0.7}
"""What a wall is laid of, names in `grounds`, bricks, plaster and rubble; how strongly it is seen at most."""

GLAZINGS = ((2, 1), (2, 2), (2, 3), (1, 2), (3, 2), (1, 1))
"""Panes beside and above one another."""

RAILINGS = ("bars", "bars", "crosses", "plates")

SPREAD = 0.06
"""How far paints are from those of the table: a share of their coded values."""


class Style(NamedTuple):
    """What a facade looks like, whatever its elements are.

    Attributes:
        paints: of every thing of `PAINTS`, linear light.
        wall: one of `WALLS`.
        roughness: how strongly it is seen.
        grooves: meters between the joints of the ground floor, 0 without.
        glazing: panes beside and above one another.
        curtained: how often a window has curtains.
        mirroring: how often a pane reflects the sky.
        slant: where a reflection leans to.
        railing: one of `RAILINGS`.
        dentils: meters between the teeth of a cornice, 0 without.
        flutes: whether pillars have them.
        awning: meters that awnings hang down, 0 without.
        roof: meters above the wall.
        hipped: meters by which the roof is shorter at both ends.
    """

    paints: dict[str, np.ndarray]
    wall: str
    roughness: float
    grooves: float
    glazing: tuple[int, int]
    curtained: float
    mirroring: float
    slant: float
    railing: str
    dentils: float
    flutes: bool
    awning: float
    roof: float
    hipped: float


def draw_style(dice: Dice) -> Style:
    """A style; every paint is a little off that of the table."""
    paints = {}
    for things in PAINTS.values():
        for thing, choices in things.items():
            bright = dice.uniform(1 - SPREAD, 1 + SPREAD)
            tint = [dice.uniform(1 - SPREAD / 3, 1 + SPREAD / 3) for _ in range(3)]
            paints[thing] = np.clip(color(dice.pick(choices)) * bright * tint, 0, 1) ** 2.2
    wall = dice.pick(("bricks", "felt", "felt", "cobbles"))
    return Style(
        paints,
        wall,
        roughness=WALLS[wall] * dice.uniform(0.5, 1.0),
        grooves=dice.pick((0.0, dice.uniform(0.45, 0.7))),
        glazing=dice.pick(GLAZINGS),
        curtained=dice.uniform(0.0, 0.8),
        mirroring=dice.uniform(0.0, 0.8),
        slant=dice.uniform(-0.6, 0.6),
        railing=dice.pick(RAILINGS),
        dentils=dice.pick((0.0, dice.uniform(0.35, 0.6))),
        flutes=dice.chance(0.5),
        awning=dice.pick((0.0, dice.uniform(0.8, 1.1))),
        roof=dice.pick((0.0, dice.uniform(0.8, 2.6), dice.uniform(0.8, 2.6))),
        hipped=dice.uniform(0.0, 2.5),
    )
