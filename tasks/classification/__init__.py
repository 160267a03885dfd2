"""Image classification with the recipes and test protocols of the papers.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks. NIPS 2012. There is no
head: the backbone's own classifier gives the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from ...backbones.backbone import Backbone
from ...datasets.core.color_augmentation import pca_color
from ...datasets.core.geometry import Geometry, Size
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import ClassLabel, FieldType, Image
from ..task import (
    Batch,
    Defaults,
    LossTerms,
    Metrics,
    MonitoredMetric,
    Network,
    OutputSpec,
    Phase,
    Prediction,
    PredictionContext,
    Task,
)
from ..training.options import Options
from .class_scores import ClassScores
from .crops import DENSE_CROPS, TEST_CROPS
from .losses import LOSSES
from .metrics import PROTOCOLS, ClassificationMetrics
from .networks import Classifier, Probabilities
from .recipes import RECIPES

BASELINE_SAMPLES = 1000
"""Training samples whose class frequencies are the baseline."""


@dataclass(frozen=True)
class Classification(Task):
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
    input_modes: ClassVar[tuple[str, ...]] = tuple(TEST_CROPS)

    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """The image."""
        return {"image": self.require_field(fields, "image", Image)}

    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """The class label."""
        return {"category": self.require_field(fields, "category", ClassLabel)}

    def prepare_sample(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        """PCA color noise of Krizhevsky et al. 2012, section 4.1; strength 1 is their standard deviation of 0.1."""
        if rng is None or color_jitter == 0 or sample["image"].shape[-1] != 3:
            return sample
        return {**sample, "image": pca_color(sample["image"], rng, 0.1 * color_jitter)}

    def names(self, fields: dict[str, FieldType]) -> tuple[str, ...]:
        """Class names of the dataset."""
        return self.require_field(fields, "category", ClassLabel).names

    def num_classes(self, fields: dict[str, FieldType]) -> int:
        """The number of class names of the dataset."""
        return len(self.names(fields))

    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> Network:
        """(B, C, H, W) in [0, 1] to (B, num_classes) logits."""
        assert backbone is not None and head is None
        return Classifier(backbone)

    def phases(self, model: Network, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """One phase: the loss of the logits, auxiliary classifiers included."""
        assert isinstance(model, Classifier)
        terms = LOSSES[loss]

        def compute_loss(batch: Batch, cache: dict[str, Any]) -> LossTerms:
            return terms([logits.float() for logits in model(batch["image"], True)], batch["category"])

        return (Phase("classifier", model, compute_loss),)

    def metrics(self, protocol: str) -> Metrics:
        """top1, top5 and nll."""
        return ClassificationMetrics()

    def mode_for_protocol(self, protocol: str) -> str:
        """Protocols and input modes have the same names."""
        return protocol

    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """Class frequencies of the training set, whatever the image."""
        count = min(BASELINE_SAMPLES, len(dataset))
        # Evenly from first to last: stored datasets are often sorted by class.
        span = count if dataset.infinite else len(dataset)
        names = self.names(dataset.fields)
        labels = [int(dataset.read(number * span // count)["category"]) for number in range(count)]
        share = np.bincount(labels, minlength=len(names)) / count
        return lambda sample: ClassScores(names, share)

    def input_geometries(self, mode: str, source: Size, training_size: Size, model: Network) -> tuple[Geometry, ...]:
        """Crops as in the backbone's preprocessing: short side `resize`, crop `crop`, scaled to the training size."""
        assert isinstance(model, Classifier)
        return TEST_CROPS[mode](source, training_size, model.backbone.preprocessing)

    def inference_model(self, model: Network, mode: str) -> Network:
        """The network with a softmax, so that crops are averaged as probabilities; convolutional for dense modes."""
        assert isinstance(model, Classifier)
        return Probabilities(model, dense=mode in DENSE_CROPS)

    def merge_outputs(self, outputs: list[Tensor]) -> Tensor:
        """The mean probability over all crops."""
        return sum(outputs[1:], outputs[0]) / len(outputs)

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        """Class probabilities are independent of a flip."""
        return output

    def output_spec(self, model: Network, fields: dict[str, FieldType]) -> OutputSpec:
        """One probability per class."""
        return OutputSpec(self.names(fields), "probability")

    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """Class names and probabilities."""
        return ClassScores(self.names(context.fields), output[0].cpu().numpy())

    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        """Probability 1 for the labeled class."""
        names = self.names(fields)
        return ClassScores(names, np.eye(len(names))[int(sample["category"])])
