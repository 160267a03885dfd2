"""The answer of a pose network: where the joints of a person are; and the trivial answer, which is always the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...datasets.dataset import Sample
from ...datasets.fields import Image, Keypoints, Skeleton
from ...datasets.formats.picture import write_picture
from ...datasets.geometry import Rectangle
from ...writing import write_text
from ..task import Prediction

CONFIDENT = 0.3
"""From this confidence on a joint counts as found; where the demonstrations of MMPose begin to draw."""

SHOWN = 0.1
"""From this confidence on a joint is drawn, faint below `CONFIDENT`."""


@dataclass(frozen=True)
class Pose(Prediction):
    """The joints of one person.

    Attributes:
        joints: (J, 3) float32: x, y in pixels of the original picture (pixel centres at integers, joints may lie beside
            it), and the confidence from 0 to 1.
        skeleton: what the joints are called and how they hang together.
        image: (H, W, C) as in samples, what was looked at: the original picture, or its part in `box`; None where it
            is not known.
        box: x, y, width and height in pixels of the part of the original picture that was looked at; None: the whole.
        note: why there, where nobody said.
    """

    joints: np.ndarray
    skeleton: Skeleton
    image: np.ndarray | None = None
    box: Rectangle | None = None
    note: str = ""
    unit: ClassVar[str] = "pixels"

    @classmethod
    def labelled(cls, joints: np.ndarray, skeleton: Skeleton, image: np.ndarray | None = None) -> Pose:
        """A sample's joints as an answer: labelled ones, occluded or not, with confidence 1, the others with 0.

        Args:
            joints: (J, 3): x, y in pixels, and 0 unlabelled, 1 occluded, 2 visible.
            skeleton, image: as in `Pose`.
        """
        known = joints[:, 2:] > 0
        return cls(np.hstack([np.where(known, joints[:, :2], 0), known]).astype(np.float32), skeleton, image)

    @property
    def score(self) -> float:
        """How sure the answer is as a whole: the mean confidence of the joints, 0 to 1."""
        return float(np.mean(self.joints[:, 2], dtype=np.float64))

    @property
    def flags(self) -> np.ndarray:
        """(J,) integers: 2 from `CONFIDENT` on, 1 from `SHOWN` on, 0 below, and where a place is no number."""
        confidence = np.where(np.isfinite(self.joints).all(axis=1), self.joints[:, 2], 0)
        return (confidence >= SHOWN).astype(int) + (confidence >= CONFIDENT)

    def picture(self, like: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8: the skeleton over what was looked at, or over black; uncertain joints are half transparent.

        Joints below `SHOWN` are left out, and the limbs that lead to them.
        """
        corner = (0, 0) if self.box is None else self.box[:2]
        drawn = np.hstack([self.joints[:, :2] - np.asarray(corner), self.flags[:, None]])
        kind = Keypoints(self.skeleton)
        return kind.draw(drawn) if self.image is None else kind.draw_on(Image().draw(self.image), drawn)

    def brief(self) -> str:
        """How many joints are confident, how sure all of them are, and what was looked at, and why."""
        where = "the whole picture" if self.box is None else f"the box {','.join(f'{side:g}' for side in self.box)}"
        why = f" ({self.note})" if self.note else ""
        found = np.count_nonzero(self.flags == 2)
        return f"{found} of {len(self.joints)} joints confident, mean confidence {self.score:.2f}, in {where}{why}"

    def as_json(self) -> dict[str, Any]:
        """The answer as COCO writes a result, with the category that names its joints.

        `keypoints` holds x, y, v of joint after joint, v as in `flags`; `num_keypoints` counts those that are not 0.
        `keypoint_scores` are the confidences. `bbox` is what was looked at, None where nothing tells. The edges of the
        category's skeleton count from 1, as COCO's do.
        """
        places = np.nan_to_num(self.joints[:, :2].astype(np.float64), posinf=0, neginf=0).round(2)
        flags = self.flags
        whole = None if self.image is None else (0, 0, self.image.shape[1], self.image.shape[0])
        box = self.box or whole
        return {
            "category": {
                "name": "person",
                "keypoints": list(self.skeleton.names),
                "skeleton": [[a + 1, b + 1] for a, b in self.skeleton.edges],
            },
            "keypoints": [
                value for (x, y), v in zip(places.tolist(), flags.tolist(), strict=True) for value in (x, y, v)
            ],
            "num_keypoints": int(np.count_nonzero(flags)),
            "keypoint_scores": np.nan_to_num(self.joints[:, 2].astype(np.float64)).round(4).tolist(),
            "score": round(float(np.nan_to_num(self.score)), 4),
            "bbox": None if box is None else [float(side) for side in box],
        }

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_pose.json (see `as_json`) and STEM_pose.png (the skeleton over what was looked at)."""
        folder = Path(folder)
        data, drawn = (folder / f"{stem}_pose{end}" for end in (".json", ".png"))
        write_text(data, json.dumps(self.as_json(), allow_nan=False) + "\n")
        write_picture(drawn, self.picture())
        return [data, drawn]


def pose_for(prediction: Prediction, truth: Sample) -> Pose:
    """A prediction that can be compared with a sample.

    Raises:
        TypeError: it is no `Pose`.
        ValueError: the two have not the same number of joints.
    """
    if not isinstance(prediction, Pose):
        raise TypeError(f"pose is judged on a Pose, not on a {type(prediction).__name__}")
    if prediction.joints.shape != truth["joints"].shape:
        found, true = len(prediction.joints), len(truth["joints"])
        raise ValueError(f"a pose of {found} joints cannot be compared with one of {true}")
    return prediction


def plain_name(joint: str) -> str:
    """A joint's name as protocols know it: `Left_Hip` is the left hip, MPII's upper neck is the neck."""
    plain = " ".join(joint.lower().replace("_", " ").replace("-", " ").split())
    return "neck" if plain == "upper neck" else plain


@lru_cache
def joint_places(skeleton: Skeleton) -> dict[str, int]:
    """Where a skeleton has the joint of a plain name."""
    return {plain_name(name): place for place, name in enumerate(skeleton.names)}


def part_name(joint: str) -> str:
    """What a joint has in common with its opposite: the left hip is a hip."""
    return plain_name(joint).removeprefix("left ").removeprefix("right ")


Frame = Callable[[Sample], tuple[np.ndarray, np.ndarray]]
"""Where a sample's person is expected: the upper left corner (x, y) and the extent (width, height), pixels."""


def whole_picture(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The picture, to its pixels' outer edges: all that an honest answer may use."""
    height, width = sample["image"].shape[:2]
    return np.array([-0.5, -0.5]), np.array([width, height], np.float64)


def true_place(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The square about the labelled joints, which tells the truth's centre and size; at least a pixel wide."""
    labelled = sample["joints"][sample["joints"][:, 2] > 0, :2].astype(np.float64)
    if not len(labelled):
        return whole_picture(sample)
    low, high = labelled.min(axis=0), labelled.max(axis=0)
    side = max(*(high - low), 1.0)
    return (low + high - side) / 2, np.array([side, side])


class MeanPose:
    """The mean of the training's poses, placed into every picture alike.

    Relative to the whole picture it is an honest answer; relative to `true_place` it shows what knowing a person's
    centre and size is worth. Of the sports of Leeds either finds one joint in twenty: the poses differ too much.

    Attributes:
        places: (J, 2) means of the labelled joints, as shares of the frame; the middle for a joint never labelled.
        seen: (J,) share of the training's samples that label the joint, which is its confidence.
    """

    def __init__(self, samples: Iterable[Sample], skeleton: Skeleton, frame: Frame = whole_picture) -> None:
        """From training samples.

        Args:
            samples: at least one, each with an "image" (H, W, C) and "joints" (J, 3).
            skeleton: of the joints.
            frame: what the places are relative to.
        """
        joints, shares = [], []
        for sample in samples:
            corner, extent = frame(sample)
            joints.append(sample["joints"])
            shares.append((sample["joints"][:, :2] - corner) / extent)
        known = np.array(joints)[..., 2:] > 0
        counts = known.sum(axis=0)
        sums = np.where(known, shares, 0).sum(axis=0)
        self.places = np.where(counts > 0, sums / np.maximum(counts, 1), 0.5)
        self.seen = counts[:, 0] / len(known)
        self.skeleton, self.frame = skeleton, frame

    def __call__(self, sample: Sample) -> Pose:
        """The mean pose in a sample's picture."""
        corner, extent = self.frame(sample)
        joints = np.column_stack([corner + self.places * extent, self.seen])
        return Pose(joints.astype(np.float32), self.skeleton, sample["image"])
