"""The contract of a data set: what it stores, in its own units, by its official lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from ..errors import UserError
from .fields import Image, Kind
from .geometry import Geometry, Size
from .problems import DamagedData, Problem

Sample = dict[str, np.ndarray]
"""A field's name to its value. Invalid values are nan; batches carry zero and a mask."""


class Dataset(ABC):
    """Samples by index. One official set, one file.

    Attributes:
        title: the set's name as people write it.
        terms: what its licence allows, in a few words; "research-only" where that is so. A file `terms.txt` in the root
            speaks for the files beside it; checkpoints carry what it says.
        splits: the names of its splits, the training split first.
        unbounded: a world whose training split never repeats; `len` is then not meaningful for training.
        fields: every field a sample holds, with its kind.
    """

    title: ClassVar[str]
    terms: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    unbounded: bool = False
    fields: dict[str, Kind]

    def __init__(self, root: str | Path, split: str = "train") -> None:
        self.root = Path(root)
        self.split = split
        stated = self.root / "terms.txt"
        if root and stated.is_file():
            self.terms = " ".join(stated.read_text(encoding="utf-8").split())  # type: ignore[misc]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Sample:
        """One sample in the set's own units.

        Raises:
            DamagedData: a file is missing, cut short, or not what the layout says; the sentence names it.
        """

    def read_for(self, index: int, draw: Callable[[Size], Geometry]) -> tuple[Sample, Geometry]:
        """A sample, and the geometry that `draw` gives for the (height, width) of its first picture.

        Sets of encoded pictures read them smaller where the geometry makes them small anyway; what is returned is the
        geometry for what was read.
        """
        sample = self.read(index)
        picture = next(name for name, kind in self.fields.items() if isinstance(kind, Image))
        return sample, draw((sample[picture].shape[-3], sample[picture].shape[-2]))

    def label(self, index: int) -> str:
        """What to call a sample in messages and lists: its file relative to the root, or its number."""
        return f"{self.split}/{index}"

    def at(self, size: Size) -> Dataset:
        """The set at about this (height, width), where it can make its samples at any size. Stored sets cannot."""
        return self

    @classmethod
    @abstractmethod
    def check(cls, root: str | Path) -> list[Problem]:
        """Every problem of a folder, in one pass; an empty list is a sound set."""

    @classmethod
    @abstractmethod
    def write_miniature(cls, root: str | Path) -> None:
        """Write a tiny set in the official layout, in which `check` finds nothing wrong."""


def problems_of(dataset_class: type[Dataset], root: str | Path) -> list[Problem]:
    """Open every split and read every sample, gathering what is wrong instead of stopping at the first.

    Most sets' `check` is this function: it holds whatever `read` refuses, and what the kinds of the fields say of
    the values that were read.
    """
    problems: dict[Problem, None] = {}
    for split in dataset_class.splits:
        try:
            dataset = dataset_class(root, split)
        except DamagedData as damaged:
            problems.update(dict.fromkeys(damaged.problems))
            if damaged.opened is None:
                continue
            dataset = damaged.opened
        for index in range(len(dataset)):
            try:
                sample = dataset.read(index)
            except DamagedData as damaged:
                problems.update(dict.fromkeys(damaged.problems))
                continue
            for problem in wrong_values(dataset, index, sample):
                problems[problem] = None
    return list(problems)


def wrong_values(dataset: Dataset, index: int, sample: Sample) -> list[Problem]:
    """What the kinds of its fields find wrong with one sample, and fields that are missing."""
    problems = []
    for name, kind in dataset.fields.items():
        where = f"{dataset.label(index)} ({name})"
        if name not in sample:
            problems.append(Problem(where, "a value", "none"))
        elif (wrong := kind.check(sample[name])) is not None:
            problems.append(Problem(where, *wrong))
    return problems


class World(Dataset):
    """Samples that are drawn, not stored: a pure function of (seed, epoch 0, index, purpose).

    The training split is a stream whose index is the running sample number; the test split is finite and uses
    another purpose word, so the two never meet.
    """

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    terms: ClassVar[str] = "made by this package's code (Apache-2.0)"
    default_size: ClassVar[Size] = (96, 128)
    test_samples: ClassVar[int] = 200
    # Whether drawing takes long beside training, so that the cores are shared between the two.
    costly: ClassVar[bool] = True

    def __init__(
        self, root: str | Path | None = None, split: str = "train", size: Size | None = None, seed: int = 0
    ) -> None:
        if split not in self.splits:
            raise UserError(f"The world has the splits {' and '.join(self.splits)}, not '{split}'.")
        super().__init__(root or "", split)
        # `self.root` is a path in any case: a world without a folder is not one over the files that lie here.
        self._given = root
        self.size, self.seed = size or self.default_size, seed
        self.unbounded = split == "train"

    def __len__(self) -> int:
        return 2**31 if self.unbounded else self.test_samples

    def at(self, size: Size) -> Self:
        return type(self)(self._given, self.split, size, self.seed)

    def read(self, index: int) -> Sample:
        from .randomness import Purpose, generator

        purpose = Purpose.TRAINING_WORLD if self.unbounded else Purpose.TEST_WORLD
        return self.draw(generator(self.seed, 0, index, purpose), self.size)

    @abstractmethod
    def draw(self, rng: np.random.Generator, size: Size) -> Sample:
        """One sample of the world, from this generator alone."""

    @classmethod
    def check(cls, root: str | Path) -> list[Problem]:
        world = cls(root, "test")
        return [problem for index in range(8) for problem in wrong_values(world, index, world.read(index))]

    @classmethod
    def write_miniature(cls, root: str | Path) -> None:
        raise UserError("A world is drawn, not stored: use it by its name alone, without a folder.")


__all__ = ["DamagedData", "Dataset", "Problem", "Sample", "World", "problems_of", "wrong_values"]
