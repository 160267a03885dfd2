"""Clean pictures made dirty for scoring: the same dirt on the same picture, in every run and on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...datasets.dataset import Dataset, Problem, Sample
from ...datasets.fields import Image
from ...datasets.geometry import Size
from ...datasets.randomness import Purpose, generator
from ...datasets.worlds.weather import degrade

# Worlds draw their pictures in epoch 0 of this purpose. Training draws its dirt for another purpose, so that no mask
# on which a network is scored is one that it saw.
EPOCH = 1


class Examined(Dataset):
    """A clean set with the field `degraded`, drawn from the sample's number alone at the picture's own size.

    Args:
        clean: a set with a field `image`.
        names: of the degradations, keys of `DEGRADATIONS`.
    """

    def __init__(self, clean: Dataset, names: Sequence[str]) -> None:
        super().__init__(clean.root, clean.split)
        self.clean, self.names = clean, tuple(names)
        self.title, self.terms, self.splits = clean.title, clean.terms, clean.splits  # type: ignore[misc]
        self.unbounded = clean.unbounded
        self.fields = {"degraded": Image(), **clean.fields}

    def __len__(self) -> int:
        return len(self.clean)

    def read(self, index: int) -> Sample:
        sample = self.clean.read(index)
        rng = generator(0, EPOCH, index, Purpose.TEST_WORLD)
        return {"degraded": degrade(Image().draw(sample["image"]), rng, self.names), **sample}

    def label(self, index: int) -> str:
        return self.clean.label(index)

    def at(self, size: Size) -> Dataset:
        return Examined(self.clean.at(size), self.names)

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        raise NotImplementedError("it lies in no folder: check the clean set")

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        raise NotImplementedError("it lies in no folder: write the clean set's")
