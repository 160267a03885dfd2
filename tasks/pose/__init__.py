"""Human pose estimation: the joints of one person in an image.

Belagiannis, Rupprecht, Carneiro, Navab: Robust Optimization for Deep Regression. ICCV 2015, arXiv:1505.06606. The
complete networks are `--model belagiannis` and its cascade. Any backbone takes one of two heads: coordinates
(regression) or one heat map per joint (deconvolution; Xiao, Wu, Wei 2018, arXiv:1804.06208).

One sample is one person: datasets with several people per image return the crop around each. An image is fitted into
the input size with its aspect ratio kept, or stretched to it as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ...backbones.backbone import Backbone
from ...datasets.core.color_augmentation import apply_transform, color_jitter_transform
from ...datasets.core.geometric_augmentation import Augmentation, sample_geometry
from ...datasets.core.geometry import Geometry, Rectangle, Size, Window, transform_points
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image, Keypoints
from ...datasets.pose.people import person_crop
from ...datasets.pose.skeletons import PERSON, category_of
from ...errors import UserError, unknown_name
from ...registry import lookup
from ..task import (
    Batch,
    Defaults,
    LossTerms,
    Metrics,
    MonitoredMetric,
    Network,
    OutputSpec,
    Phase,
    Prediction,
    PredictionContext,
    Task,
)
from ..training.options import Options
from . import heatmaps
from .losses import LOSSES, find_loss
from .metrics import PROTOCOLS
from .pose_prediction import MeanPose, PosePrediction, write_results
from .recipes import RECIPES

if TYPE_CHECKING:
    from .boxes import BoxFile

BASELINE_SAMPLES = 300
"""Number of training samples whose mean pose is the baseline."""
MAX_PATCHES = 2
"""Maximum number of gray patches that random erasing puts on an image."""
HEATMAP_NDIM = 4
"""Dimensions of heat maps (B, J, h, w); coordinates (B, J, 3) have one less."""


@dataclass(frozen=True)
class HumanPose(Task):
    """Predicts the joints of one person from an image."""

    keep_aspect: bool = True
    """Fit each image into the network's input; --no-keep-aspect stretches it instead, as Belagiannis et al. do."""
    sigma: float = 2.0
    """Standard deviation of the target Gaussians of heat maps, in cells of 4 pixels."""
    decoding: Literal["dark", "quarter", "argmax"] = "dark"
    """Decoding of a heat map's peak: dark (a Taylor step at the maximum), quarter (a quarter of a cell towards the
    larger neighbor) or argmax."""
    init: Literal["gaussian", "he_fan_in"] = "gaussian"
    """Initialization of the paper's networks: gaussian (as published: N(0, 0.01²), biases 0.1) or he_fan_in, which
    starts at the mean pose and is needed by short trainings."""
    random_erase: float = 0.3
    """Probability of gray patches that hide parts of a training image."""

    name: ClassVar[str] = "pose"
    title: ClassVar[str] = "Human pose estimation"
    paper: ClassVar[str] = "Belagiannis et al. 2015, arXiv:1505.06606"
    defaults: ClassVar[Defaults] = Defaults(
        data="synthetic-figures",
        backbone="resnet18",
        head="deconvolution",
        recipe="synthetic-figures",
        photo_recipe="sports",
    )
    own_heads: ClassVar[dict[str, str]] = {
        "deconvolution": "tasks.pose.deconvolution:Deconvolution",
        "regression": "tasks.pose.regression:Regression",
    }
    heads: ClassVar[tuple[str, ...]] = tuple(own_heads)
    models: ClassVar[dict[str, str]] = {
        "belagiannis": "tasks.pose.belagiannis:Belagiannis",
        "belagiannis_cascade": "tasks.pose.belagiannis:BelagiannisCascade",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("score", higher_is_better=True)
    input_modes: ClassVar[tuple[str, ...]] = ("fit",)

    def __post_init__(self) -> None:
        if not 0 <= self.random_erase <= 1:
            raise UserError(f"--random-erase is {self.random_erase}; it must be between 0 and 1.")
        if self.sigma <= 0:
            raise UserError(f"--sigma is {self.sigma}; it must be above 0.")
        if self.decoding not in heatmaps.DECODINGS:
            raise unknown_name("decoding of heat maps", self.decoding, heatmaps.DECODINGS)

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """The field `image`."""
        return {"image": self.require_field(fields, "image", Image)}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """The field `joints`."""
        return {"joints": self.require_field(fields, "joints", Keypoints)}

    def augmentation_for(self, augmentation: Augmentation, fields: dict[str, FieldType], source: Size) -> Augmentation:
        """The given augmentation with a framing that keeps the complete person in view; zooms go in and out."""
        return replace(augmentation, framing="fit" if self.keep_aspect else "stretch")

    def prepare_sample(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        """Color jitter and random erasing of the image. Erased joints stay labeled."""
        if rng is None:
            return sample
        image = sample["image"]
        if color_jitter > 0:
            (image,) = apply_transform([image], rng, color_jitter_transform(color_jitter))
        if rng.uniform() < self.random_erase:
            image = erase_patches(image, rng)
        return {**sample, "image": image}

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> Network:
        """(B, 3, H, W) in [0, 1] to coordinates (B, J, 3) or heat maps (B, J, h, w); see `PoseNetwork.forward`."""
        from .networks import HeatmapNetwork, RegressionNetwork

        skeleton = self.require_field(fields, "joints", Keypoints).skeleton
        if model is not None:
            return lookup("model", model, self.models)(skeleton, self.init)
        assert backbone is not None and head is not None
        head_module = lookup("head", head, self.own_heads)(backbone.levels, len(skeleton.names))
        if head == "regression":
            return RegressionNetwork(backbone, head_module)
        return HeatmapNetwork(backbone, head_module, self.sigma)

    def calibrate(self, model: Network, dataset: Dataset) -> None:
        """Set the mean pose from which coordinate networks start; with the paper's initialization there is none.

        The mean is that of the images without borders; fitted images with borders have theirs a little nearer to the
        center.
        """
        from .networks import CoordinateNetwork

        if isinstance(model, CoordinateNetwork) and model.expected is not None:
            model.expected.copy_(torch.from_numpy(self.baseline(dataset).mean))

    def phases(self, model: Network, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss on coordinates or heat maps, depending on the network."""
        from .networks import PoseNetwork

        assert isinstance(model, PoseNetwork)
        terms = find_loss(loss, model)

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            return terms(batch["image"], batch["joints"])

        return (Phase("pose", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        """Percentages of correct joints (PCK) or limbs (PCP), or COCO's average precision, under a named protocol."""
        return lookup("pose protocol", protocol, PROTOCOLS)()

    def default_protocol(self, dataset: str, fields: dict[str, FieldType]) -> str:
        """The protocol that is reported on a dataset: pckh on MPII, AP on COCO, else PCK."""
        return {"mpii": "pckh", "coco-people": "coco", "pose-folders": "pck-box"}.get(dataset, self.protocols[0])

    def baseline(self, dataset: Dataset) -> MeanPose:
        """The mean pose, scaled to each image."""
        count = min(BASELINE_SAMPLES, len(dataset))
        stride = 1 if dataset.infinite else max(1, len(dataset) // count)
        skeleton = self.require_field(dataset.fields, "joints", Keypoints).skeleton
        return MeanPose([dataset.read(number * stride) for number in range(count)], skeleton)

    def read_boxes(self, file: Path, fields: dict[str, FieldType]) -> BoxFile:
        """The boxes of the skeleton's category."""
        from .boxes import BoxFile

        return BoxFile.read(file, category_of(self.require_field(fields, "joints", Keypoints).skeleton))

    def write_results(self, out: Path, stems: Sequence[str]) -> Path:
        """Write keypoints.json in COCO's results format."""
        return write_results(out, stems)

    def default_box(self, images: Sample, fields: dict[str, FieldType]) -> tuple[Rectangle | None, str]:
        """For joints of people: the largest person that torchvision's detector finds, if its weights are installed."""
        from .detector import find_person

        category = category_of(self.require_field(fields, "joints", Keypoints).skeleton)
        if category != PERSON:
            return None, f"no person detection for joints of the category '{category}'"
        return find_person(images["image"])

    def crop_for_box(self, box: Rectangle, size: Size) -> Window:
        """The crop around a person's box with the margin that datasets of people use, within the image."""
        within = super().crop_for_box(box, size)
        if min(within[2:]) < 1:
            return within
        x, y, width, height = box
        return person_crop(np.array([x, y, x + width - 1, y + height - 1]), size)

    def input_geometries(self, mode: str, source: Size, training_size: Size, model: Network) -> tuple[Geometry, ...]:
        """The complete image at the training size."""
        return (sample_geometry(None, source, training_size, self.augmentation_for(Augmentation(), {}, source)),)

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        """The output for a mirrored image, mirrored back: left and right joints change places."""
        skeleton = self.require_field(fields, "joints", Keypoints).skeleton
        order = list(range(len(skeleton.names)))
        for left, right in skeleton.pairs:
            order[left], order[right] = right, left
        output = output[:, order]
        if output.ndim == HEATMAP_NDIM:
            return heatmaps.unflip_heatmaps(output, width)
        x, y, confidence = output.unbind(-1)
        return torch.stack([width - 1 - x, y, confidence], dim=-1)

    def output_spec(self, model: Network, fields: dict[str, FieldType]) -> OutputSpec:
        """One channel per joint: coordinates or a heat map."""
        from .networks import PoseNetwork

        assert isinstance(model, PoseNetwork)
        units = {
            "coordinates": "x and y in pixels of the input, centers at integers, and a confidence from 0 to 1",
            "heatmaps": f"about 1 at the joint and 0 elsewhere, in cells of {heatmaps.STRIDE}x{heatmaps.STRIDE} pixels",
        }
        return OutputSpec(self.require_field(fields, "joints", Keypoints).skeleton.names, units[model.output_type])

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """Joints in pixels of the original image. A heat map without a peak gives an arbitrary point, confidence 0."""
        output = output.float()
        if output.ndim == HEATMAP_NDIM:
            output = heatmaps.joints_to_pixels(heatmaps.decode(output, self.decoding, self.sigma))
        joints = output[0].cpu().numpy().astype(np.float64)
        x, y = transform_points(np.linalg.inv(context.matrix), joints[:, 0], joints[:, 1])
        left, top = context.offset or (0, 0)
        height, width = context.size
        joints = np.stack([x + left, y + top, joints[:, 2]], axis=1).astype(np.float32)
        skeleton = self.require_field(context.fields, "joints", Keypoints).skeleton
        box = None if context.offset is None else (left, top, width, height)
        return PosePrediction(joints, skeleton, context.inputs["image"], box, context.note)

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        """The labeled joints."""
        skeleton = self.require_field(fields, "joints", Keypoints).skeleton
        return PosePrediction.from_labels(sample["joints"], skeleton, sample["image"])


def erase_patches(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of an image (H, W, 3) uint8 with one or two gray rectangles of 0.1 to 0.33 times its height and width."""
    image = image.copy()
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, MAX_PATCHES + 1))):
        h, w = (max(1, round(extent * rng.uniform(0.1, 0.33))) for extent in (height, width))
        top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
        image[top : top + h, left : left + w] = rng.integers(256)
    return image
