"""Image classification with the recipes and test protocols of the papers.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks. NIPS 2012. There is no
head: the backbone's own classifier gives the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...backbones.backbone import Backbone
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import ClassLabel, FieldType, Image
from ..crops import TEST_CROPS, CropEvaluation
from ..network import Batch, Classifier, LossTerms, Phase
from ..policies import AugmentationPolicy, EvaluationPolicy, InferencePolicy
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..training.options import Options
from .losses import LOSSES
from .metrics import PROTOCOLS, ClassificationMetrics, ClassScores
from .policies import ClassificationInference, PCAColorNoise
from .recipes import RECIPES

BASELINE_SAMPLES = 1000
"""Training samples whose class frequencies are the baseline."""


@dataclass(frozen=True)
class Classification(Task[Classifier]):
    """An image in, class probabilities out."""

    name: ClassVar[str] = "classification"
    title: ClassVar[str] = "Image classification"
    paper: ClassVar[str] = "Krizhevsky et al. 2012"
    defaults: ClassVar[Defaults] = Defaults(
        data="synthetic-shapes", backbone="resnet20_cifar", head=None, recipe="synthetic-shapes", photo_recipe="modern"
    )
    recipes: ClassVar[dict[str, Options]] = RECIPES
    losses: ClassVar[tuple[str, ...]] = tuple(LOSSES)
    protocols: ClassVar[tuple[str, ...]] = PROTOCOLS
    monitor: ClassVar[MonitoredMetric] = MonitoredMetric("top1", higher_is_better=True)

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"image": self.require_field(fields, "image", Image)}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        return {"category": self.require_field(fields, "category", ClassLabel)}

    def names(self, fields: dict[str, FieldType]) -> tuple[str, ...]:
        """Class names of the dataset."""
        return self.require_field(fields, "category", ClassLabel).names

    def backbone_options(self, fields: dict[str, FieldType]) -> dict[str, int]:
        return {**super().backbone_options(fields), "num_classes": len(self.names(fields))}

    @property
    def augmentation(self) -> AugmentationPolicy:
        return PCAColorNoise()

    @property
    def inference(self) -> InferencePolicy:
        return ClassificationInference(tuple(TEST_CROPS))

    @property
    def evaluation(self) -> EvaluationPolicy:
        return CropEvaluation(self.protocols)

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> Classifier:
        """(B, C, H, W) in [0, 1] to (B, num_classes) logits."""
        assert backbone is not None and head is None
        return Classifier(backbone)

    def phases(self, model: Classifier, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss of the logits, auxiliary classifiers included."""
        terms = LOSSES[loss]

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            return terms([logits.float() for logits in model(batch["image"], True)], batch["category"])

        return (Phase("classifier", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        return ClassificationMetrics()

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """Class frequencies of the training set, whatever the image."""
        count = min(BASELINE_SAMPLES, len(dataset))
        # Evenly from first to last: stored datasets are often sorted by class.
        span = count if dataset.infinite else len(dataset)
        names = self.names(dataset.fields)
        labels = [int(dataset.read(number * span // count)["category"]) for number in range(count)]
        share = np.bincount(labels, minlength=len(names)) / count
        return lambda sample: ClassScores(names, share)

    def output_spec(self, model: Classifier, fields: dict[str, FieldType]) -> OutputSpec:
        return OutputSpec(self.names(fields), "probability", "classes")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        return ClassScores(self.names(context.fields), output[0].cpu().numpy())

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        names = self.names(fields)
        return ClassScores(names, np.eye(len(names))[int(sample["category"])])
