"""Human pose estimation: the joints of one person in an image.

Belagiannis, Rupprecht, Carneiro, Navab: Robust Optimization for Deep Regression. ICCV 2015, arXiv:1505.06606. The
complete networks are `--model belagiannis` and its cascade. Any backbone takes one of two heads: coordinates
(regression) or one heat map per joint (deconvolution; Xiao, Wu, Wei 2018, arXiv:1804.06208).

One sample is one person: datasets with several people per image return the crop around each. An image is fitted into
the input size with its aspect ratio kept, or stretched to it as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ...backbones.backbone import Backbone
from ...datasets.core.geometry import transform_points
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image, Keypoints
from ...errors import UserError, unknown_name
from ...registry import lookup
from ..network import Batch, LossTerms, Phase
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..training.options import Options
from . import heatmaps
from .losses import LOSSES, find_loss
from .metrics import PROTOCOLS
from .networks import HeatmapNetwork, PoseNetwork, RegressionNetwork
from .policies import PoseAugmentation, PoseEvaluation, PoseInference
from .pose_prediction import MeanPose, PosePrediction
from .recipes import RECIPES


@dataclass(frozen=True)
class HumanPose(Task[PoseNetwork]):
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
        "deconvolution": "tasks.pose.heads:Deconvolution",
        "regression": "tasks.pose.heads:Regression",
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

    def __post_init__(self) -> None:
        if not 0 <= self.random_erase <= 1:
            raise UserError(f"--random-erase is {self.random_erase}; it must be between 0 and 1.")
        if self.sigma <= 0:
            raise UserError(f"--sigma is {self.sigma}; it must be above 0.")
        if self.decoding not in heatmaps.DECODINGS:
            raise unknown_name("decoding of heat maps", self.decoding, heatmaps.DECODINGS)

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"image": self.require_field(fields, "image", Image)}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"joints": self.require_field(fields, "joints", Keypoints)}

    @property
    def augmentation(self) -> PoseAugmentation:
        return PoseAugmentation(self.keep_aspect, self.random_erase)

    @property
    def inference(self) -> PoseInference:
        return PoseInference(augmentation=self.augmentation)

    @property
    def evaluation(self) -> PoseEvaluation:
        return PoseEvaluation(self.protocols)

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> PoseNetwork:
        """(B, 3, H, W) in [0, 1] to coordinates (B, J, 3) or heat maps (B, J, h, w); see `PoseNetwork.forward`."""
        skeleton = self.require_field(fields, "joints", Keypoints).skeleton
        if model is not None:
            return lookup("model", model, self.models)(skeleton, self.init)
        assert backbone is not None and head is not None
        head_module = lookup("head", head, self.own_heads)(backbone.levels, len(skeleton.names))
        if head == "regression":
            return RegressionNetwork(backbone, head_module)
        return HeatmapNetwork(backbone, head_module, self.sigma)

    def phases(self, model: PoseNetwork, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss on coordinates or heat maps, depending on the network."""
        terms = find_loss(loss, model)

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            return terms(batch["image"], batch["joints"])

        return (Phase("pose", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        return lookup("pose protocol", protocol, PROTOCOLS)()

    def baseline(self, dataset: Dataset) -> MeanPose:
        return MeanPose.of(dataset)

    def output_spec(self, model: PoseNetwork, fields: dict[str, FieldType]) -> OutputSpec:
        """One channel per joint: coordinates or a heat map."""
        units = {
            "coordinates": "x and y in pixels of the input, centers at integers, and a confidence from 0 to 1",
            "heatmaps": f"about 1 at the joint and 0 elsewhere, in cells of {heatmaps.STRIDE}x{heatmaps.STRIDE} pixels",
        }
        return OutputSpec(
            self.require_field(fields, "joints", Keypoints).skeleton.names, units[model.output_type], "keypoints"
        )

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """Joints in pixels of the original image. A heat map without a peak gives an arbitrary point, confidence 0."""
        output = output.float()
        if output.ndim == heatmaps.NDIM:
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
        skeleton = self.require_field(fields, "joints", Keypoints).skeleton
        return PosePrediction.from_labels(sample["joints"], skeleton, sample["image"])
