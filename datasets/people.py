"""What the sets of people share: one sample a person, the picture cut around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .dataset import Dataset, Sample, problems_of
from .fields import Box, Image, Keypoints
from .formats.picture import decode_picture
from .geometry import Size, Window
from .labelled_pictures import Encoded
from .problems import Problem
from .randomness import Purpose, generator

MARGIN = 1 / 8
"""What is seen beyond the box on every side, as a share of the box's longer side.

Xiao et al. 2018 enlarge the person's box to 1.25 times its size; Belagiannis et al. 2015 add 20 px left and right and
10 px above and below the joints of persons of about 150 px.
"""
LEAST = 16
"""Pixels that a side of the window has at least, where the picture has so many."""


class People(Dataset):
    """One sample a person: the picture cut around them, and their joints and boxes in pixels of what was cut out.

    A loader sets `fields` (`image`, `joints`, `box` and what else it knows), `_pictures`, `_picture_of` and `_values`.
    Fields `left` and `top`, where a loader has them, say where the cut's upper left pixel lies in the whole picture.
    """

    _pictures: Encoded
    _picture_of: np.ndarray
    """(N,) integers, ascending: which of the pictures shows the person."""
    _values: dict[str, np.ndarray]
    """By field, the values of all persons, in pixels of whole pictures: `joints` (N, J, 3), `box` (N, 4), ..."""

    def __len__(self) -> int:
        return len(self._picture_of)

    def label(self, index: int) -> str:
        """The picture's file; of a second and later person in a picture, also which one."""
        picture = self._picture_of[index]
        turn = index - int(np.searchsorted(self._picture_of, picture))
        return self._pictures.name(int(picture)) + (f" person {turn + 1}" if turn else "")

    def read(self, index: int) -> Sample:
        number = int(self._picture_of[index])
        picture = decode_picture(self._pictures.read(number), self.root / self._pictures.name(number))
        top, left, height, width = window_about(self._values["box"][index], picture.shape[:2])
        known: dict[str, Any] = {name: column[index] for name, column in self._values.items()}
        known |= {"left": left, "top": top}
        sample: Sample = {}
        for name, kind in self.fields.items():
            if isinstance(kind, Image):
                sample[name] = np.ascontiguousarray(picture[top : top + height, left : left + width])
            elif isinstance(kind, Keypoints):
                sample[name] = _shifted_joints(known[name], left, top)
            elif isinstance(kind, Box):
                sample[name] = (known[name] - (left, top, left, top)).astype(np.float32)
            else:
                sample[name] = np.array(known[name])
        return sample

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        return problems_of(cls, root)


def window_about(box: np.ndarray, size: Size) -> Window:
    """What is looked at to see the person in a box: the box with a margin, within the picture.

    Args:
        box: (4,) left, top, right, bottom in pixels, edges included. It may reach beyond the picture.
        size: (height, width) of the picture.

    Returns:
        Top, left, height and width. Of a box beside the picture, the picture's nearest edge.
    """
    left, top, right, bottom = (float(edge) for edge in box)
    across, down = right - left + 1, bottom - top + 1
    margin = MARGIN * max(across, down)
    first_column, columns = _span(left, across, margin, size[1])
    first_row, rows = _span(top, down, margin, size[0])
    return first_row, first_column, rows, columns


def _span(start: float, extent: float, margin: float, side: int) -> tuple[int, int]:
    """The first pixel along a side of the picture, and how many."""
    margin = max(margin, (LEAST - extent) / 2)
    first, last = math.floor(start - margin + 0.5), math.floor(start + extent + margin + 0.5)
    least = min(LEAST, side)
    first = min(max(first, 0), side - least)
    return first, max(min(last, side) - first, least)


def box_of(joints: np.ndarray) -> np.ndarray:
    """The boxes of labelled joints; unlabelled ones move no edge.

    Args:
        joints: (N, J, 3): x, y and 0 where unlabelled.

    Returns:
        (N, 4) float64 left, top, right, bottom; nan where no joint is labelled.
    """
    places = joints[..., :2].astype(np.float64)
    labelled = joints[..., 2:] > 0
    least, most = np.where(labelled, places, np.inf).min(1), np.where(labelled, places, -np.inf).max(1)
    return np.where(labelled.any(1), np.concatenate([least, most], axis=1), np.nan)


def _shifted_joints(joints: np.ndarray, left: int, top: int) -> np.ndarray:
    """(J, 3) float32 with respect to another corner. Sets store anything where nothing is labelled; here it is 0."""
    return np.where(joints[:, 2:] > 0, joints - (left, top, 0), 0).astype(np.float32)


def drawn_people(number: int, names: Sequence[str], people: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A picture for miniature sets: every joint is a dot, on the dark, red where the joint's name says "left".

    Args:
        number: which picture.
        names: of the joints, 20 at most.
        people: how many stand side by side.

    Returns:
        The picture, (88, 72 * people, 3) uint8, and the joints, (people, J, 2) float64 x, y in whole pixels from 0.
    """
    rng = generator(0, 0, number, Purpose.MINIATURE)
    picture = cv2.GaussianBlur(rng.integers(0, 120, (88, 72 * people, 3), np.uint8), (0, 0), 2)
    cells = np.stack([rng.permutation(20)[: len(names)] for _ in range(people)])
    joints = np.stack([cells % 4 * 14 + 14, cells // 4 * 14 + 14], axis=-1) + rng.integers(-3, 4, (*cells.shape, 2))
    joints[..., 0] += 72 * np.arange(people)[:, None]
    for person in joints.tolist():
        for name, place in zip(names, person, strict=True):
            cv2.circle(picture, place, 3, (255, 0, 0) if "left" in name else (255, 255, 255), -1)
    return picture, joints.astype(np.float64)
