"""Skeletons of the official datasets: names of the joints, edges to draw, pairs that a flip exchanges.

Left and right are the person's own: the left hand of a person who faces the camera is on the right of the image.
Indices are counted from 0. The left joint of a pair is first.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..field_types import Skeleton

LSP = Skeleton(
    names=(
        "right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle",
        "right wrist", "right elbow", "right shoulder", "left shoulder", "left elbow", "left wrist",
        "neck", "head top",
    ),
    edges=(
        (0, 1), (1, 2), (3, 4), (4, 5), (2, 3), (2, 8), (3, 9),
        (6, 7), (7, 8), (9, 10), (10, 11), (8, 12), (9, 12), (12, 13),
    ),
    pairs=((5, 0), (4, 1), (3, 2), (11, 6), (10, 7), (9, 8)),
)  # fmt: skip
"""Leeds Sports Pose, its extension, and `synthetic-figures`."""

MPII = Skeleton(
    names=(
        "right ankle", "right knee", "right hip", "left hip", "left knee", "left ankle",
        "pelvis", "thorax", "upper neck", "head top",
        "right wrist", "right elbow", "right shoulder", "left shoulder", "left elbow", "left wrist",
    ),
    edges=(
        (0, 1), (1, 2), (2, 6), (3, 6), (3, 4), (4, 5), (6, 7), (7, 8),
        (8, 9), (10, 11), (11, 12), (7, 12), (7, 13), (13, 14), (14, 15),
    ),
    pairs=((5, 0), (4, 1), (3, 2), (15, 10), (14, 11), (13, 12)),
)  # fmt: skip

COCO = Skeleton(
    names=(
        "nose", "left eye", "right eye", "left ear", "right ear",
        "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
        "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
    ),
    # In the order of the official file, where indices are counted from 1.
    edges=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
)  # fmt: skip


PERSON = "person"
"""COCO's category of people."""


def category_of(skeleton: Skeleton) -> str:
    """Name of what has the joints of a skeleton.

    If the skeleton does not state it, it is a person for the joints of an official dataset, else "object".
    """
    names = set(map(normalized_name, skeleton.names))
    is_official = any(names == set(map(normalized_name, official.names)) for official in (LSP, MPII, COCO))
    return skeleton.category or (PERSON if is_official else "object")


def normalized_name(joint: str) -> str:
    """A joint's name in lower case, with single spaces instead of underscores and hyphens: `Left_Hip` is "left hip"."""
    return " ".join(joint.lower().replace("_", " ").replace("-", " ").split())


def pairs_by_name(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of joints whose names differ only in "left" and "right": `left_knee` and `right_knee`."""
    indices = {normalized_name(name): index for index, name in enumerate(names)}
    opposite = ((name, name.replace("left", "right")) for name in indices if "left" in name)
    return tuple((indices[left], indices[right]) for left, right in opposite if right in indices)
