"""Metrics of human pose estimation, by protocol: PCK, PCKh, PCP and COCO's AP, 0 to 1, higher is better.

    pck@a    fraction of joints predicted within a times a length of the person: under `pck-torso` the distance from
             the left shoulder to the right hip (Sapp, Taskar 2013), under `pck-box` the longer edge of the person's box
             (Yang, Ramanan 2013), which every skeleton has; under `pck-found` as under `pck-torso`, but in complete
             images, in which the network looks for the person itself
    pckh@a   the same, the length being the head's: 0.6 times the diagonal of its box (Andriluka et al. 2014, MPII);
             without pelvis and thorax, which MPII's tables leave out too
    pcp      fraction of the ten limbs with both ends within half of the limb's ground truth length (strict)
    pcp_loose  the mean of the two ends' distances within half of it; never less than pcp
    ap       COCO's average precision over object keypoint similarity, and its family (oks.py)

The torso of pcp is the segment from the middle of the hips to the middle of the shoulders, as in the evaluation
scripts around LSP. `score`, the monitored metric, is the protocol's first number under a common name. A part's own
score ("ankle", "upper leg") joins its left and right and uses the first threshold.

Convention: coordinates are pixels of the original image. Unlabeled joints never count, occluded ones do. A predicted
joint that is nan counts as missed. Fractions pool all joints of all people: a joint that is labeled more often weighs
more, as in MPII's script. (A well-known port of it reads one threshold too far: its "@0.1" is 0.11.) People whom the
protocol cannot measure are left out: `samples` and `left_out` count both. A score without samples is missing, except
`score`, which is nan. Scores do not depend on the order of the samples.
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
from ...datasets.field_types import FieldType, Skeleton
from ...errors import UserError
from ..prediction import Prediction
from ..task import Metrics, RowMetrics, Table
from .oks import Detection, EvaluatedPerson, GroundTruth, average_precision, group_by_image, joint_sigmas
from .pose_prediction import PosePrediction, canonical_name, joint_indices, part_name, require_pose

HEAD_SIZE_FACTOR = 0.6
"""Head size over the diagonal of MPII's head box."""

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
"""Name and two ends of each limb; an end of two joints is their midpoint."""

Hits = dict[str, list[bool]]
"""By name of a score, whether each joint or limb that it counts is correct."""


class HitCriterion(Protocol):
    """Decides which joints or limbs of one person are correct."""

    @property
    def main_score(self) -> str:
        """Name of the score that is reported."""
        ...

    def __call__(self, pose: PosePrediction, ground_truth: Sample) -> Hits:
        """Correctness of every joint or limb; empty if the person cannot be measured."""
        ...


Length = Callable[[Sample, Skeleton], float]
"""The reference length of a labeled person, pixels; nan if it is unknown."""


def torso_length(ground_truth: Sample, skeleton: Skeleton) -> float:
    """The distance from the left shoulder to the right hip.

    Raises:
        UserError: the skeleton lacks one of them.
    """
    ends = [_joint_index(skeleton, name, "pck-torso") for name in ("left shoulder", "right hip")]
    start, end = ground_truth["joints"][ends].astype(np.float64)
    return float(np.hypot(*(start - end)[:2])) if start[2] and end[2] else math.nan


def longer_edge(ground_truth: Sample, skeleton: Skeleton) -> float:
    """The longer edge of the person's box, or of the labeled joints' extent if the dataset has no boxes."""
    if "box" in ground_truth:
        left, top, right, bottom = ground_truth["box"].astype(np.float64)
        return float(max(right - left, bottom - top))
    labeled = ground_truth["joints"][ground_truth["joints"][:, 2] > 0, :2].astype(np.float64)
    return float(np.ptp(labeled, axis=0).max()) if len(labeled) else math.nan


def head_size(ground_truth: Sample, skeleton: Skeleton) -> float:
    """`HEAD_SIZE_FACTOR` times the diagonal of the head's box.

    Raises:
        UserError: the dataset has no head boxes.
    """
    left, top, right, bottom = _require_field(ground_truth, "head", "pckh")
    return HEAD_SIZE_FACTOR * math.hypot(right - left, bottom - top)


@dataclass(frozen=True)
class CorrectJoints:
    """Percentage of correct keypoints (PCK): joints within a fraction of a reference length.

    Attributes:
        name: of the scores, before the @.
        length: the reference length.
        thresholds: fractions of the length, the first of which is reported.
        excluded: joints that do not count.
    """

    name: str
    length: Length
    thresholds: tuple[float, ...]
    excluded: tuple[str, ...] = ()

    @property
    def main_score(self) -> str:
        """The score at the first threshold."""
        return f"{self.name}@{self.thresholds[0]:g}"

    def __call__(self, pose: PosePrediction, ground_truth: Sample) -> Hits:
        """All joints at every threshold, and the joints of each part at the first one."""
        length = self.length(ground_truth, pose.skeleton)
        if not length > 0:
            return {}
        names, parts = (
            np.array([normalize(name) for name in pose.skeleton.names]) for normalize in (canonical_name, part_name)
        )
        counted = (ground_truth["joints"][:, 2] > 0) & ~np.isin(names, self.excluded)
        if not counted.any():
            return {}
        errors = np.hypot(*(pose.joints[:, :2].astype(np.float64) - ground_truth["joints"][:, :2]).T) / length
        hits = {f"{self.name}@{threshold:g}": (errors[counted] <= threshold).tolist() for threshold in self.thresholds}
        for part in dict.fromkeys(parts[counted].tolist()):
            hits[part] = (errors[counted & (parts == part)] <= self.thresholds[0]).tolist()
        return hits


@dataclass(frozen=True)
class CorrectLimbs:
    """Percentage of correct parts (PCP): limbs whose ends are within a fraction of the limb's length.

    Attributes:
        threshold: fraction of the length.
        main_score: the strict score, which requires both ends; `pcp_loose` goes by the mean of both distances.
    """

    threshold: float = 0.5
    main_score: str = "pcp"

    def __call__(self, pose: PosePrediction, ground_truth: Sample) -> Hits:
        """All limbs, strict and loose, and the limbs of each name, strict."""
        hits: defaultdict[str, list[bool]] = defaultdict(list)
        for name, *ends in LIMBS:
            indices = [[_joint_index(pose.skeleton, joint, "pcp") for joint in joints] for joints in ends]
            if not all(ground_truth["joints"][index, 2].all() for index in indices):
                continue
            labeled, predicted = (
                np.array([joints[index, :2].mean(axis=0, dtype=np.float64) for index in indices])
                for joints in (ground_truth["joints"], pose.joints)
            )
            length = math.dist(*labeled)
            if length == 0:
                continue
            start, end = np.hypot(*(predicted - labeled).T) / length
            hits[self.main_score].append(bool(start <= self.threshold and end <= self.threshold))
            hits["pcp_loose"].append(bool((start + end) / 2 <= self.threshold))
            hits[name].append(hits[self.main_score][-1])
        return hits


class HitRateMetrics(Metrics):
    """The fractions of correct joints or limbs under one criterion, `samples` and `left_out`."""

    def __init__(self, criterion: HitCriterion) -> None:
        self.criterion = criterion
        self._totals, self._hits = Counter[str](), Counter[str]()

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Count one person.

        The sample has "joints" (J, 3): x, y in pixels, and 0 unlabeled, 1 occluded, 2 visible; and, if the dataset has
        them, "box" and "head": left, top, right, bottom in pixels.

        Raises:
            ValueError: the numbers of joints differ.
            UserError: the protocol needs something that the skeleton or the dataset lacks.
        """
        hits = self.criterion(require_pose(prediction, ground_truth), ground_truth)
        self._totals["samples" if hits else "left_out"] += 1
        for name, correct in hits.items():
            self._totals[name] += len(correct)
            self._hits[name] += sum(correct)

    def state(self) -> tuple[Counter[str], Counter[str]]:
        return self._totals.copy(), self._hits.copy()

    def merge(self, states: Iterable[tuple[Counter[str], Counter[str]]]) -> None:
        self._totals, self._hits = Counter(), Counter()
        for totals, hits in states:
            self._totals.update(totals)
            self._hits.update(hits)

    def compute(self) -> dict[str, float]:
        """Every score by name, each a fraction of what was counted."""
        rates = {name: hits / self._totals[name] for name, hits in self._hits.items()}
        counts = {name: float(self._totals[name]) for name in ("samples", "left_out")}
        return {"score": rates.get(self.criterion.main_score, math.nan), **rates, **counts}

    def tables(self, fields: dict[str, FieldType]) -> dict[str, Table]:
        """How many of the joints or limbs of each part were counted, and the fraction that is correct."""
        parts = [name for name in self._hits if "@" not in name and not name.startswith("pcp")]
        rows = ((part, self._totals[part], self._hits[part] / self._totals[part]) for part in parts)
        return {"parts": [{"part": part, "count": count, "correct": correct} for part, count, correct in rows]}


class CocoMetrics(RowMetrics):
    """COCO's ap, ap50, ap75, ap_medium, ap_large and the corresponding recalls; `samples` and `left_out`.

    People of one image are matched together if their samples have the image ("image_id") and the position of the crop
    in it ("left", "top"); otherwise every sample is an image of its own. The network gets the ground truth boxes, as in
    the tables for these. Crowds and people without a labeled joint are `left_out`: nothing is predicted for them, and
    other predictions at their position do not count. Predictions are ranked by their confidence, which means little
    for a network whose confidence is constant.
    """

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Count one person.

        The sample has "joints" (J, 3), "area" of the person's segment in pixels², "box" (left, top, right, bottom as in
        pixel centers), and optionally "crowd" (0 or 1), "image_id", and "left" and "top", the position of the sample's
        crop in the original image.

        Raises:
            ValueError: the numbers of joints differ.
            UserError: COCO has no sigma for a joint, or the dataset no area or no box.
        """
        pose = require_pose(prediction, ground_truth)
        joint_sigmas(pose.skeleton)
        shift = np.array([ground_truth.get("left", 0), ground_truth.get("top", 0)], np.float64)
        box, area = (_require_field(ground_truth, name, "coco") for name in ("box", "area"))
        left, top, width, height = (*(box[:2] + shift).tolist(), *(box[2:] - box[:2] + 1).tolist())
        joints = np.column_stack([ground_truth["joints"][:, :2] + shift, ground_truth["joints"][:, 2]])
        person = GroundTruth(joints, float(area), (left, top, width, height), bool(ground_truth.get("crowd", False)))
        detection = None
        if not person.ignored:
            detection = Detection(pose.joints[:, :2] + shift, float(np.nan_to_num(pose.score)))
        has_position = all(name in ground_truth for name in ("image_id", "left", "top"))
        image_id = int(ground_truth["image_id"]) if has_position else None
        self.rows.append((pose.skeleton, EvaluatedPerson(person, detection, image_id)))

    def compute(self) -> dict[str, float]:
        people = [person for _, person in self.rows]
        samples = sum(person.detection is not None for person in people)
        scores: dict[str, float] = {}
        if people:
            scores = average_precision(group_by_image(people), joint_sigmas(self.rows[0][0]))
        counts = {"samples": float(samples), "left_out": float(len(people) - samples)}
        return {"score": scores.get("ap", math.nan), **scores, **counts}


PROTOCOLS: dict[str, Callable[[], Metrics]] = {
    "pck-torso": partial(HitRateMetrics, CorrectJoints("pck", torso_length, (0.2, 0.1, 0.05))),
    "pck-found": partial(HitRateMetrics, CorrectJoints("pck", torso_length, (0.2, 0.1, 0.05))),
    "pck-box": partial(HitRateMetrics, CorrectJoints("pck", longer_edge, (0.2, 0.1, 0.05))),
    "pckh": partial(HitRateMetrics, CorrectJoints("pckh", head_size, (0.5, 0.1), excluded=("pelvis", "thorax"))),
    "pcp": partial(HitRateMetrics, CorrectLimbs()),
    "coco": CocoMetrics,
}
"""Name of a protocol to a function that creates its empty metrics."""


def _joint_index(skeleton: Skeleton, joint: str, protocol: str) -> int:
    indices = joint_indices(skeleton)
    if joint not in indices:
        raise UserError(f"The protocol {protocol} needs the joint '{joint}', which the skeleton lacks: use pck-box.")
    return indices[joint]


def _require_field(ground_truth: Sample, name: str, protocol: str) -> np.ndarray:
    if name not in ground_truth:
        raise UserError(f"The protocol {protocol} needs the field '{name}', which the dataset lacks: use pck-box.")
    return np.asarray(ground_truth[name], np.float64)
