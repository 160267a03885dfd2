"""Object keypoint similarity and COCO's average precision over it, as its evaluation script computes them.

Lin, Maire, Belongie, Bourdev, Girshick, Hays, Perona, Ramanan, Zitnick, Dollár: Microsoft COCO: Common Objects in
Context. 2014, arXiv:1405.0312; the measures are those of the keypoint challenge since 2016.

    OKS = mean over the labelled joints i of exp(-d_i^2 / (2 area k_i^2)),  k_i = 2 sigma_i

for d_i the distance of a found joint from the true one, pixels, and area that of the person's segment, pixels². A
person without a labelled joint, whom no distance can be measured to, stands for a region: d_i is then the distance of a
joint from the person's box enlarged by its own size on every side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...datasets.fields import Skeleton
from ...errors import UserError
from .people import part_name

SIGMAS: dict[str, float] = {
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
"""How far people's labels of a joint spread, relative to the root of the area; left and right alike."""

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 20
"""Of a picture's answers, only so many of the highest score count."""

AREAS: dict[str, tuple[float, float]] = {
    "": (0, 1e5**2),
    "_medium": (32**2, 96**2),
    "_large": (96**2, 1e5**2),
}
"""Smallest and largest area that count, pixels², by the end of a score's name. COCO labels no joint of small people."""


@dataclass(frozen=True)
class Person:
    """Somebody who is in a picture.

    Attributes:
        joints: (J, 3) float64: x, y in pixels, and 0 where unlabelled.
        area: of the segment, pixels².
        box: left, top, width and height, pixels.
        crowd: stands for a group, in which any number of answers may lie.
    """

    joints: np.ndarray
    area: float
    box: tuple[float, float, float, float]
    crowd: bool = False

    @property
    def ignored(self) -> bool:
        """Whether finding this person counts neither for nor against."""
        return self.crowd or not self.joints[:, 2].any()


@dataclass(frozen=True)
class Found:
    """An answer.

    Attributes:
        joints: (J, 2) float64: x, y in pixels.
        score: how sure it is; only the order matters.
    """

    joints: np.ndarray
    score: float

    @property
    def area(self) -> float:
        """Of the joints' extent, pixels²."""
        return float(np.prod(np.ptp(self.joints, axis=0)))


@dataclass(frozen=True)
class Asked:
    """A person with what was answered about them.

    Attributes:
        person: the truth.
        found: the answer; None where nothing was asked.
        picture: which one it was in; None: one of their own.
    """

    person: Person
    found: Found | None
    picture: int | None = None

    def rank(self) -> tuple[Any, ...]:
        """By picture, then by what is said: those of equal rank are alike in all that a score depends on."""
        person, found = self.person, self.found
        answer = () if found is None else (found.score, found.joints.tobytes())
        place = (self.picture is not None, self.picture or 0)
        return *place, person.joints.tobytes(), person.area, person.box, person.crowd, answer


Picture = tuple[Sequence[Person], Sequence[Found]]
"""Who is in a picture, and what was answered. Of equal scores the first one goes first."""


def by_picture(everybody: Iterable[Asked]) -> list[Picture]:
    """People and answers of the same picture together, in an order that does not depend on theirs."""
    pictures: dict[tuple[bool, int], tuple[list[Person], list[Found]]] = {}
    for place, asked in enumerate(sorted(everybody, key=Asked.rank)):
        key = (False, place) if asked.picture is None else (True, asked.picture)
        persons, found = pictures.setdefault(key, ([], []))
        persons.append(asked.person)
        found += [] if asked.found is None else [asked.found]
    return list(pictures.values())


def sigmas_of(skeleton: Skeleton) -> np.ndarray:
    """(J,) the sigma of every joint.

    Raises:
        UserError: COCO states none for a joint of that name.
    """
    parts = [part_name(name) for name in skeleton.names]
    unknown = [name for name, part in zip(skeleton.names, parts, strict=True) if part not in SIGMAS]
    if unknown:
        raise UserError(f"The protocol coco knows no spread of the joint '{unknown[0]}': use the protocol pck-box.")
    return np.array([SIGMAS[part] for part in parts])


def oks(found: np.ndarray, person: Person, sigmas: np.ndarray) -> np.ndarray:
    """How much answers are alike a person, 0 to 1.

    Args:
        found: (N, J, 2) pixels.
        person: who is there.
        sigmas: (J,).

    Returns:
        (N,) float64.
    """
    labelled = person.joints[:, 2] > 0
    if labelled.any():
        apart = (found - person.joints[:, :2])[:, labelled]
        sigmas = sigmas[labelled]
    else:
        corner, size = np.array(person.box[:2]), np.array(person.box[2:])
        apart = np.maximum(corner - size - found, 0) + np.maximum(found - (corner + 2 * size), 0)
    square = np.square(apart).sum(axis=-1)
    return np.exp(-square / (2 * (person.area + np.spacing(1)) * (2 * sigmas) ** 2)).mean(axis=-1)


def average_precision(pictures: Sequence[Picture], sigmas: np.ndarray) -> dict[str, float]:
    """Precision over recall, averaged over `THRESHOLDS` of OKS.

    Args:
        pictures: in the order in which answers of equal score are ranked.
        sigmas: (J,).

    Returns:
        ap, ap50, ap75 and ar (the largest recall, averaged over the thresholds), 0 to 1; ap and ar also for medium and
        large people. What nobody counts for is left out.
    """
    ranked = [(persons, sorted(found, key=lambda one: -one.score)[:MOST]) for persons, found in pictures]
    alike = [
        np.array([oks(np.array([one.joints for one in found]), person, sigmas) for person in persons]).T
        if persons and found
        else np.zeros((len(found), len(persons)))
        for persons, found in ranked
    ]
    scores: dict[str, float] = {}
    for end, area in AREAS.items():
        people = sum(not _set_aside(person, area) for persons, _ in ranked for person in persons)
        if people == 0:
            continue
        outcomes = [_outcomes(*picture, likeness, area) for picture, likeness in zip(ranked, alike, strict=True)]
        order = np.argsort([-one.score for _, found in ranked for one in found], kind="stable")
        right, wrong = np.concatenate(outcomes, axis=-1)[..., order]
        curves = [_precisions_and_recall(*pair, people) for pair in zip(right, wrong, strict=True)]
        precisions, recalls = (np.array(values) for values in zip(*curves, strict=True))
        scores[f"ap{end}"] = float(precisions.mean())
        if end == "":
            scores |= {"ap50": float(precisions[0].mean()), "ap75": float(precisions[5].mean())}
        scores[f"ar{end}"] = float(recalls.mean())
    return scores


def _set_aside(person: Person, area: tuple[float, float]) -> bool:
    return person.ignored or _outside(person.area, area)


def _outside(value: float, area: tuple[float, float]) -> bool:
    """nan, of an answer that is no number, lies in every area: it is wrong everywhere."""
    return value < area[0] or value > area[1]


def _outcomes(
    persons: Sequence[Person], found: Sequence[Found], alike: np.ndarray, area: tuple[float, float]
) -> np.ndarray:
    """Which answers are right and which are wrong at every threshold; the others count nothing.

    Every answer, the surest first, takes the person that it is most alike among those that nobody took yet; one who is
    set aside only where nobody else is left. What takes such a one counts nothing, nor does what takes nobody and is
    itself of another area.

    Args:
        persons, found: of one picture, the surest first.
        alike: (found, persons) OKS.
        area: smallest and largest that count.

    Returns:
        (2, thresholds, found) bool.
    """
    counts = np.array([not _set_aside(person, area) for person in persons], bool)
    crowds = np.array([person.crowd for person in persons], bool)
    own = np.array([not _outside(one.area, area) for one in found], bool)
    outcomes = np.zeros((2, len(THRESHOLDS), len(found)), bool)
    if not len(persons):
        outcomes[1] = own
        return outcomes
    levels, least = np.arange(len(THRESHOLDS)), np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    free = np.ones((len(THRESHOLDS), len(persons)), bool)
    for place, likeness in enumerate(alike):
        near = free & (likeness >= least)
        near = np.where((near & counts).any(axis=1, keepdims=True), near & counts, near)
        taken = near.any(axis=1)
        # Of equally alike ones the last, as in COCO's loop.
        nearest = len(persons) - 1 - np.argmax(np.where(near, likeness, -1)[:, ::-1], axis=1)
        free[levels, nearest] &= ~taken | crowds[nearest]
        outcomes[:, :, place] = taken & counts[nearest], ~taken & own[place]
    return outcomes


def _precisions_and_recall(right: np.ndarray, wrong: np.ndarray, people: int) -> tuple[np.ndarray, float]:
    """Precision at every one of `RECALLS`, 0 beyond the largest recall, and that recall.

    Args:
        right, wrong: (N,) bool, the surest first.
        people: how many were to be found.
    """
    if not len(right):
        return np.zeros(len(RECALLS)), 0.0
    hits, misses = np.cumsum(right), np.cumsum(wrong)
    recall = hits / people
    precision = hits / (hits + misses + np.spacing(1))
    # The best precision at this recall or any larger one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return np.append(envelope, 0)[places], float(recall[-1])
