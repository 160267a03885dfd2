"""Poses: how people hold themselves, every day or when they play, climb and dance, as angles of a body's joints, in
degrees."""

from __future__ import annotations

import math
from typing import NamedTuple

from .materials import Dice


class Limb(NamedTuple):
    """How an arm or a leg is held.

    Attributes:
        raised: from hanging along the backbone, 0, to pointing along it to the head, 180.
        towards: where to: 0 to the front, 90 outwards, 180 to the back.
        bent: of the knee or the elbow; 0 is straight.
    """

    raised: float
    towards: float
    bent: float


class Pose(NamedTuple):
    """How a body is held, and how the camera sees it.

    Attributes:
        bend: of the backbone to the front; negative is arched.
        nod, turn: of the head, to the front and to its left.
        lean, twist: of the chest over the hips, to its left.
        legs, arms: the left one and the right one.
        yaw: of the body about the vertical; 0 faces the viewer, 90 faces to the right of the image.
        pitch: how far the camera looks down.
        roll: of the whole body in the image's plane, clockwise; 180 is upside down.
    """

    bend: float
    nod: float
    turn: float
    lean: float
    twist: float
    legs: tuple[Limb, Limb]
    arms: tuple[Limb, Limb]
    yaw: float
    pitch: float
    roll: float


HELD: dict[str, tuple[float, tuple[Limb, Limb], tuple[Limb, Limb]]] = {
    # The backbone's bend, the legs, the arms.
    "stand": (3, (Limb(6, 60, 4), Limb(6, 60, 4)), (Limb(14, 70, 15), Limb(14, 70, 15))),
    "hold": (5, (Limb(10, 60, 8), Limb(10, 60, 8)), (Limb(45, 20, 85), Limb(45, 20, 85))),
    "walk": (5, (Limb(26, 5, 10), Limb(20, 175, 22)), (Limb(24, 170, 15), Limb(28, 5, 25))),
    "run": (12, (Limb(65, 5, 85), Limb(25, 175, 45)), (Limb(45, 170, 85), Limb(40, 5, 100))),
    "hurdle": (30, (Limb(100, 15, 20), Limb(75, 100, 95)), (Limb(90, 20, 30), Limb(50, 165, 60))),
    "jump": (-8, (Limb(12, 30, 12), Limb(22, 160, 65)), (Limb(160, 85, 15), Limb(150, 60, 25))),
    "star": (0, (Limb(42, 88, 8), Limb(42, 88, 8)), (Limb(115, 92, 10), Limb(115, 92, 10))),
    "tuck": (35, (Limb(115, 15, 120), Limb(110, 15, 115)), (Limb(70, 20, 45), Limb(70, 20, 45))),
    "pike": (45, (Limb(105, 10, 5), Limb(105, 10, 5)), (Limb(95, 10, 8), Limb(95, 10, 8))),
    "arch": (-40, (Limb(24, 165, 50), Limb(24, 165, 50)), (Limb(165, 60, 20), Limb(165, 60, 20))),
    "split": (8, (Limb(84, 8, 6), Limb(76, 172, 10)), (Limb(95, 90, 12), Limb(95, 90, 12))),
    "straddle": (12, (Limb(86, 72, 6), Limb(86, 72, 6)), (Limb(70, 70, 15), Limb(70, 70, 15))),
    "squat": (35, (Limb(105, 28, 125), Limb(105, 28, 125)), (Limb(60, 20, 40), Limb(60, 20, 40))),
    "sit": (12, (Limb(88, 18, 85), Limb(88, 18, 85)), (Limb(35, 25, 45), Limb(35, 25, 45))),
    "lunge": (8, (Limb(75, 10, 80), Limb(25, 172, 50)), (Limb(60, 60, 35), Limb(60, 60, 35))),
    "kneel": (5, (Limb(70, 15, 105), Limb(12, 90, 100)), (Limb(40, 30, 60), Limb(40, 30, 60))),
    "bow": (70, (Limb(15, 30, 12), Limb(15, 30, 12)), (Limb(85, 15, 12), Limb(85, 15, 12))),
    "kick": (-12, (Limb(95, 25, 22), Limb(8, 120, 18)), (Limb(65, 90, 35), Limb(65, 110, 35))),
    "throw": (5, (Limb(42, 35, 25), Limb(35, 150, 25)), (Limb(115, 85, 75), Limb(60, 40, 35))),
    "swing": (15, (Limb(28, 60, 25), Limb(28, 60, 25)), (Limb(80, -15, 45), Limb(72, 35, 60))),
    "skate": (45, (Limb(70, 15, 85), Limb(50, 80, 30)), (Limb(45, 150, 35), Limb(60, 25, 50))),
    "balance": (35, (Limb(80, 172, 8), Limb(6, 60, 10)), (Limb(95, 88, 10), Limb(95, 88, 10))),
    "climb": (5, (Limb(85, 50, 95), Limb(20, 40, 30)), (Limb(155, 45, 40), Limb(110, 60, 95))),
    "crawl": (5, (Limb(80, 15, 85), Limb(55, 20, 70)), (Limb(85, 15, 12), Limb(95, 15, 12))),
    "hang": (0, (Limb(15, 20, 20), Limb(15, 20, 20)), (Limb(172, 80, 8), Limb(172, 80, 8))),
}  # fmt: skip

UPSIDE_DOWN: dict[str, tuple[float, tuple[Limb, Limb], tuple[Limb, Limb]]] = {
    # On hands or head, or in a somersault.
    "handstand": (-8, (Limb(8, 90, 6), Limb(8, 90, 6)), (Limb(172, 80, 5), Limb(172, 80, 5))),
    "cartwheel": (0, (Limb(60, 88, 8), Limb(60, 88, 8)), (Limb(150, 90, 6), Limb(150, 90, 6))),
    "stag": (-15, (Limb(70, 10, 40), Limb(55, 172, 50)), (Limb(168, 80, 8), Limb(168, 80, 8))),
    "bridge": (-55, (Limb(30, 165, 60), Limb(75, 20, 8)), (Limb(170, 60, 12), Limb(170, 60, 12))),
    "somersault": (30, (Limb(95, 15, 90), Limb(95, 15, 90)), (Limb(75, 40, 50), Limb(75, 40, 50))),
}  # fmt: skip


class Manner(NamedTuple):
    """What a crowd of people does.

    Attributes:
        held: how they hold themselves, names of `HELD`.
        free: how often every angle is drawn by itself.
        turned: how often a body is turned anywhere in the image.
        inverted: how often one is upside down.
        facing: how often a body faces the viewer or nearly so, and not anywhere: photographers are in front of people.
        steady: standard deviation of the whole body's roll where it is not turned.
        loose: standard deviations of the angles about the table's: one is drawn for a pose.
    """

    held: tuple[str, ...]
    free: float
    turned: float
    inverted: float
    facing: float
    steady: float
    loose: tuple[float, float]


EVERYDAY = Manner(
    ("stand", "hold", "walk", "run", "star", "lunge", "kick", "throw", "swing", "climb"), 0.0, 0.0, 0.0, 0.9, 6.0,
    (5.0, 14.0),
)  # fmt: skip
"""People who stand, walk, carry and throw, upright and mostly seen from the front."""

SPORT = Manner(tuple(HELD), 0.1, 0.3, 0.17, 0.6, 14.0, (7.0, 20.0))
"""People who climb, tumble and fly, as in the Leeds Sports Poses: anything may be anywhere."""

BEND, RAISED_LEG, RAISED_ARM, BENT = (-60.0, 85.0), (0.0, 130.0), (0.0, 180.0), (0.0, 140.0)
"""What joints allow."""


def draw_pose(dice: Dice, manner: Manner) -> Pose:
    """A pose, seen from somewhere."""
    inverted = dice.chance(manner.inverted)
    bend, legs, arms = UPSIDE_DOWN[dice.pick(tuple(UPSIDE_DOWN))] if inverted else HELD[dice.pick(manner.held)]
    if dice.chance(manner.free):
        bend = dice.uniform(-30, 60)
        left, right = (Limb(dice.uniform(0, 110), dice.uniform(0, 150), dice.uniform(0, 110)) for _ in range(2))
        above, below = (Limb(dice.uniform(0, 180), dice.uniform(0, 150), dice.uniform(0, 120)) for _ in range(2))
        legs, arms = (left, right), (above, below)
    if dice.chance(0.5):
        legs = legs[::-1]
    if dice.chance(0.5):
        arms = arms[::-1]
    loose = dice.uniform(*manner.loose)
    roll = dice.uniform(-180, 180) if dice.chance(manner.turned) else 180 * inverted + _spread(dice, 0, manner.steady)
    # Who lies or flies is seen from above and below too.
    steep = 30 if dice.chance(manner.turned) else 10
    return Pose(
        bend=_spread(dice, bend, loose, BEND),
        nod=_spread(dice, -0.2 * bend, 20),
        turn=_spread(dice, 0, 20),
        lean=_spread(dice, 0, 0.6 * loose),
        twist=_spread(dice, 0, 0.8 * loose),
        legs=(_limb(dice, legs[0], loose, RAISED_LEG), _limb(dice, legs[1], loose, RAISED_LEG)),
        arms=(_limb(dice, arms[0], 1.3 * loose, RAISED_ARM), _limb(dice, arms[1], 1.3 * loose, RAISED_ARM)),
        yaw=_spread(dice, 0, 40) if dice.chance(manner.facing) else dice.uniform(-180, 180),
        pitch=_spread(dice, 4, steep),
        roll=roll,
    )


def _limb(dice: Dice, limb: Limb, loose: float, raised: tuple[float, float]) -> Limb:
    return Limb(
        _spread(dice, limb.raised, loose, raised),
        _spread(dice, limb.towards, loose),
        _spread(dice, limb.bent, loose, BENT),
    )


def _spread(dice: Dice, mean: float, deviation: float, limits: tuple[float, float] = (-math.inf, math.inf)) -> float:
    """About normal: the sum of three uniform numbers, so that nothing lies more than three deviations away."""
    drawn = mean + deviation * (dice.uniform(-1, 1) + dice.uniform(-1, 1) + dice.uniform(-1, 1))
    return min(max(drawn, limits[0]), limits[1])
