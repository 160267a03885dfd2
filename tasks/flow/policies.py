"""Augmentation and inference of optical flow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ...datasets.core.augmentation import (
    Augmentation,
    apply_transform,
    color_jitter_transform,
    gaussian_noise_transform,
)
from ...datasets.core.geometry import Size
from ...datasets.dataset import Sample
from ...datasets.field_types import FieldType
from ..policies import AugmentationPolicy, InferencePolicy

SECOND_COLOR = 0.2
"""Strength of the second image's own color augmentation, as a share of the one that both images have in common."""
MAX_NOISE_STD = 0.04
"""Standard deviation of the noise at full strength, for values in [0, 1]: Dosovitskiy et al. 2015, section 4.2."""


@dataclass(frozen=True)
class FlowAugmentation(AugmentationPolicy):
    """Augmentation of two images.

    Attributes:
        relative_motion: strength of the small motion that is added between the two images, 0 to 1.
    """

    relative_motion: float

    def limits(self, augmentation: Augmentation, fields: dict[str, FieldType], source: Size) -> Augmentation:
        return replace(augmentation, relative_motion=self.relative_motion)

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        """Color augmentation common to both images, a weaker one of the second image alone, and noise of each image."""
        if rng is None or color_jitter == 0:
            return sample
        first, second = apply_transform([sample["first"], sample["second"]], rng, color_jitter_transform(color_jitter))
        (second,) = apply_transform([second], rng, color_jitter_transform(SECOND_COLOR * color_jitter))
        (first,), (second,) = (
            apply_transform([image], rng, gaussian_noise_transform(MAX_NOISE_STD * color_jitter))
            for image in (first, second)
        )
        return {**sample, "first": first, "second": second}


class FlowInference(InferencePolicy):
    """Flow, whose x component changes its sign in a mirror."""

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        return output.flip(-1) * output.new_tensor([-1.0, 1.0])[:, None, None]
