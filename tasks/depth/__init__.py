"""Monocular depth estimation: meters along the optical axis for every pixel of one image.

Laina, Rupprecht, Belagiannis, Tombari, Navab: Deeper Depth Prediction with Fully Convolutional Residual Networks.
3DV 2016, arXiv:1606.00373. The model of the paper is `--model fcrn`; otherwise, any backbone with any head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...backbones.backbone import Backbone
from ...datasets.core.geometry import plain_resize, warp_image
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import Depth as DepthKind
from ...datasets.field_types import FieldType, Image
from ...errors import UserError
from ...registry import lookup
from ..heads import HEADS, create_head
from ..network import Batch, LossTerms, Network, Phase
from ..policies import AugmentationPolicy, ColorJitter
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..tiling import resize_to_input
from ..training.options import Options
from .depth_map import DepthMap
from .losses import LOSSES, resize_target
from .metrics import PROTOCOLS, DepthMetrics
from .networks import DepthNetwork
from .recipes import RECIPES

BASELINE_SAMPLES = 300
"""Maximum number of training samples whose mean is the baseline."""


@dataclass(frozen=True)
class Depth(Task[Network]):
    """Monocular depth estimation: `image` to `depth` in meters."""

    name: ClassVar[str] = "depth"
    title: ClassVar[str] = "Monocular depth estimation"
    paper: ClassVar[str] = "Laina et al. 2016, arXiv:1606.00373"
    defaults: ClassVar[Defaults] = Defaults(
        data="synthetic-rooms", backbone="resnet18", head="unet", recipe="synthetic-rooms", photo_recipe="indoor"
    )
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    models: ClassVar[dict[str, str]] = {
        "fcrn": "tasks.depth.networks:FCRN",
        "fcrn_nyu": "tasks.depth.networks:fcrn_nyu",
        "fcrn_plain": "tasks.depth.networks:fcrn_plain",
        "fcrn_plain_3x3": "tasks.depth.networks:fcrn_plain_3x3",
        "fcrn_swapped_3x3": "tasks.depth.networks:fcrn_swapped_3x3",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("abs_rel", higher_is_better=False)

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"image": self.require_field(fields, "image", Image)}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"depth": self.require_field(fields, "depth", DepthKind)}

    @property
    def augmentation(self) -> AugmentationPolicy:
        return ColorJitter("image")

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> Network:
        """Build a model from (B, 3, H, W) in [0, 1] to (B, 1, h, w) meters."""
        if model is not None:
            return lookup("model", model, self.models)()
        assert backbone is not None and head is not None
        return DepthNetwork(backbone, create_head(head, backbone.levels, 1))

    def phases(self, model: Network, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss at the resolution of the prediction."""
        loss_function = lookup("depth loss", loss, LOSSES)

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            meters = model(batch["image"])[:, 0]
            target, mask = resize_target(batch["depth"], batch["depth_mask"], (meters.shape[-2], meters.shape[-1]))
            return loss_function(meters, target, mask)

        return (Phase("depth", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        return DepthMetrics(lookup("depth protocol", protocol, PROTOCOLS))

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The mean depth map of training samples, resized to the size of the image."""
        maps = [dataset.read(index)["depth"] for index in dataset.spread(BASELINE_SAMPLES)]
        size = (maps[0].shape[0], maps[0].shape[1])
        total, known_count = np.zeros(size), np.zeros(size)
        for depth in maps:
            if depth.shape != size:
                depth = DepthKind().transform(depth, plain_resize((depth.shape[0], depth.shape[1]), size))
            finite = np.isfinite(depth)
            total += np.where(finite, depth, 0)
            known_count += finite
        if not known_count.any():
            raise UserError("No training sample contains a known depth: check the depth maps of the dataset.")
        overall_mean = total.sum() / known_count.sum()
        mean = np.where(known_count > 0, total / np.maximum(known_count, 1), overall_mean).astype(np.float32)

        def predict(sample: Sample) -> Prediction:
            height, width = sample["depth"].shape
            return DepthMap(warp_image(mean, plain_resize(size, (height, width)).matrix(), (height, width)))

        return predict

    def output_spec(self, model: Network, fields: dict[str, FieldType]) -> OutputSpec:
        return OutputSpec(("depth",), "meters along the camera's axis")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """A `DepthMap` at the size of the image; resizing does not change the depth."""
        return DepthMap(resize_to_input(output, context)[..., 0])

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        return DepthMap(sample["depth"])
