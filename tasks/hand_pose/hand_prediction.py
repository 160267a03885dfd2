"""HandPrediction: the joints of a hand in space, and the mean pose as the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...atomic_io import write_json
from ...datasets.core.drawing import draw_depth, draw_skeleton
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import Skeleton
from ...datasets.formats.image import write_image
from ...datasets.hand.cube import project
from ...datasets.hand.hand_fields import CubeDepth, Joints
from ..prediction import Prediction, format_range

BASELINE_SAMPLES = 300
"""Maximum number of training samples whose mean pose is the baseline."""

VIEW_SIDE, VIEW_MM = 192, 300.0
"""Height and width of a view in pixels, and what it shows in millimeters."""


@dataclass(frozen=True, repr=False)
class HandPrediction(Prediction):
    """The joints of one hand in the frame of the camera: x right, y down, z forward.

    Attributes:
        joints: (J, 3) float32 millimeters.
        skeleton: names of the joints, and the edges between them.
        camera: (3, 3) intrinsic matrix for pixels of `image`.
        image: (H, W, 3) uint8, the depth in colors.
        note: how the hand was found, if it was not given.
    """

    joints: np.ndarray
    skeleton: Skeleton
    camera: np.ndarray
    image: np.ndarray
    note: str = ""
    unit: ClassVar[str] = "millimeters"

    @property
    def pixels(self) -> np.ndarray:
        """(J, 2): x and y of the joints in pixels of `image`."""
        return project(self.joints, self.camera)

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8: the skeleton over the depth in colors."""
        joints = np.hstack([self.pixels, np.full((len(self.joints), 1), 2.0)])
        return draw_skeleton(self.image, joints, self.skeleton.edges, self.skeleton.pairs)

    def views(self) -> np.ndarray:
        """(192, 576, 3) uint8: the skeleton from the front, from its right and from above, at one scale."""
        centered = self.joints - (self.joints.min(0) + self.joints.max(0)) / 2
        x, y, z = (VIEW_SIDE * (0.5 + centered / VIEW_MM)).T
        visible, empty = np.full_like(x, 2.0), np.zeros((VIEW_SIDE, VIEW_SIDE, 3), np.uint8)
        sides = ((x, y), (z, y), (x, VIEW_SIDE - z))
        edges, pairs = self.skeleton.edges, self.skeleton.pairs
        return np.concatenate([draw_skeleton(empty, np.stack([*side, visible], 1), edges, pairs) for side in sides], 1)

    def summary(self) -> str:
        """Number of joints, their distance, and how the hand was found."""
        note = f" ({self.note})" if self.note else ""
        return f"{len(self.joints)} joints, {format_range(self.joints[:, 2])} mm away{note}"

    def _repr_parts(self) -> tuple[str, ...]:
        return f"{len(self.joints)} joints", self.unit, f"z {format_range(self.joints[:, 2])}"

    def record(self) -> dict[str, Any]:
        """Of every joint x, y and z in millimeters, and its x and y in pixels."""
        millimeters, pixels = self.joints.astype(np.float64).round(2).tolist(), self.pixels.round(2).tolist()
        records = [[dict(zip("xyz", joint, strict=False)) for joint in joints] for joints in (millimeters, pixels)]
        joints, places = (dict(zip(self.skeleton.names, rows, strict=True)) for rows in records)
        return {"joints": joints, "pixels": places}

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write STEM_hand.json, STEM_hand.png (`to_image`) and STEM_hand_views.png (`views`).

        The JSON file has `unit`, `camera` (fx, fy, cx, cy), `note`, and by name of the joint `joints` (x, y, z in
        millimeters) and `pixels` (x, y).
        """
        data, image, views = (Path(folder) / f"{stem}_hand{end}" for end in (".json", ".png", "_views.png"))
        names, camera = self.skeleton.names, self.camera.astype(np.float64)
        write_json(
            data,
            {
                "unit": self.unit,
                "camera": camera[(0, 1, 0, 1), (0, 1, 2, 2)].round(3).tolist(),
                "note": self.note,
                "joints": dict(zip(names, self.joints.astype(np.float64).round(2).tolist(), strict=True)),
                "pixels": dict(zip(names, self.pixels.round(2).tolist(), strict=True)),
            },
            indent=2,
        )
        write_image(image, self.to_image())
        write_image(views, self.views())
        return [data, image, views]


def sample_prediction(sample: Sample, joints: np.ndarray, skeleton: Skeleton) -> HandPrediction:
    """Joints (J, 3) in millimeters as the prediction for a sample of a dataset, drawn over its cube."""
    image = CubeDepth().colorize(sample["depth"])
    return HandPrediction(joints.astype(np.float32), skeleton, sample["camera"], image)


def draw_frame(frame: np.ndarray, cube: np.ndarray) -> np.ndarray:
    """A depth image (H, W), meters, as (H, W, 3) uint8 in colors of the depths in a cube (4,), millimeters."""
    return draw_depth(frame, (cube[2] + cube[3] * np.array([[-0.5, 0.5]])) / 1000)


class MeanHand:
    """The baseline: the mean pose of a training set in the cube, at its scale.

    Attributes:
        mean: (J, 3) in units of the side of the cube, relative to its center.
    """

    def __init__(self, dataset: Dataset) -> None:
        field_type = dataset.fields["joints"]
        assert isinstance(field_type, Joints)
        self.skeleton = field_type.skeleton
        samples = map(dataset.read, dataset.spread(BASELINE_SAMPLES))
        self.mean = np.mean([(each["joints"] - each["cube"][:3]) / each["cube"][3] for each in samples], axis=0)

    def __call__(self, sample: Sample) -> HandPrediction:
        """The mean pose in the cube of a sample."""
        joints = sample["cube"][:3] + self.mean * sample["cube"][3]
        return sample_prediction(sample, joints, self.skeleton)
