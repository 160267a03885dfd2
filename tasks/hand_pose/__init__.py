"""Hand pose: the joints of a hand in space from one depth image.

Oberweger, Wohlhart, Lepetit: Hands Deep in Deep Learning for Hand Pose Estimation. CVWW 2015, arXiv:1502.06807. The
network of the paper is `--model deepprior`; otherwise, any backbone with a regression.

One sample is one hand: datasets cut the cube around it out of the depth image. In other images, the nearest region is
taken for the hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import Camera, FieldType
from ...datasets.hand.hand_fields import Cube, CubeDepth, Joints
from ...errors import UserError
from ...registry import lookup
from ..network import Batch, LossTerms, Phase
from ..policies import AugmentationPolicy, EvaluationPolicy, InferencePolicy
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..training.options import Options
from .hand_prediction import HandPrediction, MeanHand, draw_frame, sample_prediction
from .heads import BackboneHand
from .losses import LOSSES
from .metrics import PROTOCOLS, HandMetrics
from .networks import HandNetwork, normalize_joints
from .policies import HandAugmentation, HandEvaluation, HandInference
from .recipes import RECIPES


@dataclass(frozen=True)
class HandPose(Task[HandNetwork]):
    """Predicts the joints of one hand from its depth."""

    prior: int = 30
    """Principal components of the training poses between the network and the joints; 0: the network predicts joints."""
    shift: float = 0.0
    """Augmentation: standard deviation in mm of a shift of the cube along x, y and z."""
    scale: float = 0.0
    """Augmentation: standard deviation of the factor of the cube's side (0.02: by 2 %)."""
    camera: tuple[float, float, float, float] | None = None
    """Camera of the depth images that are predicted for: fx, fy, cx and cy in pixels; that of ICVL if not stated."""
    cube: float | None = None
    """Side in mm of the cube around the hand in them; 250 if not stated."""

    name: ClassVar[str] = "hand_pose"
    title: ClassVar[str] = "Hand pose estimation"
    paper: ClassVar[str] = "Oberweger et al. 2015, arXiv:1502.06807"
    defaults: ClassVar[Defaults] = Defaults(
        data="synthetic-hands",
        backbone="resnet18",
        head="regression",
        recipe="synthetic-hands",
        photo_recipe="deepprior-2015",
    )
    own_heads: ClassVar[dict[str, str]] = {
        "regression": "tasks.hand_pose.heads:Regression",
        "heat-maps": "tasks.hand_pose.heads:HeatMaps",
    }
    heads: ClassVar[tuple[str, ...]] = tuple(own_heads)
    models: ClassVar[dict[str, str]] = {
        "deepprior": "tasks.hand_pose.deepprior:DeepPrior",
        "deepprior-refined": "tasks.hand_pose.deepprior:RefinedDeepPrior",
        "deepprior-multi-scale": "tasks.hand_pose.deepprior:MultiScale",
        "deepprior++": "tasks.hand_pose.deepprior:DeepPriorPlusPlus",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = PROTOCOLS
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("mm", higher_is_better=False)

    def __post_init__(self) -> None:
        if self.prior < 0:
            raise UserError(f"--prior is {self.prior}; it must be 0 or a number of principal components.")
        for name, value in (("shift", self.shift), ("scale", self.scale)):
            if not 0 <= value < math.inf:
                raise UserError(f"--{name} is {value:g}; it must be 0 or a standard deviation.")
        if self.camera is not None:
            # JSON has no tuples.
            object.__setattr__(self, "camera", tuple(self.camera))
            if not (all(map(math.isfinite, self.camera)) and min(self.camera[:2]) > 0):
                raise UserError(f"--camera is {self.camera}; give fx, fy, cx and cy in pixels, fx and fy above 0.")
        if self.cube is not None and not 0 < self.cube < math.inf:
            raise UserError(f"--cube is {self.cube:g}; it must be the side of the cube in millimeters.")

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"depth": self.require_field(fields, "depth", CubeDepth)}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        types: dict[str, type[FieldType]] = {"joints": Joints, "camera": Camera, "cube": Cube}
        return {name: self.require_field(fields, name, field_type) for name, field_type in types.items()}

    @property
    def augmentation(self) -> AugmentationPolicy:
        return HandAugmentation(self.shift, self.scale)

    @property
    def inference(self) -> InferencePolicy:
        return HandInference(camera=self.camera, cube=self.cube)

    @property
    def evaluation(self) -> EvaluationPolicy:
        return HandEvaluation(self.protocols)

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> HandNetwork:
        """(B, 1, H, W) depth in the cube to (B, 3 J) joints."""
        joints = len(self._joints(fields).skeleton.names)
        if self.prior > 3 * joints:
            raise UserError(f"--prior is {self.prior}; poses of {joints} joints have {3 * joints} components.")
        if model is not None:
            return lookup("model", model, self.models)(joints, self.prior)
        assert backbone is not None
        return BackboneHand(backbone, lookup("head", head or "regression", self.own_heads), joints, self.prior)

    def phases(self, model: HandNetwork, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        terms = lookup("hand pose loss", loss, LOSSES)

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            joints = normalize_joints(batch["joints"], batch["camera"], batch["cube"])
            return terms(model, batch["depth"], joints)

        return (Phase("hand pose", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        return HandMetrics()

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The mean pose of training samples in the cube."""
        return MeanHand(dataset)

    def output_spec(self, model: HandNetwork, fields: dict[str, FieldType]) -> OutputSpec:
        names = self._joints(fields).skeleton.names
        channels = tuple(f"{name} {axis}" for name in names for axis in "xyz")
        return OutputSpec(channels, "half the side of the cube, relative to its center", "values")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """Joints in millimeters: those of the output times half the side of the cube, plus its center."""
        if not {"cube", "camera"} <= context.inputs.keys():
            raise UserError("A sample of the task hand_pose has the fields 'cube' and 'camera' beside its 'depth'.")
        cube, skeleton = context.inputs["cube"], self._joints(context.fields).skeleton
        joints = output[0].cpu().numpy().reshape(-1, 3) * (cube[3] / 2) + cube[:3]
        if not context.note:
            return sample_prediction(context.inputs, joints, skeleton)
        image = draw_frame(context.inputs["frame"], cube)
        return HandPrediction(
            joints.astype(np.float32), skeleton, context.inputs["frame_camera"], image, f"found as {context.note}"
        )

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        return sample_prediction(sample, sample["joints"], self._joints(fields).skeleton)

    def _joints(self, fields: dict[str, FieldType]) -> Joints:
        return self.require_field(fields, "joints", Joints)
