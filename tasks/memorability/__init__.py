"""Memorability: how likely people are to recognize an image that they have seen before, as one score.

Khosla, Raju, Torralba, Oliva: Understanding and Predicting Image Memorability at a Large Scale. ICCV 2015. The network
of the paper is `--model memnet`; otherwise, any backbone, whose own classifier has one output, or with `--head ridge`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image, Scalar
from ...registry import lookup
from ..crops import DENSE_CROPS, TEST_CROPS, CropEvaluation, CropInference
from ..network import Batch, LossTerms, Network, Phase
from ..policies import AugmentationPolicy, ColorJitter, EvaluationPolicy, InferencePolicy
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..training.options import Options
from .losses import LOSSES
from .memorability_score import MemorabilityScore, write_ranking
from .metrics import PROTOCOLS, MemorabilityMetrics
from .networks import BackboneScore, MemNet, RidgeScore, ScoreMap
from .recipes import RECIPES

BASELINE_SAMPLES = 1000
"""Maximum number of training samples whose mean score is the baseline."""


class MemorabilityInference(CropInference):
    """Test crops, with the mean of their scores or of their maps, and a ranking of all inputs of a run."""

    def network(self, model: Network, mode: str) -> Network:
        """In dense modes, the network of the map."""
        if mode not in DENSE_CROPS:
            return model
        assert isinstance(model, (BackboneScore, RidgeScore, MemNet))
        return ScoreMap(model)

    def merge(self, outputs: list[Tensor]) -> Tensor:
        """The mean of scores (1, 1), or of maps (1, 1, H, W) of the image and its mirror image at every scale."""
        if outputs[0].ndim == 2:
            return super().merge(outputs)
        maps = [*outputs[::2], *(each.flip(-1) for each in outputs[1::2])]
        size = outputs[0].shape[-2:]
        return super().merge([interpolate(each, size, mode="bilinear", antialias=True) for each in maps])

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        return output.flip(-1) if output.ndim == 4 else output

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
    own_heads: ClassVar[dict[str, str]] = {"ridge": "tasks.memorability.ridge:Ridge"}
    heads: ClassVar[tuple[str, ...]] = tuple(own_heads)
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
        return MemorabilityInference(tuple(TEST_CROPS))

    @property
    def evaluation(self) -> EvaluationPolicy:
        return CropEvaluation(self.protocols)

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> Network:
        """(B, C, H, W) in [0, 1] to (B, 1) scores."""
        if model is not None:
            return lookup("model", model, self.models)()
        assert backbone is not None
        if head is None:
            return BackboneScore(backbone)
        return RidgeScore(backbone, lookup("head", head, self.own_heads)(backbone.levels))

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
        """The score, clipped to 0..1; in dense modes, that is the mean of the map."""
        score = min(max(float(output.mean()), 0.0), 1.0)
        if output.ndim == 2:
            return MemorabilityScore(score, context.inputs["image"])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        scores = cv2.warpAffine(
            output[0, 0].cpu().numpy(),
            context.matrix[:2],
            context.size[::-1],
            flags=flags,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return MemorabilityScore(score, context.inputs["image"], scores)

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        return MemorabilityScore(float(sample["score"]), sample["image"])
