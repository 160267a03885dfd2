"""DegradedDataset: clean images with reproducible degradations, for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...datasets.core.geometry import Size
from ...datasets.core.randomness import Purpose, generator
from ...datasets.dataset import Dataset, Problem, Sample
from ...datasets.field_types import Image
from ...datasets.rendering.weather import degrade

# Synthetic datasets generate their test images with epoch 0 of this purpose. Degradations of the training have another
# purpose, so that no degradation of the evaluation occurs in training.
EPOCH = 1


class DegradedDataset(Dataset):
    """A clean dataset with the additional field `degraded`, a function of the sample index at the size of the image.

    Args:
        clean: a dataset with a field `image`.
        names: degradations, keys of `DEGRADATIONS`.
    """

    def __init__(self, clean: Dataset, names: Sequence[str]) -> None:
        super().__init__(clean.root, clean.split)
        self.clean, self.names = clean, tuple(names)
        self.title, self.terms, self.splits = clean.title, clean.terms, clean.splits  # type: ignore[misc]
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

    @classmethod
    def validate(cls, root: str | Path) -> list[Problem]:
        raise NotImplementedError("a DegradedDataset has no folder: validate the clean dataset")

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        raise NotImplementedError("a DegradedDataset has no folder: write an example of the clean dataset")
