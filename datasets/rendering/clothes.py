"""Clothes: what people wear, and the covers that show it on their bodies; which side is the front can be seen.

A cover is a small image of a part's front beside one of its back, as `solids` lays it on.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .grounds import PATTERNS, pyramid
from .materials import Dice
from .solids import TEXELS

COVERS = ("skin", "head", "hair", "chest", "belly", "pelvis", "shoulder", "upper arm", "forearm", "hand", "thigh",
          "shank", "calf", "foot", "sleeve", "shorts")  # fmt: skip
"""Their names, in the order of `Outfit.covers`."""

HAIR = ("short", "short", "short", "long", "tail", "knot", "cap", "cap", "bald")

SUITS, BARE, BAREFOOT, GLOVES = 0.15, 0.07, 0.2, 0.1
"""How often all is of one cloth, the chest is bare, the feet are, and the hands are not."""

PHOTOED = 0.35
"""How often a cloth is cut out of a photo, where there are some."""

_LIGHTEST, _DARKEST = np.array((0.98, 0.80, 0.69)), np.array((0.30, 0.19, 0.13))
_HAIR_COLORS = ((0.07, 0.06, 0.06), (0.16, 0.10, 0.07), (0.32, 0.20, 0.11), (0.72, 0.55, 0.30), (0.55, 0.25, 0.12),
                 (0.62, 0.60, 0.58))  # fmt: skip
_PATTERNS = tuple(PATTERNS)

Cloth = np.ndarray
"""(TEXELS, 2 * TEXELS, 3) uint8."""


class Outfit(NamedTuple):
    """What someone wears.

    Attributes:
        sleeves: 0 none, 1 to the elbow, 2 to the wrist.
        trousers: 0 none, 1 to the knee, 2 to the ankle.
        loose: how wide sleeves and shorts are at their hem, of the limb's own width; 0 where they lie close.
        hair: one of `HAIR`.
        covers: (len(COVERS), TEXELS, 2 * TEXELS, 3) uint8.
    """

    sleeves: float
    trousers: float
    loose: float
    hair: str
    covers: np.ndarray


def draw_outfit(dice: Dice, photos: Sequence[np.ndarray] = ()) -> Outfit:
    """Someone's clothes, skin and hair.

    Args:
        dice: the source of the draw.
        photos: (h, w, 3) uint8 each; some clothes are cut out of them.
    """
    tone = dice.uniform() ** 1.5
    skin = _plain(dice, _LIGHTEST + tone * (_DARKEST - _LIGHTEST), 0.06)
    hair_color = np.array(dice.pick(_HAIR_COLORS)) * dice.uniform(0.8, 1.15)
    hair, suit, bare = dice.pick(HAIR), dice.chance(SUITS), dice.chance(BARE)
    shirt = skin if bare else draw_cloth(dice, photos)
    trousers = shirt if suit and not bare else draw_cloth(dice, photos)
    sleeves = 0.0 if bare else dice.pick((0.0, 0.12, 0.5, 0.5, 0.6, 0.8, 2.0, 2.0, 2.0))
    legs = dice.pick((0.15, 0.4, 0.6, 0.8, 1.1, 2.0, 2.0, 2.0, 2.0))
    if suit:
        sleeves, legs = dice.pick((0.0, 0.1, 2.0)), dice.pick((0.0, 0.1, 2.0))
    loose = 0.0 if suit or dice.chance(0.4) else dice.uniform(0.95, 1.3)
    shoes = skin if dice.chance(BAREFOOT) else _plain(dice, _color(dice), 0.1)
    gloves = _plain(dice, _color(dice), 0.1) if dice.chance(GLOVES) else skin
    socks = _plain(dice, np.full(3, dice.uniform(0.1, 0.95)), 0.05)
    stockings = skin if shoes is skin else _ending(skin, socks, 1.05 - dice.uniform(0.0, 0.6))
    leg = _ending(trousers, skin, legs)
    shank = _ending(trousers, stockings, legs - 1)
    belly = np.concatenate([shirt[: TEXELS * 5 // 9], trousers[TEXELS * 5 // 9 :]])
    if not suit:
        belly[TEXELS * 5 // 9 : TEXELS * 5 // 9 + 3] = belly[TEXELS * 5 // 9 :].mean((0, 1)) * dice.uniform(0.3, 0.8)
    top = _plain(dice, _color(dice), 0.1) if hair == "cap" else _plain(dice, hair_color, 0.2)
    covers = {
        "skin": skin, "head": _head(dice, skin, hair_color, hair == "bald"), "hair": top,
        "chest": _chest(dice, shirt, skin, bare), "belly": belly, "pelvis": trousers, "shoulder": shirt,
        "upper arm": _ending(shirt, skin, sleeves), "forearm": _ending(shirt, skin, sleeves - 1), "hand": gloves,
        "thigh": leg, "shank": shank, "calf": shank, "foot": shoes, "sleeve": shirt, "shorts": trousers,
    }  # fmt: skip
    return Outfit(sleeves, legs, loose, hair, np.stack([covers[name] for name in COVERS]))


def _ending(cloth: Cloth, skin: Cloth, share: float) -> Cloth:
    """A limb that is covered as far as this share of its length; its ends reach beyond its joints."""
    row = round(TEXELS * (0.15 + 0.75 * share)) if share > 0 else 0
    return np.concatenate([cloth[:row], skin[row:]])


def _color(dice: Dice) -> np.ndarray:
    """Clothes are black, white and gray as often as they are colored."""
    saturation = dice.pick((0.05, 0.25, 0.6, 0.9)) * dice.uniform(0.5, 1)
    return np.array(colorsys.hsv_to_rgb(dice.uniform(), saturation, dice.uniform(0.08, 1.0)))


def _plain(dice: Dice, color: np.ndarray, uneven: float) -> Cloth:
    return _mixed(dice, "felt", color * (1 - uneven), color * (1 + uneven))


def draw_cloth(dice: Dice, photos: Sequence[np.ndarray] = ()) -> Cloth:
    """A cloth of one color, in a pattern, or cut out of a photo."""
    if photos and dice.chance(PHOTOED):
        photo = dice.pick(photos)
        height, width = photo.shape[:2]
        part = dice.uniform(0.15, 0.5)
        rows, columns = max(1, int(height * part)), max(1, int(width * part))
        top, left = int(dice.uniform() * (height - rows + 1)), int(dice.uniform() * (width - columns + 1))
        cut = photo[top : top + rows, left : left + columns]
        return cv2.resize(cut, (2 * TEXELS, TEXELS), interpolation=cv2.INTER_LINEAR)
    first = _color(dice)
    if dice.chance(0.5):
        return _plain(dice, first, dice.uniform(0.05, 0.2))
    return _mixed(dice, dice.pick(_PATTERNS), first, _color(dice))


def _mixed(dice: Dice, pattern: str, first: np.ndarray, second: np.ndarray) -> Cloth:
    tile = pyramid(pattern)[dice.integer(1, 2)]
    side = len(tile)
    rows = (np.arange(TEXELS) + dice.integer(0, side - 1)) % side
    columns = (np.arange(2 * TEXELS) + dice.integer(0, side - 1)) % side
    if dice.chance(0.5):
        tile = tile.T
    weight = tile[rows[:, None], columns][..., None]
    low, change = (255 * first).astype(np.float32), (255 * (second - first)).astype(np.float32)
    return cv2.convertScaleAbs(np.maximum(low + weight * change, 0))


def _head(dice: Dice, skin: Cloth, hair_color: np.ndarray, bald: bool) -> Cloth:
    """A face in front, hair behind; its row 0 is the top of the head, the last the chin."""
    cover = skin.copy()
    face, back = cover[:, :TEXELS], cover[:, TEXELS:]
    hair = tuple(float(value) * 255 for value in np.clip(hair_color, 0, 1))
    dark = tuple(float(value) * 0.6 for value in skin.mean((0, 1)))
    if not bald:
        back[: round(TEXELS * dice.uniform(0.6, 0.85))] = hair
        face[: round(TEXELS * dice.uniform(0.1, 0.26))] = hair
        temple, lobe = round(TEXELS * dice.uniform(0.06, 0.14)), round(TEXELS * dice.uniform(0.4, 0.6))
        face[:lobe, :temple], face[:lobe, -temple:] = hair, hair
    if dice.chance(0.12):
        face[round(0.7 * TEXELS) :] = hair
    for side in (-1, 1):
        eye = round(TEXELS * (0.5 + 0.19 * side)), round(0.47 * TEXELS)
        cv2.ellipse(cover, eye, (6, 4), 0, 0, 360, dark, -1)
        cv2.ellipse(cover, eye, (4, 2), 0, 0, 360, (235, 235, 230), -1)
        cv2.circle(cover, eye, 2, (40, 28, 20), -1)
        cv2.line(cover, (eye[0] - 5, eye[1] - 7), (eye[0] + 5, eye[1] - 7), hair, 2)
    mouth = dice.integer(4, 8)
    middle = TEXELS // 2
    cv2.line(cover, (middle - mouth, round(0.76 * TEXELS)), (middle + mouth, round(0.76 * TEXELS)), (130, 50, 50), 2)
    return cover


def _chest(dice: Dice, shirt: Cloth, skin: Cloth, bare: bool) -> Cloth:
    """Open at the neck in front, closed behind; a stripe of buttons, a badge or a number."""
    cover = shirt.copy()
    middle = TEXELS // 2
    if bare:
        for side in (-1, 1):
            cv2.circle(cover, (middle + 12 * side, TEXELS // 2), 2, (120, 70, 60), -1)
        return cover
    flesh, mark = skin.mean((0, 1)).tolist(), (_color(dice) * 255).tolist()
    depth, half = round(TEXELS * dice.uniform(0.2, 0.38)), round(TEXELS * dice.uniform(0.1, 0.18))
    cv2.fillPoly(cover, [np.array([(middle - half, 0), (middle + half, 0), (middle, depth)])], flesh)
    cover[: round(0.1 * TEXELS), TEXELS + middle - half : TEXELS + middle + half] = flesh
    kind = dice.integer(0, 3)
    if kind == 0:
        cv2.line(cover, (middle, depth), (middle, TEXELS - 1), mark, dice.integer(1, 4))
    elif kind == 1:
        corner = middle - 8, depth + 2
        cv2.rectangle(cover, corner, (middle + 8, min(TEXELS - 1, depth + dice.integer(6, 14))), mark, -1)
    if dice.chance(0.5):
        number = str(dice.integer(1, 99))
        place = TEXELS + middle - 10 * len(number), round(0.72 * TEXELS)
        cv2.putText(cover, number, place, cv2.FONT_HERSHEY_DUPLEX, 0.95, mark, 2)
    return cover
