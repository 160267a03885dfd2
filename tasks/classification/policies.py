"""Augmentation and inference of image classification."""

from __future__ import annotations

import numpy as np

from ...datasets.core.augmentation import pca_color
from ...datasets.dataset import Sample
from ..crops import DENSE_CROPS, CropInference
from ..network import Classifier, Network
from ..policies import AugmentationPolicy
from .networks import Probabilities


class PCAColorNoise(AugmentationPolicy):
    """PCA color noise of Krizhevsky et al. 2012, section 4.1; strength 1 is their standard deviation of 0.1."""

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        if rng is None or color_jitter == 0 or sample["image"].shape[-1] != 3:
            return sample
        return {**sample, "image": pca_color(sample["image"], rng, 0.1 * color_jitter)}


class ClassificationInference(CropInference):
    """Test crops, averaged as probabilities."""

    def network(self, model: Network, mode: str) -> Network:
        """The network with a softmax, so that crops are averaged as probabilities; convolutional for dense modes."""
        assert isinstance(model, Classifier)
        return Probabilities(model, dense=mode in DENSE_CROPS)
