"""Augmentation and inference of human pose estimation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets.core.augmentation import Augmentation, apply_transform, color_jitter_transform, sample_geometry
from ...datasets.core.geometry import Geometry, Rectangle, Size, Window, transform_points
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Keypoints, Skeleton
from ...datasets.pose.people import People, bounding_boxes, person_crop
from ...datasets.pose.skeletons import PERSON, category_of
from ..network import Network
from ..policies import AugmentationPolicy, EvaluationPolicy, InferencePolicy
from ..preprocessing import ImageInputs, ModelInput
from . import heatmaps
from .boxes import BoxFile
from .detector import find_person
from .pose_prediction import DRAWING_THRESHOLD, write_results

TWICE = "twice"
"""Input mode: a second look at the crop around the joints that the first look at the image has found."""
FOUND = "pck-found"
"""Protocol: complete images, in which the network looks for the person itself."""
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

    "fit" is one look at the image. Without a box, a person fills a part of it only, and "twice" looks again, at the
    crop around the joints found: two passes of the network instead of one.

    Attributes:
        augmentation: framing of training.
    """

    modes: tuple[str, ...] = ("fit", TWICE)
    search_mode: str | None = TWICE
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

    def refine(
        self, predictor: Any, inputs: Sequence[ModelInput], outputs: list[Tensor], batch_size: int
    ) -> list[Tensor]:
        """In the mode "twice", the joints of the second look, (1, J, 3) in pixels of the first look's input."""
        again = [number for number, one in enumerate(inputs) if one.mode == TWICE]
        looks = [self._second_look(predictor, inputs[number], outputs[number]) for number in again]
        refined = list(outputs)
        for number, look, output in zip(
            again, looks, predictor.forward(looks, batch_size) if looks else (), strict=True
        ):
            pose = predictor.decode(look, output)
            x, y = transform_points(inputs[number].context.matrix, *pose.joints[:, :2].T.astype(np.float64))
            joints = np.stack([x, y, pose.joints[:, 2]], axis=1).astype(np.float32)
            refined[number] = torch.from_numpy(joints)[None]
        return refined

    def _second_look(self, predictor: Any, first: ModelInput, output: Tensor) -> ModelInput:
        """The crop around the joints of the first look; the offset is that in the first look's image."""
        context = first.context
        joints = predictor.decode(replace(first, context=replace(context, offset=None)), output).joints
        image = context.inputs["image"]
        top, left, height, width = person_crop(joints_box(joints, image.shape[:2]), image.shape[:2])
        crop = image[top : top + height, left : left + width]
        inputs = ImageInputs({"image": crop}, (left, top), complete_size=image.shape[:2])
        return predictor.preprocessor.prepare(inputs, predictor.model, self.modes[0], first.flip)

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


@dataclass(frozen=True)
class PoseEvaluation(EvaluationPolicy):
    """Under `pck-found`, images are complete, and the network looks twice; otherwise people are cropped."""

    def mode(self, protocol: str) -> str | None:
        return TWICE if protocol == FOUND else None

    def under(self, dataset: Dataset, protocol: str) -> Dataset:
        return dataset.complete_images() if protocol == FOUND and isinstance(dataset, People) else dataset


def joints_box(joints: np.ndarray, size: Size) -> np.ndarray:
    """The box (left, top, right, bottom) around the joints (J, 3) that are drawn; around the image if none is."""
    drawn = np.isfinite(joints).all(axis=1) & (joints[:, 2] >= DRAWING_THRESHOLD)
    if not drawn.any():
        return np.array([0, 0, size[1] - 1, size[0] - 1])
    return bounding_boxes(np.column_stack([joints[:, :2], drawn])[None])[0]


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
