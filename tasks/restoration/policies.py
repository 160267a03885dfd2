"""Augmentation and evaluation of image restoration: degradations of clean images, random or reproducible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...datasets.core.augmentation import Augmentation
from ...datasets.core.geometry import Size
from ...datasets.core.randomness import Purpose, generator
from ...datasets.dataset import Dataset, Sample
from ...datasets.field_types import FieldType, Image
from ...datasets.rendering.weather import degrade
from ..policies import AugmentationPolicy, EvaluationPolicy

# Synthetic datasets generate their test images with epoch 0 of this purpose. Degradations of the training have another
# purpose, so that no degradation of the evaluation occurs in training.
EPOCH = 1


@dataclass(frozen=True)
class Degradation(AugmentationPolicy):
    """Random degradations of clean images. Colors are not augmented.

    Attributes:
        names: degradations, keys of `DEGRADATIONS`, and `NONE`.
    """

    names: tuple[str, ...]

    def limits(self, augmentation: Augmentation, fields: dict[str, FieldType], source: Size) -> Augmentation:
        """Crops of degraded images at their own resolution, unless options state a size or an area."""
        if "degraded" not in fields or augmentation.resize_short_side is not None or augmentation.crop_area is not None:
            return augmentation
        return replace(augmentation, resize_short_side=(min(source), min(source)))

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        """Degrade a clean crop at random; without `rng`, it stays clean."""
        if "degraded" in sample:
            return sample
        clean = sample["image"]
        return {"degraded": clean if rng is None else degrade(clean, rng, self.names), **sample}


@dataclass(frozen=True)
class DegradedEvaluation(EvaluationPolicy):
    """Clean images with reproducible degradations; a dataset of pairs is not changed.

    Attributes:
        names: degradations, keys of `DEGRADATIONS`, and `NONE`.
    """

    names: tuple[str, ...] = ()

    def dataset(self, dataset: Dataset) -> Dataset:
        return dataset if "degraded" in dataset.fields else DegradedDataset(dataset, self.names)


class DegradedDataset(Dataset):
    """A clean dataset with the additional field `degraded`, a function of the sample index at the size of the image.

    Args:
        clean: a dataset with a field `image`.
        names: degradations, keys of `DEGRADATIONS`, and `NONE`.
    """

    def __init__(self, clean: Dataset, names: Sequence[str]) -> None:
        super().__init__(clean.root, clean.split)
        self.clean, self.names = clean, tuple(names)
        self.title, self.terms, self.splits = clean.title, clean.terms, clean.splits  # type: ignore[misc]
        self.default_protocol = clean.default_protocol  # type: ignore[misc]
        self.infinite, self.skipped = clean.infinite, clean.skipped
        self.fields = {"degraded": Image(), **clean.fields}

    def __len__(self) -> int:
        return len(self.clean)

    def read(self, index: int) -> Sample:
        sample = self.clean.read(index)
        rng = generator(0, EPOCH, index, Purpose.TEST_SYNTHESIS)
        return {"degraded": degrade(Image().colorize(sample["image"]), rng, self.names), **sample}

    def sample_name(self, index: int) -> str:
        return self.clean.sample_name(index)

    def with_size(self, size: Size) -> Dataset:
        return DegradedDataset(self.clean.with_size(size), self.names)
