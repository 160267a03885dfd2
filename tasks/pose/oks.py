"""Object keypoint similarity (OKS) and COCO's average precision over it, as in COCO's evaluation script.

Lin, Maire, Belongie, Bourdev, Girshick, Hays, Perona, Ramanan, Zitnick, Dollár: Microsoft COCO: Common Objects in
Context. 2014, arXiv:1405.0312; the metrics are those of the keypoint challenge since 2016.

    OKS = mean over the labeled joints i of exp(-d_i^2 / (2 area k_i^2)),  k_i = 2 sigma_i

for d_i the distance of a predicted joint from the labeled one, pixels, and area that of the person's segment, pixels².
For a person without a labeled joint, d_i is the distance of a joint from the person's box enlarged by its own width and
height in each direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...datasets.field_types import Skeleton
from ...errors import UserError
from .pose_prediction import part_name

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
"""Spread of people's labels of a joint, relative to the square root of the area; the same for left and right."""

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0, 1, 101)
MAX_DETECTIONS = 20
"""Number of detections with the highest scores that count per image."""

AREA_RANGES: dict[str, tuple[float, float]] = {
    "": (0, 1e5**2),
    "_medium": (32**2, 96**2),
    "_large": (96**2, 1e5**2),
}
"""Suffix of a score to the minimum and maximum area that count, pixels². COCO labels no joints of small people."""


@dataclass(frozen=True)
class GroundTruth:
    """A labeled person.

    Attributes:
        joints: (J, 3) float64: x, y in pixels, and 0 if unlabeled.
        area: of the segment, pixels².
        box: left, top, width and height, pixels.
        crowd: whether this is a group, which any number of detections may match.
    """

    joints: np.ndarray
    area: float
    box: tuple[float, float, float, float]
    crowd: bool = False

    @property
    def ignored(self) -> bool:
        """Whether detections of this person are neither correct nor wrong."""
        return self.crowd or not self.joints[:, 2].any()


@dataclass(frozen=True)
class Detection:
    """A predicted person.

    Attributes:
        joints: (J, 2) float64: x, y in pixels.
        score: confidence; only the order matters.
    """

    joints: np.ndarray
    score: float

    @property
    def area(self) -> float:
        """Area of the joints' bounding box, pixels²."""
        return float(np.prod(np.ptp(self.joints, axis=0)))


@dataclass(frozen=True)
class EvaluatedPerson:
    """A labeled person with the detection made for it.

    Attributes:
        ground_truth: the labels.
        detection: the prediction; None if none was made.
        image_id: the image; None: an image of its own.
    """

    ground_truth: GroundTruth
    detection: Detection | None
    image_id: int | None = None

    def sort_key(self) -> tuple[Any, ...]:
        """By image, then by all values: people with equal keys are interchangeable in every score."""
        person, detection = self.ground_truth, self.detection
        predicted = () if detection is None else (detection.score, detection.joints.tobytes())
        image = (self.image_id is not None, self.image_id or 0)
        return *image, person.joints.tobytes(), person.area, person.box, person.crowd, predicted


EvaluatedImage = tuple[Sequence[GroundTruth], Sequence[Detection]]
"""Labeled people and detections of an image. Among equal scores the first detection is ranked first."""


def group_by_image(people: Iterable[EvaluatedPerson]) -> list[EvaluatedImage]:
    """Group people and detections by image. The result does not depend on the order of the input."""
    images: dict[tuple[bool, int], tuple[list[GroundTruth], list[Detection]]] = {}
    for index, person in enumerate(sorted(people, key=EvaluatedPerson.sort_key)):
        key = (False, index) if person.image_id is None else (True, person.image_id)
        labeled, detections = images.setdefault(key, ([], []))
        labeled.append(person.ground_truth)
        detections += [] if person.detection is None else [person.detection]
    return list(images.values())


def joint_sigmas(skeleton: Skeleton) -> np.ndarray:
    """(J,) the sigma of every joint.

    Raises:
        UserError: COCO has none for a joint of that name.
    """
    parts = [part_name(name) for name in skeleton.names]
    unknown = [name for name, part in zip(skeleton.names, parts, strict=True) if part not in SIGMAS]
    if unknown:
        raise UserError(f"The protocol coco has no sigma for the joint '{unknown[0]}': use the protocol pck-box.")
    return np.array([SIGMAS[part] for part in parts])


def oks(joints: np.ndarray, person: GroundTruth, sigmas: np.ndarray) -> np.ndarray:
    """Similarity of predicted joints to a person, 0 to 1.

    Args:
        joints: (N, J, 2) pixels, of N detections.
        person: the labels.
        sigmas: (J,).

    Returns:
        (N,) float64.
    """
    labeled = person.joints[:, 2] > 0
    if labeled.any():
        offsets = (joints - person.joints[:, :2])[:, labeled]
        sigmas = sigmas[labeled]
    else:
        corner, size = np.array(person.box[:2]), np.array(person.box[2:])
        offsets = np.maximum(corner - size - joints, 0) + np.maximum(joints - (corner + 2 * size), 0)
    square = np.square(offsets).sum(axis=-1)
    return np.exp(-square / (2 * (person.area + np.spacing(1)) * (2 * sigmas) ** 2)).mean(axis=-1)


def average_precision(images: Sequence[EvaluatedImage], sigmas: np.ndarray) -> dict[str, float]:
    """Average precision and recall over `OKS_THRESHOLDS`.

    Args:
        images: in the order in which detections of equal score are ranked.
        sigmas: (J,).

    Returns:
        ap, ap50, ap75 and ar (the maximum recall, averaged over the thresholds), 0 to 1; ap and ar also for medium and
        large people. Scores without people are left out.
    """
    ranked = [
        (people, sorted(detections, key=lambda detection: -detection.score)[:MAX_DETECTIONS])
        for people, detections in images
    ]
    similarities = [
        np.array([oks(np.array([one.joints for one in detections]), person, sigmas) for person in people]).T
        if people and detections
        else np.zeros((len(detections), len(people)))
        for people, detections in ranked
    ]
    scores: dict[str, float] = {}
    for suffix, area in AREA_RANGES.items():
        total = sum(not _is_ignored(person, area) for people, _ in ranked for person in people)
        if total == 0:
            continue
        matches = [_match(*image, similarity, area) for image, similarity in zip(ranked, similarities, strict=True)]
        order = np.argsort([-one.score for _, detections in ranked for one in detections], kind="stable")
        correct, wrong = np.concatenate(matches, axis=-1)[..., order]
        curves = [_precision_recall(*pair, total) for pair in zip(correct, wrong, strict=True)]
        precisions, recalls = (np.array(values) for values in zip(*curves, strict=True))
        scores[f"ap{suffix}"] = float(precisions.mean())
        if suffix == "":
            scores |= {"ap50": float(precisions[0].mean()), "ap75": float(precisions[5].mean())}
        scores[f"ar{suffix}"] = float(recalls.mean())
    return scores


def _is_ignored(person: GroundTruth, area: tuple[float, float]) -> bool:
    return person.ignored or _out_of_range(person.area, area)


def _out_of_range(value: float, area: tuple[float, float]) -> bool:
    """False for nan: a detection with nan joints is in every range, and wrong in each."""
    return value < area[0] or value > area[1]


def _match(
    people: Sequence[GroundTruth], detections: Sequence[Detection], similarity: np.ndarray, area: tuple[float, float]
) -> np.ndarray:
    """(2, thresholds, detections) bool: which detections are correct, and which are wrong; the others are ignored.

    Detections, in descending order of score, are matched each with the most similar person that is still free; with an
    ignored person only if no other is left. A detection is ignored if it matches an ignored person, or if it matches
    nobody and its area is out of range. `similarity` is (detections, people) OKS.
    """
    counted = np.array([not _is_ignored(person, area) for person in people], bool)
    crowds = np.array([person.crowd for person in people], bool)
    in_range = np.array([not _out_of_range(one.area, area) for one in detections], bool)
    matches = np.zeros((2, len(OKS_THRESHOLDS), len(detections)), bool)
    if not len(people):
        matches[1] = in_range
        return matches
    rows, minimum = np.arange(len(OKS_THRESHOLDS)), np.minimum(OKS_THRESHOLDS, 1 - 1e-10)[:, None]
    free = np.ones((len(OKS_THRESHOLDS), len(people)), bool)
    for index, values in enumerate(similarity):
        candidates = free & (values >= minimum)
        candidates = np.where((candidates & counted).any(axis=1, keepdims=True), candidates & counted, candidates)
        matched = candidates.any(axis=1)
        # Among equally similar people the last one, as in COCO's loop.
        best = len(people) - 1 - np.argmax(np.where(candidates, values, -1)[:, ::-1], axis=1)
        free[rows, best] &= ~matched | crowds[best]
        matches[:, :, index] = matched & counted[best], ~matched & in_range[index]
    return matches


def _precision_recall(correct: np.ndarray, wrong: np.ndarray, people: int) -> tuple[np.ndarray, float]:
    """Precision at each of `RECALL_THRESHOLDS`, 0 beyond the maximum recall, and that recall.

    `correct` and `wrong` are (N,) bool, in descending order of score.
    """
    if not len(correct):
        return np.zeros(len(RECALL_THRESHOLDS)), 0.0
    true_positives, false_positives = np.cumsum(correct), np.cumsum(wrong)
    recall = true_positives / people
    precision = true_positives / (true_positives + false_positives + np.spacing(1))
    # The best precision at this recall or any larger one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    indices = np.searchsorted(recall, RECALL_THRESHOLDS, side="left")
    return np.append(envelope, 0)[indices], float(recall[-1])
