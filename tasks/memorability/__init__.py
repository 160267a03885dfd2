"""Memorability: how likely people are to recognize an image that they have seen before, as one score.

Khosla, Raju, Torralba, Oliva: Understanding and Predicting Image Memorability at a Large Scale. ICCV 2015. The network
of the paper is `--model memnet`; otherwise, any backbone, whose own classifier has one output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image, Scalar
from ...registry import lookup
from ..crops import CropEvaluation, CropInference
from ..network import Batch, LossTerms, Network, Phase
from ..policies import AugmentationPolicy, ColorJitter, EvaluationPolicy, InferencePolicy
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..training.options import Options
from .losses import LOSSES
from .memorability_score import MemorabilityScore, write_ranking
from .metrics import PROTOCOLS, MemorabilityMetrics
from .networks import BackboneScore
from .recipes import RECIPES

BASELINE_SAMPLES = 1000
"""Maximum number of training samples whose mean score is the baseline."""


class MemorabilityInference(CropInference):
    """Test crops, with the mean of their scores, and a ranking of all inputs of a run."""

    def write_results(self, out: Path, stems: Sequence[str]) -> Path:
        return write_ranking(out, stems)


@dataclass(frozen=True)
class Memorability(Task[Network]):
    """Memorability prediction: `image` to `score` in 0..1."""

    name: ClassVar[str] = "memorability"
    title: ClassVar[str] = "Image memorability"
    paper: ClassVar[str] = "Khosla et al. 2015"
    defaults: ClassVar[Defaults] = Defaults(
        data="recognition-game",
        backbone="resnet20_cifar",
        head=None,
        recipe="recognition-game",
        photo_recipe="photos",
    )
    models: ClassVar[dict[str, str]] = {"memnet": "tasks.memorability.networks:MemNet"}
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = PROTOCOLS
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("rho", higher_is_better=True)

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"image": self.require_field(fields, "image", Image)}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"score": self.require_field(fields, "score", Scalar)}

    def backbone_options(self, fields: dict[str, FieldType]) -> dict[str, int]:
        return {**super().backbone_options(fields), "num_classes": 1}

    @property
    def augmentation(self) -> AugmentationPolicy:
        """Color jitter of the image, off by default: colors are part of what is remembered."""
        return ColorJitter("image")

    @property
    def inference(self) -> InferencePolicy:
        return MemorabilityInference(PROTOCOLS)

    @property
    def evaluation(self) -> EvaluationPolicy:
        return CropEvaluation(self.protocols)

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> Network:
        """(B, C, H, W) in [0, 1] to (B, 1) scores."""
        if model is not None:
            return lookup("model", model, self.models)()
        assert backbone is not None and head is None
        return BackboneScore(backbone)

    def phases(self, model: Network, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss of the scores, those of auxiliary classifiers included."""
        terms = lookup("memorability loss", loss, LOSSES)
        auxiliary = isinstance(model, BackboneScore)

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            scores = model(batch["image"], True) if auxiliary else (model(batch["image"]),)
            return terms(scores, batch["score"])

        return (Phase("memorability", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        return MemorabilityMetrics()

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The mean score of training samples: the constant of the least squared error. Its rho is undefined."""
        scores = [float(dataset.read(index)["score"]) for index in dataset.spread(BASELINE_SAMPLES)]
        mean = float(np.mean(scores))
        return lambda sample: MemorabilityScore(mean, sample["image"])

    def output_spec(self, model: Network, fields: dict[str, FieldType]) -> OutputSpec:
        return OutputSpec(("memorability",), "score, 0 to 1", "values")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """The score, clipped to 0..1."""
        return MemorabilityScore(min(max(float(output[0, 0]), 0.0), 1.0), context.inputs["image"])

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        return MemorabilityScore(float(sample["score"]), sample["image"])
