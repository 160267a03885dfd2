"""Nearness: one divided by the depth, for every pixel of one image. No paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from densevision.backbones.backbone import Backbone
from densevision.datasets.dataset import Dataset, Sample
from densevision.datasets.field_types import Depth, FieldType, Image
from densevision.datasets.formats.image import write_image
from densevision.tasks.heads import HEADS, create_head
from densevision.tasks.network import Batch, EncoderDecoder, LossTerms, Network, Phase
from densevision.tasks.prediction import OutputSpec, Prediction, PredictionContext
from densevision.tasks.task import Defaults, Metrics, MonitoredMetric, Task
from densevision.tasks.tiling import resize_to_input
from densevision.tasks.training.options import Options


@dataclass(frozen=True, repr=False)
class NearnessMap(Prediction):
    """(H, W) float32, in 1/m."""

    values: np.ndarray
    unit: ClassVar[str] = "1/m"

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        return Image().colorize(np.repeat(self.values[..., None], 3, axis=-1))

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        array, image = (Path(folder) / f"{stem}_nearness{end}" for end in (".npy", ".png"))
        np.save(array, self.values)
        write_image(image, self.to_image())
        return [array, image]


class NearnessError(Metrics):
    """Mean absolute difference in 1/m."""

    def __init__(self) -> None:
        self.errors: list[float] = []

    def update(self, prediction: Any, ground_truth: Sample) -> None:
        self.errors.append(float(np.nanmean(np.abs(prediction.values - 1 / ground_truth["depth"]))))

    def state(self) -> list[float]:
        return self.errors

    def merge(self, states: Any) -> None:
        self.errors = sorted(error for state in states for error in state)

    def compute(self) -> dict[str, float]:
        return {"error": float(np.mean(self.errors)) if self.errors else float("nan")}


class NearnessNetwork(EncoderDecoder):
    """(B, 3, H, W) in [0, 1] to (B, 1, H, W)."""

    def forward(self, image: Tensor) -> Tensor:
        return F.softplus(self.logits(image))


@dataclass(frozen=True)
class Nearness(Task):
    """`image` to one divided by `depth`."""

    name: ClassVar[str] = "nearness"
    title: ClassVar[str] = "Nearness"
    paper: ClassVar[str] = "none"
    defaults: ClassVar[Defaults] = Defaults("synthetic-rooms", "resnet20_cifar", "unet", "toy")
    heads: ClassVar[tuple[str, ...]] = tuple(HEADS)
    recipes: ClassVar[dict[str, Options]] = {"toy": Options(steps=2, image_size=(32, 48), batch_size=2, lr=1e-3)}
    losses: ClassVar[tuple[str, ...]] = ("l1",)
    protocols: ClassVar[tuple[str, ...]] = ("all",)
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("error", higher_is_better=False)

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"image": self.require_field(fields, "image", Image)}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"depth": self.require_field(fields, "depth", Depth)}

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> Network:
        assert backbone is not None and head is not None
        return NearnessNetwork(backbone, create_head(head, backbone.levels, 1))

    def phases(self, model: Network, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        def l1(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            known = batch["depth_mask"]
            return {"l1": (model(batch["image"])[:, 0][known] - 1 / batch["depth"][known]).abs().mean()}

        return (Phase("nearness", model, l1),)

    def metrics(self, protocol: str) -> Metrics:
        return NearnessError()

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        mean = np.mean([np.nanmean(1 / dataset.read(index)["depth"]) for index in dataset.spread(4)])
        return lambda sample: NearnessMap(np.full(sample["depth"].shape, mean, np.float32))

    def output_spec(self, model: Network, fields: dict[str, FieldType]) -> OutputSpec:
        return OutputSpec(("nearness",), "1/m")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        return NearnessMap(resize_to_input(output, context)[..., 0])

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        return NearnessMap(1 / sample["depth"])
