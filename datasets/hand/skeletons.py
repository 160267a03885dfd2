"""Skeletons of hands: names of the joints and edges to draw. A flip turns a hand into the other one: no pairs."""

from __future__ import annotations

import numpy as np

from ..field_types import Skeleton
from ..rendering.hands import palm_of

FINGERS = ("thumb", "index", "middle", "ring", "pinky")

HAND = "hand"
"""Category of the skeletons."""

ICVL = Skeleton(
    names=("palm", *(f"{finger} {part}" for finger in FINGERS for part in ("root", "mid", "tip"))),
    edges=tuple(edge for root in range(1, 16, 3) for edge in ((0, root), (root, root + 1), (root + 1, root + 2))),
    pairs=(),
    category=HAND,
)
"""The sixteen joints of ICVL, and of `synthetic-hands`."""

NYU = Skeleton(
    names=(
        "pinky tip", "pinky mid", "ring tip", "ring mid", "middle tip", "middle mid", "index tip", "index mid",
        "thumb tip", "thumb mid", "thumb root", "wrist left", "wrist right", "palm",
    ),
    edges=(
        (0, 1), (1, 13), (2, 3), (3, 13), (4, 5), (5, 13), (6, 7), (7, 13), (8, 9), (9, 10), (10, 13), (11, 13),
        (12, 13),
    ),
    pairs=(),
    category=HAND,
)  # fmt: skip
"""The fourteen joints of NYU that papers evaluate; `left` and `right` are sides of the image of an upright hand."""

MSRA = Skeleton(
    names=(
        "wrist",
        *(
            f"{finger} {part}"
            for finger in ("index", "middle", "ring", "pinky", "thumb")
            for part in ("root", "mid", "end", "tip")
        ),
    ),
    edges=tuple(
        edge
        for root in range(1, 21, 4)
        for edge in ((0, root), (root, root + 1), (root + 1, root + 2), (root + 2, root + 3))
    ),
    pairs=(),
    category=HAND,
)
"""The twenty-one joints of MSRA15."""


def icvl_joints(joints: np.ndarray) -> np.ndarray:
    """The sixteen joints of ICVL, (16, 3) float32, of the 21 of `rendering.hands`.

    Palm, and root, mid and tip of every finger; of the thumb, the last three joints.
    """
    fingers = [[1 + 4 * finger + part for part in ((1, 2, 3) if finger == 0 else (0, 1, 3))] for finger in range(5)]
    return np.concatenate([palm_of(joints)[None], *(joints[finger] for finger in fingers)]).astype(np.float32)


def nyu_joints(joints: np.ndarray) -> np.ndarray:
    """The fourteen joints of NYU, (14, 3) float32, of the 21 of `rendering.hands`."""
    across = (joints[17] - joints[5]) / 4
    wrist = np.stack([joints[0] + across, joints[0] - across, palm_of(joints)])
    return np.concatenate([joints[[20, 18, 16, 14, 12, 10, 8, 6, 4, 3, 2]], wrist]).astype(np.float32)


def msra_joints(joints: np.ndarray) -> np.ndarray:
    """The 21 joints of `rendering.hands` in the order of MSRA15, float32: the thumb last."""
    return joints[[0, *range(5, 21), *range(1, 5)]].astype(np.float32)
