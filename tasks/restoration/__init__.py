"""Image restoration: removal of dirt, rain, noise, blur and other degradations.

Eigen, Krishnan, Fergus: Restoring an Image Taken through a Window Covered with Dirt or Rain. ICCV 2013. The model of
the paper is `--model eigen`; otherwise, any backbone with any head.

A dataset contains either both images (`degraded` and `image`), or clean images (`image`) that are degraded here: at
random in every epoch of training, always in the same way for evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image
from ...datasets.rendering.weather import DEGRADATIONS, NONE
from ...errors import UserError, unknown_name
from ...registry import lookup
from ..heads import HEADS, create_head
from ..network import Batch, LossTerms, Network, Phase
from ..policies import InferencePolicy
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..tiling import resize_to_input
from ..training.options import Options
from .losses import LOSSES, interior
from .metrics import PROTOCOLS, RestorationMetrics, RestoredImage
from .networks import RestorationNetwork
from .policies import Degradation, DegradedEvaluation
from .recipes import RECIPES

CHANNELS = 3


@dataclass(frozen=True)
class Restoration(Task[Network]):
    """Image restoration: `degraded` to `image`, both RGB."""

    degradations: str = "dirt,rain"
    """Comma-separated degradations of clean images: dirt, rain, drops, noise, shot-noise, blur, defocus, jpeg, masks,
    low-resolution; or all of them; none: the image as it is. Not used for datasets that contain degraded images."""

    name: ClassVar[str] = "restoration"
    title: ClassVar[str] = "Image restoration"
    paper: ClassVar[str] = "Eigen, Krishnan, Fergus 2013"
    defaults: ClassVar[Defaults] = Defaults(
        data="synthetic-weather",
        backbone="resnet20_cifar",
        head="unet",
        recipe="synthetic-weather",
        photo_recipe="photos",
    )
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    models: ClassVar[dict[str, str]] = {
        "camera-weather": "tasks.restoration.networks:CameraWeather",
        "eigen": "tasks.restoration.networks:Eigen",
    }
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = tuple(PROTOCOLS)
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("psnr", higher_is_better=True)

    def __post_init__(self) -> None:
        parse_degradations(self.degradations)

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """`degraded`; for datasets of clean images, it is generated from `image`."""
        return {"degraded": self._rgb(fields, "degraded" if "degraded" in fields else "image")}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"image": self._rgb(fields, "image")}

    def _rgb(self, fields: dict[str, FieldType], name: str) -> Image:
        field_type = self.require_field(fields, name, Image)
        if field_type.channels != CHANNELS:
            raise UserError(f"The task {self.name} needs RGB images; '{name}' has {field_type.channels} channel(s).")
        return field_type

    @property
    def augmentation(self) -> Degradation:
        return Degradation(parse_degradations(self.degradations))

    @property
    def inference(self) -> InferencePolicy:
        """At the image's own size, if not stated otherwise."""
        return InferencePolicy(("native", "fit"))

    @property
    def evaluation(self) -> DegradedEvaluation:
        return DegradedEvaluation(self.protocols, parse_degradations(self.degradations))

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> Network:
        """Build a model from (B, 3, H, W) in [0, 1] to the same shape and range."""
        if model is not None:
            return lookup("model", model, self.models)()
        assert backbone is not None and head is not None
        return RestorationNetwork(backbone, create_head(head, backbone.levels, CHANNELS))

    def phases(self, model: Network, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss against the part of the clean image that the model predicts."""
        loss_function = lookup("restoration loss", loss, LOSSES)

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            restored = model(batch["degraded"])
            return loss_function(restored, interior(batch["image"], (restored.shape[-2], restored.shape[-1])))

        return (Phase("restoration", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        return RestorationMetrics(lookup("restoration protocol", protocol, PROTOCOLS))

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The degraded input."""
        return lambda sample: RestoredImage(Image().colorize(sample["degraded"]))

    def output_spec(self, model: Network, fields: dict[str, FieldType]) -> OutputSpec:
        return OutputSpec(("red", "green", "blue"), "sRGB from 0 to 1, to be clipped to that")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        return RestoredImage.from_floats(resize_to_input(output, context))

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        return RestoredImage(Image().colorize(sample["image"]))


def parse_degradations(degradations: str) -> tuple[str, ...]:
    """Parse the option `--degradations`; returns names in the order of `DEGRADATIONS`.

    Raises:
        UserError: an unknown name, or no name.
    """
    names = [word.strip() for word in degradations.split(",") if word.strip()]
    if names == ["all"]:
        return tuple(DEGRADATIONS)
    known = (*DEGRADATIONS, NONE)
    for name in names:
        if name not in known:
            raise unknown_name("degradation (--degradations)", name, [*known, "all"])
    if not names:
        raise UserError(f"--degradations is empty; state some of {', '.join(known)}, or all.")
    return tuple(name for name in known if name in names)
