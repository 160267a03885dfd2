"""Bodies: a tree of bones with fourteen named joints, and the solids that are its flesh and clothes.

Lengths are shares of the stature, after Drillis and Contini 1966 as Winter prints them ("Biomechanics and Motor
Control of Human Movement", figure 4.1). The frame of a part is (3, 3): its columns point to the person's left, up and
to the front. Left and right are the person's own, from whichever side one looks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .clothes import Outfit
from .materials import Dice
from .poses import Limb, Pose
from .solids import Solid

JOINTS = (
    "right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle",
    "right wrist", "right elbow", "right shoulder", "left shoulder", "left elbow", "left wrist",
    "neck", "head top",
)  # fmt: skip
"""In the order of the Leeds Sports Poses."""

LENGTHS = {
    "thigh": 0.245, "shank": 0.246, "foot": 0.115, "upper arm": 0.186, "forearm": 0.146, "hand": 0.085,
    "hips": 0.135, "shoulders": 0.216, "belly": 0.13, "chest": 0.18, "head": 0.152,
}  # fmt: skip
"""Shares of the stature. `hips` and `shoulders` reach from joint to joint, `belly` and `chest` from the hips to the
neck's base, `head` from there to its top, `foot` from below the ankle to the toes; a `hand` is half closed. The hips
are as far apart as people mark them in images, which is farther than the bones are."""

INDIVIDUAL = 0.06
"""By how much of itself a length may differ."""

STOUT = (0.78, 1.15)
"""How wide backbone and limbs are, of what the solids below say."""

CHILDREN, CHILDISH = 0.15, 1.3
"""How often the head may be large for the body, and how large at most."""

SIDES = ("left", "right")
_BACKBONE = ("pelvis", "belly", "chest", "neck", "head")
_LIMBS = ("shoulder", "upper arm", "forearm", "hand", "thigh", "shank", "foot")
PARTS = _BACKBONE + tuple(f"{side} {part}" for side in SIDES for part in _LIMBS)
"""What a body consists of."""

_SIDED = {
    "ankle": (("shank", "foot"), 0.13), "knee": (("thigh", "shank"), 0.09), "hip": (("thigh", "pelvis", "belly"), 0.12),
    "wrist": (("forearm", "hand"), 0.045), "elbow": (("upper arm", "forearm"), 0.055),
    "shoulder": (("upper arm", "shoulder", "chest"), 0.085),
}  # fmt: skip

SEATS: dict[str, tuple[tuple[str, ...], float]] = {
    f"{side} {joint}": (tuple(part if part in _BACKBONE else f"{side} {part}" for part in parts), flesh)
    for side in SIDES
    for joint, (parts, flesh) in _SIDED.items()
} | {
    "neck": (("neck", "head", "chest", "left shoulder", "right shoulder"), 0.17),
    "head top": (("head",), 0.11),
}
"""The parts that a joint lies in, and how much of them may lie before it, in statures, for it to count as seen: where
another part is seen it is hidden, and behind more flesh one looks at the body's other side."""

Frame = np.ndarray


class Body(NamedTuple):
    """A person.

    Attributes:
        joints: (14, 3) in the order of `JOINTS`, in statures, in the camera's frame.
        solids: the flesh and the clothes.
    """

    joints: np.ndarray
    solids: list[Solid]


def draw_body(dice: Dice, pose: Pose, outfit: Outfit) -> Body:
    """A person of some build in a pose."""
    length = {name: share * (1 + INDIVIDUAL * dice.uniform(-1, 1)) for name, share in LENGTHS.items()}
    width = dice.uniform(*STOUT)
    large = dice.uniform(1, CHILDISH) if dice.chance(CHILDREN) else 1.0
    length["head"] *= large

    # Towards the viewer: the left is right, up is against y, the front against z.
    pelvis = _turned(2, pose.roll) @ _turned(0, pose.pitch) @ np.diag([1.0, -1.0, -1.0]) @ _turned(1, pose.yaw)
    half = _turned(1, pose.twist / 2) @ _turned(2, -pose.lean / 2) @ _turned(0, pose.bend / 2)
    belly = pelvis @ half
    chest = belly @ half
    hips = np.zeros(3)
    waist = hips + length["belly"] * belly[:, 1]
    neck = waist + length["chest"] * chest[:, 1]
    head = chest @ _turned(1, pose.turn) @ _turned(0, pose.nod)

    joints = {"neck": neck, "head top": neck + length["head"] * head[:, 1]}
    solids = _backbone(hips, waist, neck, belly, chest, width)
    solids += _head(dice, neck, head, length["head"], outfit, large)
    for side, sign, leg, arm in zip(SIDES, (1, -1), pose.legs, pose.arms, strict=True):
        hip = hips + sign * length["hips"] / 2 * pelvis[:, 0]
        thigh = _raised(pelvis, leg, sign)
        shank = thigh @ _turned(0, leg.bent)
        foot = shank @ _turned(0, dice.uniform(-8, 55))
        knee = hip - length["thigh"] * thigh[:, 1]
        ankle = knee - length["shank"] * shank[:, 1]
        joints |= {f"{side} hip": hip, f"{side} knee": knee, f"{side} ankle": ankle}
        solids += _leg(side, (hip, knee, ankle), (thigh, shank, foot), length["foot"], width, outfit)

        # A raised arm takes its shoulder up and inwards with it.
        lifted = max(0.0, arm.raised - 60) / 120
        shoulder = neck + sign * (1 - 0.15 * lifted) * length["shoulders"] / 2 * chest[:, 0]
        shoulder = shoulder + (0.03 * lifted - 0.012) * chest[:, 1]
        upper = _raised(chest, arm, sign)
        lower = upper @ _turned(0, -arm.bent)
        hand = lower @ _turned(0, -dice.uniform(-15, 35))
        elbow = shoulder - length["upper arm"] * upper[:, 1]
        wrist = elbow - length["forearm"] * lower[:, 1]
        joints |= {f"{side} shoulder": shoulder, f"{side} elbow": elbow, f"{side} wrist": wrist}
        solids.append(Solid(f"{side} shoulder", "shoulder", neck - 0.016 * chest[:, 1] + sign * 0.028 * chest[:, 0],
                            shoulder, (0.045 * width, 0.037 * width), chest[:, 2], 0.85))  # fmt: skip
        solids += _arm(side, (shoulder, elbow, wrist), (upper, lower, hand), length["hand"], width, outfit)
    return Body(np.stack([joints[name] for name in JOINTS]), solids)


def _backbone(
    hips: np.ndarray, waist: np.ndarray, neck: np.ndarray, belly: Frame, chest: Frame, width: float
) -> list[Solid]:
    ribs = neck - 0.078 * chest[:, 1]
    return [
        Solid("pelvis", "pelvis", hips + 0.035 * belly[:, 1], hips - 0.012 * belly[:, 1],
              (0.09 * width, 0.084 * width), belly[:, 2], 0.74),
        Solid("belly", "belly", waist, hips + 0.03 * belly[:, 1], (0.08 * width, 0.09 * width), belly[:, 2], 0.72),
        Solid("chest", "chest", ribs, waist, (0.098 * width, 0.08 * width), chest[:, 2], 0.66),
    ]  # fmt: skip


def _head(dice: Dice, neck: np.ndarray, frame: Frame, length: float, outfit: Outfit, large: float) -> list[Solid]:
    left, up, front = frame.T
    skull = neck + (length - 0.043 * large) * up + 0.006 * large * front
    jaw = skull - 0.046 * large * up + 0.008 * large * front
    crown = skull - 0.012 * large * front + 0.003 * large * up
    solids = [
        Solid("neck", "skin", neck + 0.055 * up, neck - 0.01 * up, (0.028, 0.033), front),
        Solid("head", "head", skull, jaw, (0.047 * large, 0.034 * large), front, 1.2),
        Solid("head", "skin", jaw + (0.012 * up + 0.044 * front) * large, jaw + (0.024 * up + 0.04 * front) * large,
              (0.009 * large, 0.005 * large), up),
    ]  # fmt: skip
    if outfit.hair != "bald":
        solids.append(Solid("head", "hair", crown, crown, (0.05 * large, 0.05 * large), front, 1.08))
    if outfit.hair == "long":
        end = neck - 0.045 * front + dice.uniform(-0.03, 0.03) * left
        solids.append(Solid("head", "hair", crown, end, (0.047 * large, 0.028), front))
    elif outfit.hair == "tail":
        knot = crown + (-0.05 * front + 0.012 * up) * large
        end = knot - 0.09 * up - dice.uniform(0.0, 0.06) * front + dice.uniform(-0.05, 0.05) * left
        solids.append(Solid("head", "hair", knot, end, (0.018 * large, 0.008), front))
    elif outfit.hair == "knot":
        knot = crown + (-0.045 * front + 0.03 * up) * large
        solids.append(Solid("head", "hair", knot, knot, (0.022 * large, 0.022 * large), front))
    elif outfit.hair == "cap":
        brim = skull + 0.018 * large * up
        solids.append(Solid("head", "hair", brim, brim + 0.075 * large * front, (0.042 * large, 0.03 * large), up, 0.3))
    return solids


def _leg(
    side: str, joints: tuple[np.ndarray, ...], frames: tuple[Frame, ...], foot: float, width: float, outfit: Outfit
) -> list[Solid]:
    (hip, knee, ankle), (thigh, shank, sole) = joints, frames
    calf = knee + 0.3 * (ankle - knee) - 0.01 * shank[:, 2]
    heel = ankle - 0.016 * sole[:, 1] - 0.014 * sole[:, 2]
    toes = heel + foot * sole[:, 2] - 0.006 * sole[:, 1]
    solids = [
        Solid(f"{side} thigh", "thigh", hip, knee, (0.053 * width, 0.037 * width), thigh[:, 2]),
        Solid(f"{side} shank", "shank", knee, ankle, (0.037 * width, 0.024 * width), shank[:, 2]),
        Solid(f"{side} shank", "calf", calf, ankle, (0.038 * width, 0.022 * width), shank[:, 2]),
        Solid(f"{side} foot", "foot", heel, toes, (0.027, 0.02), sole[:, 1]),
    ]
    if outfit.loose:
        hem = hip + min(outfit.trousers, 0.95) * (knee - hip)
        solids.append(
            Solid(f"{side} thigh", "shorts", hip, hem, (0.058 * width, 0.054 * width * outfit.loose), thigh[:, 2])
        )
    return solids


def _arm(
    side: str, joints: tuple[np.ndarray, ...], frames: tuple[Frame, ...], hand: float, width: float, outfit: Outfit
) -> list[Solid]:
    (shoulder, elbow, wrist), (upper, lower, palm) = joints, frames
    solids = [
        Solid(f"{side} upper arm", "upper arm", shoulder, elbow, (0.037 * width, 0.028 * width), upper[:, 2]),
        Solid(f"{side} forearm", "forearm", elbow, wrist, (0.028 * width, 0.019 * width), lower[:, 2]),
        Solid(f"{side} hand", "hand", wrist - 0.01 * palm[:, 1], wrist - hand * palm[:, 1], (0.021, 0.015),
              palm[:, 0], 0.65),
    ]  # fmt: skip
    if outfit.loose and outfit.sleeves > 0.2:
        hem = shoulder + min(outfit.sleeves, 0.9) * (elbow - shoulder)
        radii = 0.041 * width, 0.037 * width * outfit.loose
        solids.append(Solid(f"{side} upper arm", "sleeve", shoulder, hem, radii, upper[:, 2]))
    return solids


def _raised(backbone: Frame, limb: Limb, sign: int) -> Frame:
    """The frame of a thigh or an upper arm, whose bone points down in it."""
    towards, angle = math.radians(limb.towards), math.radians(limb.raised)
    # Down, turned about an axis that lies level: the limb keeps its own front as a real one does.
    x, z = -math.cos(towards), sign * math.sin(towards)
    c, s = math.cos(angle), math.sin(angle)
    level = np.array([[x * x, 0, x * z], [0, 0, 0], [x * z, 0, z * z]])
    turning = np.array([[0, -z, 0], [z, 0, -x], [0, x, 0]])
    return backbone @ (c * np.eye(3) + s * turning + (1 - c) * level)


def _turned(axis: int, degrees: float) -> np.ndarray:
    """A turn about one axis of a frame."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = c
    matrix[second, first], matrix[first, second] = s, -s
    return matrix
