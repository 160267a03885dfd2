"""Scores of human pose, each under a named protocol: shares from 0 to 1, higher is better.

    pck@a    of joints, how many are found within a times a length of the person: under `pck-torso` the distance from
             the left shoulder to the right hip (Sapp, Taskar 2013), under `pck-box` the longer side of the person's box
             (Yang, Ramanan 2013), which every skeleton has
    pckh@a   the same, the length being the head's: 0.6 times the diagonal of its box (Andriluka et al. 2014, MPII);
             without pelvis and thorax, which MPII's tables leave out too
    pcp      of the ten limbs, how many are found: both ends within half of the limb's true length (strict)
    pcp_loose  the mean of the two ends' distances within half of it; it is never less than pcp
    ap       COCO's average precision over the similarity of poses, and its family (oks.py)

The torso of pcp leads from the middle of the hips to the middle of the shoulders, as in the evaluation scripts around
LSP. `score`, which is watched, is the protocol's first number under one name for all. A part's own score ("ankle",
"upper leg") joins its left and right and is that of the first number too.

Convention: places are pixels of the original picture. Unlabelled joints never count, occluded ones do. A joint that is
found nowhere (nan) counts as missed. Shares pool all joints of all people: a joint that is labelled more often weighs
more, as in MPII's script. (A well-known port of it reads one threshold too far: its "@0.1" is 0.11.) People whom the
protocol cannot measure are left out: `samples` and `left_out` count both. What nothing counts for has no score; only
`score` is always there, nan then. Scores do not depend on the order of the samples.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from ...datasets.dataset import Sample
from ...datasets.fields import Skeleton
from ...errors import UserError, unknown_name
from ..task import Metrics, Prediction
from .oks import Asked, Found, Person, average_precision, by_picture, sigmas_of
from .people import Pose, joint_places, part_name, plain_name, pose_for

HEAD_SIZE = 0.6
"""Of the diagonal of MPII's head box."""

Joints = tuple[str, ...]

LIMBS: tuple[tuple[str, Joints, Joints], ...] = (
    ("torso", ("left hip", "right hip"), ("left shoulder", "right shoulder")),
    ("head", ("neck",), ("head top",)),
    ("upper leg", ("left hip",), ("left knee",)),
    ("upper leg", ("right hip",), ("right knee",)),
    ("lower leg", ("left knee",), ("left ankle",)),
    ("lower leg", ("right knee",), ("right ankle",)),
    ("upper arm", ("left shoulder",), ("left elbow",)),
    ("upper arm", ("right shoulder",), ("right elbow",)),
    ("lower arm", ("left elbow",), ("left wrist",)),
    ("lower arm", ("right elbow",), ("right wrist",)),
)
"""A limb and its two ends; an end of two joints lies in their middle."""

Judged = dict[str, list[bool]]
"""By a score's name, whether each thing that it counts was found."""


class Judgement(Protocol):
    """How one person is judged."""

    @property
    def first(self) -> str:
        """The score that people report."""
        ...

    def __call__(self, pose: Pose, truth: Sample) -> Judged:
        """What was found of a person; nothing at all where the person cannot be measured."""
        ...


Length = Callable[[Sample, Skeleton], float]
"""The length of a true person by which distances are measured, pixels; nan where it is not known."""


def torso(truth: Sample, skeleton: Skeleton) -> float:
    """From the left shoulder to the right hip.

    Raises:
        UserError: the skeleton lacks one of them.
    """
    ends = [_place(skeleton, name, "pck-torso") for name in ("left shoulder", "right hip")]
    start, end = truth["joints"][ends].astype(np.float64)
    return float(np.hypot(*(start - end)[:2])) if start[2] and end[2] else math.nan


def longer_side(truth: Sample, skeleton: Skeleton) -> float:
    """Of the person's box, or of the labelled joints' extent where the set states no box."""
    if "box" in truth:
        left, top, right, bottom = truth["box"].astype(np.float64)
        return float(max(right - left, bottom - top))
    labelled = truth["joints"][truth["joints"][:, 2] > 0, :2].astype(np.float64)
    return float(np.ptp(labelled, axis=0).max()) if len(labelled) else math.nan


def head_size(truth: Sample, skeleton: Skeleton) -> float:
    """`HEAD_SIZE` times the diagonal of the head's box.

    Raises:
        UserError: the set states none.
    """
    left, top, right, bottom = _stated(truth, "head", "pckh")
    return HEAD_SIZE * math.hypot(right - left, bottom - top)


@dataclass(frozen=True)
class CorrectJoints:
    """The share of joints within a part of a length.

    Attributes:
        name: of the scores, before the @.
        length: of the person.
        within: parts of the length, the first of which is reported.
        without: joints that do not count.
    """

    name: str
    length: Length
    within: tuple[float, ...]
    without: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        """Its score at the first threshold."""
        return f"{self.name}@{self.within[0]:g}"

    def __call__(self, pose: Pose, truth: Sample) -> Judged:
        """At every threshold, and for every part at the first one."""
        length = self.length(truth, pose.skeleton)
        if not length > 0:
            return {}
        names, parts = (np.array([form(name) for name in pose.skeleton.names]) for form in (plain_name, part_name))
        counts = (truth["joints"][:, 2] > 0) & ~np.isin(names, self.without)
        if not counts.any():
            return {}
        apart = np.hypot(*(pose.joints[:, :2].astype(np.float64) - truth["joints"][:, :2]).T) / length
        judged = {f"{self.name}@{within:g}": (apart[counts] <= within).tolist() for within in self.within}
        for part in dict.fromkeys(parts[counts].tolist()):
            judged[part] = (apart[counts & (parts == part)] <= self.within[0]).tolist()
        return judged


@dataclass(frozen=True)
class CorrectLimbs:
    """The share of limbs whose ends are near, measured by the limb's length.

    Attributes:
        within: part of the length.
        first: the share by the farther end; the other, `pcp_loose`, goes by the mean of both.
    """

    within: float = 0.5
    first: str = "pcp"

    def __call__(self, pose: Pose, truth: Sample) -> Judged:
        """Strict and loose, and strict for every limb."""
        judged: defaultdict[str, list[bool]] = defaultdict(list)
        for name, *ends in LIMBS:
            places = [[_place(pose.skeleton, joint, "pcp") for joint in joints] for joints in ends]
            if not all(truth["joints"][place, 2].all() for place in places):
                continue
            true, found = (
                np.array([joints[place, :2].mean(axis=0, dtype=np.float64) for place in places])
                for joints in (truth["joints"], pose.joints)
            )
            length = math.dist(*true)
            if length == 0:
                continue
            start, end = np.hypot(*(found - true).T) / length
            judged[self.first].append(bool(start <= self.within and end <= self.within))
            judged["pcp_loose"].append(bool((start + end) / 2 <= self.within))
            judged[name].append(judged[self.first][-1])
        return judged


class ShareMetrics(Metrics):
    """The shares of what was found, `samples` and `left_out`, under one judgement."""

    def __init__(self, judgement: Judgement) -> None:
        self.judgement = judgement
        self._counted, self._found = Counter[str](), Counter[str]()

    def update(self, prediction: Prediction, truth: Sample) -> None:
        """Count one person.

        Args:
            prediction: a `Pose`.
            truth: a sample with "joints" (J, 3): x, y in pixels, and 0 unlabelled, 1 occluded, 2 visible; and, where
                the set states them, "box" and "head": left, top, right, bottom in pixels.

        Raises:
            ValueError: the two have not the same number of joints.
            UserError: the protocol needs what the skeleton or the set lacks.
        """
        judged = self.judgement(pose_for(prediction, truth), truth)
        self._counted["samples" if judged else "left_out"] += 1
        for name, found in judged.items():
            self._counted[name] += len(found)
            self._found[name] += sum(found)

    def state(self) -> tuple[Counter[str], Counter[str]]:
        """How much was counted for every score, and how much of it was found."""
        return self._counted.copy(), self._found.copy()

    def merge(self, states: Iterable[tuple[Counter[str], Counter[str]]]) -> None:
        """See `Metrics.merge`."""
        self._counted, self._found = Counter(), Counter()
        for counted, found in states:
            self._counted.update(counted)
            self._found.update(found)

    def compute(self) -> dict[str, float]:
        """Every score by name, each a share from 0 to 1 of what was counted."""
        shares = {name: found / self._counted[name] for name, found in self._found.items()}
        totals = {name: float(self._counted[name]) for name in ("samples", "left_out")}
        return {"score": shares.get(self.judgement.first, math.nan), **shares, **totals}


class CocoMetrics(Metrics):
    """COCO's ap, ap50, ap75, ap_medium, ap_large and the recalls beside them; `samples` and `left_out`.

    People of one picture are matched together where samples say which picture they are cut from ("image_id") and where
    ("left", "top"); else every sample is a picture of its own. The network is told where to look, as the tables for
    true boxes have it. About a crowd, or people without a labelled joint, nothing is asked: these are `left_out`, and
    what is found of others in their place counts nothing. Answers are ranked by their confidence, which says little
    where a network is always sure.
    """

    def __init__(self) -> None:
        self._skeleton: Skeleton | None = None
        self._asked: list[Asked] = []

    def update(self, prediction: Prediction, truth: Sample) -> None:
        """Count one person.

        Args:
            prediction: a `Pose`.
            truth: a sample with "joints" (J, 3), "area" of the person's segment in pixels², "box" (left, top, right,
                bottom as in pixel centres), and perhaps "crowd" (0 or 1), "image_id", and "left" and "top", where the
                sample's picture lies in the one that it is cut from.

        Raises:
            ValueError: the two have not the same number of joints.
            UserError: COCO states no spread for a joint, or the set no area or no box.
        """
        pose = pose_for(prediction, truth)
        sigmas_of(pose.skeleton)
        self._skeleton = pose.skeleton
        shift = np.array([truth.get("left", 0), truth.get("top", 0)], np.float64)
        box, area = (_stated(truth, name, "coco") for name in ("box", "area"))
        left, top, width, height = (*(box[:2] + shift).tolist(), *(box[2:] - box[:2] + 1).tolist())
        joints = np.column_stack([truth["joints"][:, :2] + shift, truth["joints"][:, 2]])
        person = Person(joints, float(area), (left, top, width, height), bool(truth.get("crowd", False)))
        found = None if person.ignored else Found(pose.joints[:, :2] + shift, float(np.nan_to_num(pose.score)))
        placed = all(name in truth for name in ("image_id", "left", "top"))
        self._asked.append(Asked(person, found, int(truth["image_id"]) if placed else None))

    def state(self) -> tuple[Skeleton | None, list[Asked]]:
        """The skeleton, and everybody who was asked about."""
        return self._skeleton, list(self._asked)

    def merge(self, states: Iterable[tuple[Skeleton | None, list[Asked]]]) -> None:
        """See `Metrics.merge`."""
        self._skeleton, self._asked = None, []
        for skeleton, asked in states:
            self._skeleton = self._skeleton or skeleton
            self._asked += asked

    def compute(self) -> dict[str, float]:
        """Every score that somebody counts for."""
        samples = sum(asked.found is not None for asked in self._asked)
        scores: dict[str, float] = {}
        if self._skeleton is not None:
            scores = average_precision(by_picture(self._asked), sigmas_of(self._skeleton))
        totals = {"samples": float(samples), "left_out": float(len(self._asked) - samples)}
        return {"score": scores.get("ap", math.nan), **scores, **totals}


PROTOCOLS: dict[str, Callable[[], Metrics]] = {
    "pck-torso": partial(ShareMetrics, CorrectJoints("pck", torso, (0.2, 0.1, 0.05))),
    "pck-box": partial(ShareMetrics, CorrectJoints("pck", longer_side, (0.2, 0.1, 0.05))),
    "pckh": partial(ShareMetrics, CorrectJoints("pckh", head_size, (0.5, 0.1), without=("pelvis", "thorax"))),
    "pcp": partial(ShareMetrics, CorrectLimbs()),
    "coco": CocoMetrics,
}
"""An empty tally by the protocol's name."""


def find_protocol(name: str) -> Callable[[], Metrics]:
    """What makes an empty tally under the protocol of a name.

    Raises:
        UserError: no such protocol; the nearest name is offered.
    """
    if name not in PROTOCOLS:
        raise unknown_name("pose protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def _place(skeleton: Skeleton, joint: str, protocol: str) -> int:
    places = joint_places(skeleton)
    if joint not in places:
        raise UserError(f"The protocol {protocol} needs the joint '{joint}', which the skeleton lacks: use pck-box.")
    return places[joint]


def _stated(truth: Sample, name: str, protocol: str) -> np.ndarray:
    if name not in truth:
        raise UserError(f"The protocol {protocol} needs the field '{name}', which the data set lacks: use pck-box.")
    return np.asarray(truth[name], np.float64)
