"""Optical flow: the motion of every pixel from one image to the next.

Dosovitskiy, Fischer, Ilg, Häusser, Hazırbaş, Golkov, van der Smagt, Cremers, Brox: FlowNet: Learning Optical Flow with
Convolutional Networks. ICCV 2015, arXiv:1504.06852. Complete models are `--model flownets`, `flownetc` and RAFT; any
backbone with a head works as well, with siamese or early fusion of the two images (`--fusion`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image
from ...datasets.field_types import Flow as FlowType
from ...errors import UserError, unknown_name
from ...registry import lookup
from ..heads import HEADS, create_head
from ..network import Batch, LossTerms, Phase
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..tiling import resize_to_input
from ..training.options import Options
from .fine_warping import FineWarping
from .flow_field import FlowField
from .losses import LOSSES
from .metrics import PROTOCOLS, FlowMetrics
from .networks import (
    CorrelatedFlow,
    EarlyFusionFlow,
    FineWarpingFlow,
    FlowNetwork,
    WarpingFlow,
    correlation_levels,
)
from .policies import FlowAugmentation, FlowInference
from .recipes import RECIPES


@dataclass(frozen=True)
class Flow(Task[FlowNetwork]):
    """Two images in, the motion from the first to the second out, in pixels."""

    fusion: Literal["siamese", "early"] = "siamese"
    """How a backbone reads two images: siamese (shared weights, the feature maps are compared) or early (both images
    concatenated to six channels)."""
    relative_motion: float = 0.0
    """Strength of the small motion that augmentation adds between the two images, 0 to 1."""

    name: ClassVar[str] = "flow"
    title: ClassVar[str] = "Optical flow"
    paper: ClassVar[str] = "Dosovitskiy et al. 2015, arXiv:1504.06852"
    defaults: ClassVar[Defaults] = Defaults(
        data="synthetic-chairs",
        backbone="resnet18",
        head="warping",
        recipe="synthetic-chairs",
        photo_recipe="photos",
    )
    own_heads: ClassVar[dict[str, str]] = {
        "warping": "tasks.flow.warping:Warping",
        "fine-warping": "tasks.flow.fine_warping:FineWarping",
    }
    heads: ClassVar[tuple[str, ...]] = (*HEADS, *own_heads)
    models: ClassVar[dict[str, str]] = {
        "flownet2c": "tasks.flow.flownet:flownet2c",
        "flownet2s": "tasks.flow.flownet:flownet2s",
        "flownetc": "tasks.flow.flownet:FlowNetC",
        "flownetc_caffe": "tasks.flow.flownet:flownetc_caffe",
        "flownets": "tasks.flow.flownet:FlowNetS",
        "flownets_bn": "tasks.flow.flownet:flownets_bn",
        "flownets_caffe": "tasks.flow.flownet:flownets_caffe",
        "raft_large": "tasks.flow.networks:raft_large",
        "raft_small": "tasks.flow.networks:raft_small",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("epe", higher_is_better=False)

    def __post_init__(self) -> None:
        if self.fusion not in ("siamese", "early"):
            raise unknown_name("--fusion", self.fusion, ("siamese", "early"))
        if not 0 <= self.relative_motion <= 1:
            raise UserError(f"--relative-motion is {self.relative_motion}; it must be between 0 and 1.")

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {name: self.require_field(fields, name, Image) for name in ("first", "second")}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"flow": self.require_field(fields, "flow", FlowType)}

    def backbone_options(self, fields: dict[str, FieldType]) -> dict[str, int]:
        channels = [self.require_field(fields, name, Image).channels for name in ("first", "second")]
        return {"in_channels": sum(channels) if self.fusion == "early" else channels[0], "num_classes": 0}

    @property
    def augmentation(self) -> FlowAugmentation:
        return FlowAugmentation(self.relative_motion)

    @property
    def inference(self) -> FlowInference:
        """At the images' own size, if not stated otherwise; flipped flow changes its sign."""
        return FlowInference(("native", "fit"))

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> FlowNetwork:
        """Two images (B, 3, H, W) in [0, 1] to flow (B, 2, h, w) in pixels of the input."""
        if model is not None:
            if self.fusion == "early":
                raise UserError(f"--fusion early is for backbones; the model '{model}' has a fusion of its own.")
            return lookup("model", model, self.models)()
        assert backbone is not None and head is not None
        if head in self.own_heads:
            if self.fusion == "early":
                raise UserError(
                    f"The head '{head}' compares the feature maps of two images, and --fusion early has one set of "
                    "maps: add --head unet."
                )
            warping = lookup("head", head, self.own_heads)(backbone.levels)
            return (FineWarpingFlow if isinstance(warping, FineWarping) else WarpingFlow)(backbone, warping)
        if self.fusion == "early":
            return EarlyFusionFlow(backbone, create_head(head, backbone.levels, 2))
        return CorrelatedFlow(backbone, create_head(head, correlation_levels(backbone.levels), 2))

    def phases(self, model: FlowNetwork, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss of the flow at every resolution at which the model predicts it."""
        terms = lookup("loss of the task flow", loss, LOSSES)

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            return terms(model.pyramid(batch["first"], batch["second"]), batch["flow"], batch["flow_mask"])

        return (Phase("flow", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        return FlowMetrics(lookup("flow protocol", protocol, PROTOCOLS))

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        return lambda sample: FlowField(np.zeros_like(sample["flow"]), sample["first"])

    def output_spec(self, model: FlowNetwork, fields: dict[str, FieldType]) -> OutputSpec:
        return OutputSpec(
            ("flow-u", "flow-v"), "pixels of the input, from the first image to the second; u right, v down"
        )

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """Flow at the size and in pixels of the original image: vectors are scaled with the resize."""
        scale = np.array([context.matrix[0, 0], context.matrix[1, 1]], np.float32)
        return FlowField(resize_to_input(output, context) / scale, context.inputs["first"])

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        return FlowField(sample["flow"], sample["first"])
