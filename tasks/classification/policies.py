"""Augmentation and inference of image classification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from ...datasets.core.augmentation import pca_color
from ...datasets.dataset import Sample
from ...datasets.field_types import ClassLabel, FieldType
from ..crops import DENSE_CROPS, CropInference
from ..network import Batch, Classifier, Network
from ..policies import AugmentationPolicy
from .networks import Probabilities


@dataclass(frozen=True)
class ClassificationAugmentation(AugmentationPolicy):
    """PCA color noise of Krizhevsky et al. 2012, section 4.1 (strength 1 is their standard deviation of 0.1), and
    transforms of torchvision.

    Attributes:
        trivial_augment: one random operation of a random strength (Müller and Hutter 2021, arXiv:2103.10158).
        random_erase: probability of a rectangle of zeros (Zhong et al. 2017, arXiv:1708.04896).
        mixup, cutmix: alpha of each (Zhang et al. 2018, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899), or 0.
    """

    trivial_augment: bool = False
    random_erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        image = sample["image"]
        if rng is None:
            return sample
        if color_jitter and image.shape[-1] == 3:
            image = pca_color(image, rng, 0.1 * color_jitter)
        transforms: list[Any] = [v2.TrivialAugmentWide()] if self.trivial_augment and image.dtype == np.uint8 else []
        if self.random_erase:
            transforms.append(v2.RandomErasing(self.random_erase))
        if transforms:
            # torchvision takes torch's generator: its numbers follow from this sample's.
            with torch.random.fork_rng([]):
                torch.manual_seed(int(rng.integers(2**62)))
                tensor = v2.Compose(transforms)(torch.from_numpy(np.ascontiguousarray(image)).movedim(-1, 0))
            image = np.ascontiguousarray(tensor.movedim(0, -1).numpy())
        return sample if image is sample["image"] else {**sample, "image": image}

    def mix(self, batch: Batch, fields: dict[str, FieldType]) -> Batch:
        """With mixup or CutMix, images of two samples, and `category` as (B, num_classes) shares of the classes."""
        category = fields["category"]
        assert isinstance(category, ClassLabel)
        mixing = batch_mixing(self.mixup, self.cutmix, len(category.names))
        if mixing is None:
            return batch
        image, shares = mixing(batch["image"], batch["category"])
        return {**batch, "image": image, "category": shares}


def batch_mixing(mixup: float, cutmix: float, classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """Mixup or CutMix of a batch of images and classes, or one of both at random; None if both are off.

    Their random numbers are those of torch, which the step seeds.
    """
    kinds = [
        kind(alpha=alpha, num_classes=classes) for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha
    ]
    return v2.RandomChoice(kinds) if kinds else None


class ClassificationInference(CropInference):
    """Test crops, averaged as probabilities."""

    def network(self, model: Network, mode: str) -> Network:
        """The network with a softmax, so that crops are averaged as probabilities; convolutional for dense modes."""
        assert isinstance(model, Classifier)
        return Probabilities(model, dense=mode in DENSE_CROPS)
