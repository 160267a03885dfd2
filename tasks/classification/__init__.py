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
from ...errors import UserError
from ..crops import TEST_CROPS, CropEvaluation
from ..network import Batch, Classifier, LossTerms, Phase
from ..policies import AugmentationPolicy, EvaluationPolicy, InferencePolicy
from ..prediction import OutputSpec, Prediction, PredictionContext
from ..task import Defaults, Metrics, MonitoredMetric, Task
from ..training.options import Options
from .losses import LOSSES
from .metrics import PROTOCOLS, ClassificationMetrics, ClassScores
from .policies import ClassificationAugmentation, ClassificationInference
from .recipes import RECIPES

BASELINE_SAMPLES = 1000
"""Training samples whose class frequencies are the baseline."""


@dataclass(frozen=True)
class Classification(Task[Classifier]):
    """An image in, class probabilities out."""

    mixup: float = 0.0
    """Alpha of mixup, which adds two images and their classes in random shares; 0 turns it off."""
    cutmix: float = 0.0
    """Alpha of CutMix, which pastes a rectangle of another image, and its share of the class; 0 turns it off. With
    --mixup, each batch takes one of them at random."""
    trivial_augment: bool = False
    """TrivialAugment: one random change of colors or geometry of a random strength for each image."""
    random_erase: float = 0.0
    """Probability of a rectangle of zeros that hides a part of a training image."""

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

    def __post_init__(self) -> None:
        for name, value, most in (
            ("mixup", self.mixup, 100.0),
            ("cutmix", self.cutmix, 100.0),
            ("random_erase", self.random_erase, 1.0),
        ):
            if not 0 <= value <= most:
                raise UserError(f"--{name.replace('_', '-')} is {value}; it must be between 0 and {most:g}.")

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
        return ClassificationAugmentation(self.trivial_augment, self.random_erase, self.mixup, self.cutmix)

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
        terms, mix = LOSSES[loss], self.augmentation.mix
        if (self.mixup or self.cutmix) and loss == "map":
            raise UserError("--mixup and --cutmix mix classes, and the loss 'map' takes one: use 'cross-entropy'.")

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            batch = mix(batch, fields)
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
