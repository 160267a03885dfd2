"""Predicted poses, and the mean pose as the baseline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...atomic_io import write_json
from ...datasets.core.geometry import Rectangle
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import Image, Keypoints, Skeleton
from ...datasets.formats.image import write_image
from ...datasets.pose.skeletons import category_of, normalized_name
from ..prediction import Prediction, format_range

CONFIDENCE_THRESHOLD = 0.3
"""Minimum confidence of a confident joint; the threshold of MMPose's demos."""

DRAWING_THRESHOLD = 0.1
"""Minimum confidence of a joint that is drawn; half transparent below `CONFIDENCE_THRESHOLD`."""


BASELINE_SAMPLES = 300
"""Maximum number of training samples whose mean pose is the baseline."""

RESULTS = "keypoints.json"
"""Name of the file with the results of a run."""

ImageId = int | str
"""Identifies an image in COCO's results."""


@dataclass(frozen=True, repr=False)
class PosePrediction(Prediction):
    """The joints of one person.

    Attributes:
        joints: (J, 3) float32: x, y in pixels of the original image (pixel centers at integers, joints may be outside
            it), and the confidence from 0 to 1.
        skeleton: names of the joints, and the edges between them.
        image: (H, W, C) as in samples: the original image, or its crop to `box`; None if unknown.
        box: x, y, width and height of the crop in pixels of the original image; None: the complete image.
        note: how the box was chosen, if the caller did not choose it.
    """

    joints: np.ndarray
    skeleton: Skeleton
    image: np.ndarray | None = None
    box: Rectangle | None = None
    note: str = ""
    unit: ClassVar[str] = "pixels"

    @classmethod
    def from_labels(cls, joints: np.ndarray, skeleton: Skeleton, image: np.ndarray | None = None) -> PosePrediction:
        """A sample's joints as a prediction: labeled ones, occluded or not, with confidence 1, the others with 0.

        Args:
            joints: (J, 3): x, y in pixels, and 0 unlabeled, 1 occluded, 2 visible.
            skeleton: as in `PosePrediction`.
            image: as in `PosePrediction`.
        """
        labeled = joints[:, 2:] > 0
        return cls(np.hstack([np.where(labeled, joints[:, :2], 0), labeled]).astype(np.float32), skeleton, image)

    @property
    def score(self) -> float:
        """Mean confidence of the joints, 0 to 1."""
        return float(np.mean(self.joints[:, 2], dtype=np.float64))

    @property
    def flags(self) -> np.ndarray:
        """(J,) integers: 2 from `CONFIDENCE_THRESHOLD`, 1 from `DRAWING_THRESHOLD`, 0 below and for nan or inf."""
        confidence = np.where(np.isfinite(self.joints).all(axis=1), self.joints[:, 2], 0)
        return (confidence >= DRAWING_THRESHOLD).astype(int) + (confidence >= CONFIDENCE_THRESHOLD)

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8: the skeleton over `image`, or over black; uncertain joints are half transparent.

        Joints below `DRAWING_THRESHOLD` and their limbs are left out.
        """
        corner = (0, 0) if self.box is None else self.box[:2]
        joints = np.hstack([self.joints[:, :2] - np.asarray(corner), self.flags[:, None]])
        field_type = Keypoints(self.skeleton)
        if self.image is None:
            return field_type.colorize(joints)
        return field_type.draw_on(Image().colorize(self.image), joints)

    def summary(self) -> str:
        """Number of confident joints, mean confidence, the box and how it was chosen."""
        where = "the whole image" if self.box is None else f"the box {','.join(f'{value:g}' for value in self.box)}"
        note = f" ({self.note})" if self.note else ""
        confident = np.count_nonzero(self.flags == 2)
        return f"{confident} of {len(self.joints)} joints confident, mean confidence {self.score:.2f}, in {where}{note}"

    def _repr_parts(self) -> tuple[str, ...]:
        return f"{len(self.joints)} joints", self.unit, f"confidence {format_range(self.joints[:, 2])}"

    def record(self) -> dict[str, Any]:
        """The mean confidence, and of every joint x and y in pixels and its confidence; the box, if there is one."""
        joints = {
            name: {"x": round(x, 2), "y": round(y, 2), "confidence": round(confidence, 4)}
            for name, (x, y, confidence) in zip(self.skeleton.names, self.joints.tolist(), strict=True)
        }
        box = {} if self.box is None else {"box": [float(value) for value in self.box]}
        return {"score": round(self.score, 4), "joints": joints, **box}

    def as_json(self, image_id: ImageId = 1, category_id: int = 1) -> dict[str, Any]:
        """The prediction in COCO's results format, with the category that names its joints.

        `keypoints` is x, y, v of joint after joint, v as in `flags`; `num_keypoints` counts those with v > 0.
        `keypoint_scores` are the confidences. `bbox` is `box`, else the complete image; it is missing if both are
        unknown. The edges of the category's skeleton count from 1, as COCO's do.
        """
        points = np.nan_to_num(self.joints[:, :2].astype(np.float64), posinf=0, neginf=0).round(2)
        flags = self.flags
        image_box = None if self.image is None else (0, 0, self.image.shape[1], self.image.shape[0])
        box = self.box or image_box
        return {
            "image_id": image_id,
            "category_id": category_id,
            "category": {
                "id": category_id,
                "name": category_of(self.skeleton),
                "keypoints": list(self.skeleton.names),
                "skeleton": [[a + 1, b + 1] for a, b in self.skeleton.edges],
            },
            "keypoints": [
                value for (x, y), v in zip(points.tolist(), flags.tolist(), strict=True) for value in (x, y, v)
            ],
            "num_keypoints": int(np.count_nonzero(flags)),
            "keypoint_scores": np.nan_to_num(self.joints[:, 2].astype(np.float64)).round(4).tolist(),
            "score": round(float(np.nan_to_num(self.score)), 4),
            **({} if box is None else {"bbox": [float(value) for value in box]}),
        }

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write STEM_pose.json (COCO's results, see `as_json`) and STEM_pose.png (the skeleton over the image).

        Returns:
            The files.
        """
        return _save(folder, stem, [self.as_json(image_id_of(stem))], self.to_image())


@dataclass(frozen=True, repr=False)
class PeoplePrediction(Prediction):
    """The joints of several people of an image, or of none.

    Attributes:
        people: one prediction per person.
        image: (H, W, 3) uint8: the complete image.
        image_id: identifies the image in COCO's results.
        category_id: identifies the category in COCO's results.
    """

    people: tuple[PosePrediction, ...]
    image: np.ndarray
    image_id: ImageId
    category_id: int = 1
    unit: ClassVar[str] = "pixels"

    def numpy(self) -> np.ndarray:
        """(P, J, 3): the joints of every person."""
        return np.stack([person.joints for person in self.people]) if self.people else np.empty((0, 0, 3), np.float32)

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8: the skeletons over the image, as those of single people."""
        canvas = Image().colorize(self.image)
        for person in self.people:
            joints = np.hstack([person.joints[:, :2], person.flags[:, None]])
            canvas = Keypoints(person.skeleton).draw_on(canvas, joints)
        return canvas

    def summary(self) -> str:
        """Number of people, confident joints of all, and their mean confidence."""
        if not self.people:
            return "no boxes"
        confident = sum(np.count_nonzero(person.flags == 2) for person in self.people)
        joints = sum(len(person.joints) for person in self.people)
        score = np.mean([person.score for person in self.people])
        return f"{confident} of {joints} joints confident, mean confidence {score:.2f}, in {len(self.people)} box(es)"

    def record(self) -> dict[str, Any]:
        """Those of every person."""
        return {"people": [person.record() for person in self.people]}

    def _repr_parts(self) -> tuple[str, ...]:
        return f"{len(self.people)} people", self.unit

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write the files of `PosePrediction.save`, with the results of all people."""
        entries = [person.as_json(self.image_id, self.category_id) for person in self.people]
        return _save(folder, stem, entries, self.to_image())


def _save(folder: str | Path, stem: str, entries: list[dict[str, Any]], drawing: np.ndarray) -> list[Path]:
    files = [Path(folder) / f"{stem}_pose{end}" for end in (".json", ".png")]
    write_json(files[0], entries)
    write_image(files[1], drawing)
    return files


def image_id_of(stem: str) -> ImageId:
    """The number of an image that is named as COCO's ("000000000139"), else its path without suffix."""
    return int(stem) if re.fullmatch(r"[0-9]{12}", stem) else stem


def write_results(out: Path, stems: Sequence[str]) -> Path:
    """Collect the files of `PosePrediction.save` in OUT/keypoints.json, in COCO's results format.

    Args:
        out: folder of the files.
        stems: as passed to `save`.

    Returns:
        The file: a list with `image_id`, `category_id`, `keypoints` and `score` of every person.
    """
    keys = ("image_id", "category_id", "keypoints", "score")
    entries = [entry for stem in stems for entry in json.loads((out / f"{stem}_pose.json").read_text("utf-8"))]
    write_json(out / RESULTS, [{key: entry[key] for key in keys} for entry in entries])
    return out / RESULTS


def require_pose(prediction: Prediction, ground_truth: Sample) -> PosePrediction:
    """The prediction, checked to be comparable with a sample.

    Raises:
        TypeError: it is not a `PosePrediction`.
        ValueError: the numbers of joints differ.
    """
    if not isinstance(prediction, PosePrediction):
        raise TypeError(f"pose metrics take a PosePrediction, not a {type(prediction).__name__}")
    if prediction.joints.shape != ground_truth["joints"].shape:
        predicted, labeled = len(prediction.joints), len(ground_truth["joints"])
        raise ValueError(f"a pose of {predicted} joints cannot be compared with one of {labeled}")
    return prediction


def canonical_name(joint: str) -> str:
    """A joint's name in the protocols' spelling: `Left_Hip` is the left hip, MPII's upper neck is the neck."""
    canonical = normalized_name(joint)
    return "neck" if canonical == "upper neck" else canonical


@lru_cache
def joint_indices(skeleton: Skeleton) -> dict[str, int]:
    """Index of each joint in a skeleton, by canonical name."""
    return {canonical_name(name): index for index, name in enumerate(skeleton.names)}


def part_name(joint: str) -> str:
    """A joint's name without left or right: the left hip is a hip."""
    return canonical_name(joint).removeprefix("left ").removeprefix("right ")


ReferenceBox = Callable[[Sample], tuple[np.ndarray, np.ndarray]]
"""From a sample to the box that joints are relative to: upper left corner (x, y) and (width, height), pixels."""


def image_box(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The outer edges of the image: the only box that a prediction may use."""
    height, width = sample["image"].shape[:2]
    return np.array([-0.5, -0.5]), np.array([width, height], np.float64)


def ground_truth_box(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The square around the labeled joints, at least a pixel wide. It uses the ground truth's center and size."""
    labeled = sample["joints"][sample["joints"][:, 2] > 0, :2].astype(np.float64)
    if not len(labeled):
        return image_box(sample)
    low, high = labeled.min(axis=0), labeled.max(axis=0)
    extent = max(*(high - low), 1.0)
    return (low + high - extent) / 2, np.array([extent, extent])


class MeanPose:
    """The baseline: the mean pose of a training set, scaled to the reference box of every sample.

    Relative to `image_box` it is a valid prediction; relative to `ground_truth_box` it tells how much knowing a
    person's center and size is worth. On Leeds Sports either finds one joint in twenty: the poses differ too much.

    Attributes:
        mean: (J, 2) means of the labeled joints, in fractions of the reference box; 0.5 for a joint never labeled.
        labeled_fraction: (J,) fraction of the training samples that label the joint, used as its confidence.
    """

    def __init__(self, samples: Iterable[Sample], skeleton: Skeleton, reference_box: ReferenceBox = image_box) -> None:
        """Average training samples.

        Args:
            samples: at least one, each with an "image" (H, W, C) and "joints" (J, 3).
            skeleton: of the joints.
            reference_box: the box that the joints are relative to.
        """
        joints, fractions = [], []
        for sample in samples:
            corner, extent = reference_box(sample)
            joints.append(sample["joints"])
            fractions.append((sample["joints"][:, :2] - corner) / extent)
        labeled = np.array(joints)[..., 2:] > 0
        counts = labeled.sum(axis=0)
        sums = np.where(labeled, fractions, 0).sum(axis=0)
        self.mean = np.where(counts > 0, sums / np.maximum(counts, 1), 0.5)
        self.labeled_fraction = counts[:, 0] / len(labeled)
        self.skeleton, self.reference_box = skeleton, reference_box

    @classmethod
    def of(cls, dataset: Dataset) -> MeanPose:
        """The mean pose of (at most `BASELINE_SAMPLES` of) a training set, relative to the images."""
        joints = dataset.fields["joints"]
        assert isinstance(joints, Keypoints)
        return cls(map(dataset.read, dataset.spread(BASELINE_SAMPLES)), joints.skeleton)

    def __call__(self, sample: Sample) -> PosePrediction:
        """The mean pose in a sample's image."""
        corner, extent = self.reference_box(sample)
        joints = np.column_stack([corner + self.mean * extent, self.labeled_fraction])
        return PosePrediction(joints.astype(np.float32), self.skeleton, sample["image"])
