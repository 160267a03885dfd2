"""Augmentation and inference of human pose estimation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...datasets.core.augmentation import Augmentation, apply_transform, color_jitter_transform, sample_geometry
from ...datasets.core.geometry import Geometry, Rectangle, Size, Window
from ...datasets.dataset import Sample
from ...datasets.field_types import FieldType, Keypoints, Skeleton
from ...datasets.pose.people import person_crop
from ...datasets.pose.skeletons import PERSON, category_of
from ..network import Network
from ..policies import AugmentationPolicy, InferencePolicy
from . import heatmaps
from .boxes import BoxFile
from .detector import find_person
from .pose_prediction import write_results

MAX_PATCHES = 2
"""Maximum number of gray patches that random erasing puts on an image."""


@dataclass(frozen=True)
class PoseAugmentation(AugmentationPolicy):
    """Color jitter and random erasing of the image of one person. Erased joints stay labeled.

    Attributes:
        keep_aspect: fit the image into the network's input; otherwise it is stretched to it.
        random_erase: probability of gray patches.
    """

    keep_aspect: bool
    random_erase: float

    def limits(self, augmentation: Augmentation, fields: dict[str, FieldType], source: Size) -> Augmentation:
        """The given limits with a framing that keeps the complete person in view; zooms go in and out."""
        return replace(augmentation, framing="fit" if self.keep_aspect else "stretch")

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        if rng is None:
            return sample
        image = sample["image"]
        if color_jitter > 0:
            (image,) = apply_transform([image], rng, color_jitter_transform(color_jitter))
        if rng.uniform() < self.random_erase:
            image = erase_patches(image, rng)
        return {**sample, "image": image}


@dataclass(frozen=True)
class PoseInference(InferencePolicy):
    """One person, complete at the training size.

    Attributes:
        augmentation: framing of training.
    """

    modes: tuple[str, ...] = ("fit",)
    augmentation: PoseAugmentation = PoseAugmentation(True, 0.0)

    def find_box(self, inputs: Sample, fields: dict[str, FieldType]) -> tuple[Rectangle | None, str]:
        """For joints of people: the largest person that torchvision's detector finds, if its weights are installed."""
        category = category_of(_skeleton(fields))
        if category != PERSON:
            return None, f"no person detection for joints of the category '{category}'"
        return find_person(inputs["image"])

    def crop_for_box(self, box: Rectangle, size: Size) -> Window:
        """The crop around a person's box with the margin that datasets of people use, within the image."""
        within = super().crop_for_box(box, size)
        if min(within[2:]) < 1:
            return within
        x, y, width, height = box
        return person_crop(np.array([x, y, x + width - 1, y + height - 1]), size)

    def geometries(self, mode: str, source: Size, training_size: Size, model: Network) -> tuple[Geometry, ...]:
        return (sample_geometry(None, source, training_size, self.augmentation.limits(Augmentation(), {}, source)),)

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        """The output for a mirrored image, mirrored back: left and right joints change places."""
        skeleton = _skeleton(fields)
        order = list(range(len(skeleton.names)))
        for left, right in skeleton.pairs:
            order[left], order[right] = right, left
        output = output[:, order]
        if output.ndim == heatmaps.NDIM:
            return heatmaps.unflip_heatmaps(output, width)
        x, y, confidence = output.unbind(-1)
        return torch.stack([width - 1 - x, y, confidence], dim=-1)

    def read_boxes(self, file: Path, fields: dict[str, FieldType]) -> BoxFile:
        return BoxFile.read(file, category_of(_skeleton(fields)))

    def write_results(self, out: Path, stems: Sequence[str]) -> Path:
        return write_results(out, stems)


def _skeleton(fields: dict[str, FieldType]) -> Skeleton:
    joints = fields["joints"]
    assert isinstance(joints, Keypoints)
    return joints.skeleton


def erase_patches(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of an image (H, W, 3) uint8 with one or two gray rectangles of 0.1 to 0.33 times its height and width."""
    image = image.copy()
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, MAX_PATCHES + 1))):
        h, w = (max(1, round(extent * rng.uniform(0.1, 0.33))) for extent in (height, width))
        top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
        image[top : top + h, left : left + w] = rng.integers(256)
    return image
