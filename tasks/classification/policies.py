"""Augmentation, inference and evaluation of image classification."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ...datasets.core.color_augmentation import pca_color
from ...datasets.core.geometry import Geometry, Size
from ...datasets.dataset import Sample
from ...datasets.field_types import FieldType
from ..network import Network
from ..policies import AugmentationPolicy, EvaluationPolicy, InferencePolicy
from .crops import DENSE_CROPS, TEST_CROPS
from .networks import Classifier, Probabilities


class PCAColorNoise(AugmentationPolicy):
    """PCA color noise of Krizhevsky et al. 2012, section 4.1; strength 1 is their standard deviation of 0.1."""

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        """Add the noise to RGB images."""
        if rng is None or color_jitter == 0 or sample["image"].shape[-1] != 3:
            return sample
        return {**sample, "image": pca_color(sample["image"], rng, 0.1 * color_jitter)}


class ClassificationInference(InferencePolicy):
    """Test crops, averaged as probabilities."""

    def geometries(self, mode: str, source: Size, training_size: Size, model: Network) -> tuple[Geometry, ...]:
        """Crops as in the backbone's preprocessing: short side `resize`, crop `crop`, scaled to the training size."""
        assert model.backbone is not None
        return TEST_CROPS[mode](source, training_size, model.backbone.preprocessing)

    def network(self, model: Network, mode: str) -> Network:
        """The network with a softmax, so that crops are averaged as probabilities; convolutional for dense modes."""
        assert isinstance(model, Classifier)
        return Probabilities(model, dense=mode in DENSE_CROPS)

    def merge(self, outputs: list[Tensor]) -> Tensor:
        """The mean probability over all crops."""
        return sum(outputs[1:], outputs[0]) / len(outputs)

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        """Class probabilities are independent of a flip."""
        return output


class ClassificationEvaluation(EvaluationPolicy):
    """Protocols and input modes have the same names."""

    def mode(self, protocol: str) -> str:
        """The input mode of the protocol's name."""
        return protocol
