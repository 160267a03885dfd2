"""Base classes of datasets: `Dataset` (stored) and `SyntheticDataset` (generated)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ..errors import UserError
from .core.files import name_table, read_bytes, read_lines
from .core.geometry import Geometry, Size
from .core.problems import DatasetError, Problem
from .core.randomness import Purpose, generator
from .field_types import FieldType, transform_sample

Sample = dict[str, np.ndarray]
"""Field name to value. Invalid values are nan; batches contain 0 there, and a mask."""


class Dataset(ABC):
    """Samples by index, in the units of the dataset. One official dataset per module.

    A dataset of one's own needs `fields`, `__len__` and `read`, nothing else. It is a dataset of PyTorch too: a
    `DataLoader` takes it as it is.

    Attributes:
        title: name of the dataset as publications write it; that of the class, if it is not stated.
        terms: license in a few words, "research-only" where it excludes commercial use. The text of a file `terms.txt`
            in the root replaces it. Checkpoints store the terms of their training data.
        splits: names of the splits, the training split first.
        photos: whether the images are photos of usual size, which decides the default recipe.
        default_protocol: evaluation protocol under which papers report on the dataset; "" or a protocol that the task
            at hand lacks: the task's first one.
        remote: whether the root may be an address (`s3://bucket/data`).
        infinite: whether samples never repeat (training split of a synthetic dataset); `len` is then not meaningful.
        fields: field name to field type, for every field of a sample.
        sample_weights: (len,) share of each sample in the training, in any unit; None: each once an epoch. See `mix`.
        shards: (len,) number of the shard of each sample, if they are fetched in shards: training goes through these
            one by one; None: they are not.
        skipped: what the loader passed over or repaired; a validation lists it, and training states how many there are.
    """

    title: ClassVar[str] = ""
    terms: ClassVar[str] = "not stated"
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    photos: ClassVar[bool] = True
    default_protocol: ClassVar[str] = ""
    remote: ClassVar[bool] = False
    infinite: bool = False
    fields: dict[str, FieldType]
    sample_weights: np.ndarray | None = None
    shards: np.ndarray | None = None
    root: Path
    split: str
    skipped: list[Problem]

    _kept: tuple[int, Any] = (-1, None)
    """(index, the sample as far as `image_size` has read it): `read_transformed` follows, and reads no file again."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        # What a subclass without super().__init__ has too.
        dataset = super().__new__(cls)
        dataset.root, dataset.split, dataset.skipped = Path(), "train", []
        dataset.title = cls.title or cls.__name__  # type: ignore[misc]
        return dataset

    def __init__(self, root: str | Path = "", split: str = "train") -> None:
        self.root = Path(root)
        self.split = split
        terms_file = self.root / "terms.txt"
        if root and terms_file.is_file():
            self.terms = " ".join(" ".join(read_lines(terms_file, "a license as text")).split())  # type: ignore[misc]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Read one sample, in the units of the dataset.

        Raises:
            DatasetError: a file is missing, truncated, or not as the layout requires; the message names it.
        """

    def __getitem__(self, index: int) -> Sample:
        """`read`, for iteration and for a `DataLoader`; negative indices count from the end."""
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"{self.title} has {length} samples; there is no {index}")
        return self.read(int(index) % length)

    def image_size(self, index: int) -> Size:
        """(height, width) of the first field of a sample with a value per pixel, before any geometry."""
        sample = self.read(index)
        self._kept = index, sample
        return next(size for _, size in map_sizes(sample, self.fields).values())

    def read_transformed(self, index: int, geometry: Geometry, fields: dict[str, FieldType] | None = None) -> Sample:
        """Read one sample and apply a geometry to it.

        Datasets of encoded images decode them at a reduced size if the geometry shrinks them anyway. After `image_size`
        of the same sample, no file is read again.

        Args:
            index: the sample.
            geometry: from pixels of the stored sample, of the size that `image_size` returns.
            fields: the fields that are needed; None: all.
        """
        (number, sample), self._kept = self._kept, (-1, None)
        return transform_sample(sample if number == index else self.read(index), fields or self.fields, geometry)

    def sample_name(self, index: int) -> str:
        """Name of a sample in messages and lists: its file relative to the root, or its number."""
        return f"{self.split}/{index}"

    def spread(self, count: int) -> list[int]:
        """At most `count` indices, spread evenly over a dataset, which may be sorted; of an infinite one, the first."""
        count = min(count, len(self))
        stride = 1 if self.infinite else max(1, len(self) // max(1, count))
        return [number * stride for number in range(count)]

    def with_size(self, size: Size) -> Dataset:
        """Return the dataset with samples of about this (height, width); a stored dataset returns itself."""
        return self

    def with_cache(self, folder: Path) -> Dataset:
        """Return the dataset with copies of its shards in a folder.

        Raises:
            UserError: it has none.
        """
        raise UserError(f"{self.title} is not in shards: leave out --cache, or see densevision data shard.")

    def encoded_images(self, index: int) -> list[bytes]:
        """Image files of a sample as they are stored, as far as they are known: copies need not encode again."""
        return []

    @classmethod
    def splits_in(cls, root: str | Path | None) -> tuple[str, ...]:
        """Names of the splits of a folder: those of the class, if they are not stored."""
        return cls.splits

    @classmethod
    def validate(cls, root: str | Path) -> list[Problem]:
        """List every problem of a folder in one pass; empty if the dataset is valid.

        All samples of all splits are read: a problem is what the constructor or `read` refuses, a value that a field
        type rejects, and what the loader skipped.
        """
        problems: dict[Problem, None] = {}
        try:
            splits = cls.splits_in(root)
        except DatasetError as error:
            return list(error.problems)
        for split in splits:
            try:
                dataset = cls(root, split)
            except DatasetError as error:
                problems.update(dict.fromkeys(error.problems))
                if error.dataset is None:
                    continue
                dataset = error.dataset
            problems.update(dict.fromkeys(dataset.skipped))
            for index in range(len(dataset)):
                try:
                    found = invalid_values(dataset, index, dataset.read(index))
                except DatasetError as error:
                    found = error.problems
                problems.update(dict.fromkeys(found))
        return list(problems)

    @classmethod
    def write_example(cls, root: str | Path) -> None:
        """Write a tiny dataset in the official layout; `validate` finds no problem in it.

        Every stored dataset of the package implements it (`conformance.check_dataset`).

        Raises:
            UserError: the dataset has no files of its own.
        """
        raise UserError(f"'{cls.__name__}' has no example: it is generated or your own class, not an official layout.")


class FirstSamples(Dataset):
    """The first samples of another dataset, which has at least so many or is infinite."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        super().__init__(dataset.root, dataset.split)
        self.dataset, self.count, self.fields = dataset, count, dataset.fields

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Sample:
        return self.dataset.read(index)


class FileDataset(Dataset):
    """Samples in files, which are listed when the dataset is opened."""

    _files: np.ndarray
    """(N, K) bytes, since str arrays of numpy take four bytes per character: 40 MB per worker for 40,302 pairs."""

    def set_files(self, rows: Sequence[Sequence[str]], problems: Sequence[Problem] = ()) -> None:
        """Set the files of every sample: names relative to the root, with forward slashes.

        A file may be missing, so that reading it reports that.

        Raises:
            DatasetError: there are problems; its `dataset` can be read all the same, unless a name leads out of `root`.
        """
        columns = [name_table(self.root, column) for column in zip(*rows, strict=True)]
        self._files = np.stack(columns, axis=1) if columns else np.empty((0, 0), np.bytes_)
        if problems:
            raise DatasetError.from_problems(problems, dataset=self)

    def files(self, index: int) -> tuple[str, ...]:
        """Names of the files of a sample."""
        return tuple(name.decode() for name in self._files[index])

    def __len__(self) -> int:
        return len(self._files)

    def sample_name(self, index: int) -> str:
        return self.files(index)[0]

    def encoded_images(self, index: int) -> list[bytes]:
        # A PNG is written again at no loss.
        names = [name for name in self.files(index) if name.lower().endswith((".jpg", ".jpeg"))]
        return [read_bytes(self.root / name, "an image") for name in names]


def map_sizes(sample: Sample, fields: dict[str, FieldType]) -> dict[str, tuple[int, Size]]:
    """Frame and (height, width) of every field of a sample with a value per pixel, in the order of `fields`."""
    sizes = {}
    for name, field_type in fields.items():
        if field_type.input_channels:
            height, width = sample[name].shape[sample[name].ndim - field_type.rank :][:2]
            sizes[name] = (field_type.frame, (height, width))
    return sizes


def invalid_values(dataset: Dataset, index: int, sample: Sample) -> list[Problem]:
    """List the fields of a sample that are missing or that their field type rejects."""
    problems = []
    for name, field_type in dataset.fields.items():
        where = f"{dataset.sample_name(index)} ({name})"
        if name not in sample:
            problems.append(Problem(where, "a value", "none"))
        elif (mismatch := field_type.check(sample[name])) is not None:
            problems.append(Problem(where, *mismatch))
    return problems


class SyntheticDataset(Dataset):
    """Generated samples: each is a pure function of (seed, epoch 0, index, purpose).

    The training split is an endless stream; its index is the running sample number. The test split is finite and uses
    another purpose, so the two never share a sample.

    Attributes:
        field_types: field name to field type; every instance has a copy as its `fields`.
        default_size: (height, width) of the samples if no size is stated.
        test_samples: length of the test split.
        cpu_heavy: whether generation is slow beside training, so that the cores are divided between the two.
    """

    field_types: ClassVar[dict[str, FieldType]] = {}
    photos: ClassVar[bool] = False
    terms: ClassVar[str] = "made by this package's code (Apache-2.0)"
    default_size: ClassVar[Size] = (96, 128)
    test_samples: ClassVar[int] = 200
    cpu_heavy: ClassVar[bool] = True

    def __init__(
        self, root: str | Path | None = None, split: str = "train", size: Size | None = None, seed: int = 0
    ) -> None:
        if split not in self.splits:
            raise UserError(f"A synthetic dataset has the splits {' and '.join(self.splits)}, not '{split}'.")
        super().__init__(root or "", split)
        # `self.root` is always a path; without a folder it must not stand for the files of the working directory.
        self._root_argument = root
        self.fields = dict(self.field_types)
        self.size, self.seed = size or self.default_size, seed
        self.infinite = split == "train"
        self._kept_samples = 0
        self._cache: dict[int, Sample] = {}

    def __len__(self) -> int:
        return 2**31 if self.infinite else self.test_samples

    def with_size(self, size: Size) -> Self:
        return type(self)(self._root_argument, self.split, size, self.seed)

    def keep_samples(self, count: int) -> None:
        """Keep that many recent samples in memory, for trainings that use each of them several times."""
        self._kept_samples = count
        if not count:
            self._cache.clear()

    def read(self, index: int) -> Sample:
        if index in self._cache:
            return dict(self._cache[index])
        sample = self.generate(self.random_stream(index), self.size)
        if self._kept_samples:
            for value in sample.values():
                # What changes a sample in place would change its later uses.
                value.flags.writeable = False
            self._cache[index] = dict(sample)
            if len(self._cache) > self._kept_samples:
                del self._cache[next(iter(self._cache))]
        return sample

    def random_stream(self, index: int) -> np.random.Generator:
        """The random generator of a sample."""
        purpose = Purpose.TRAINING_SYNTHESIS if self.infinite else Purpose.TEST_SYNTHESIS
        return generator(self.seed, 0, index, purpose)

    @abstractmethod
    def generate(self, rng: np.random.Generator, size: Size) -> Sample:
        """Generate one sample of this (height, width), from this random generator alone."""

    @classmethod
    def validate(cls, root: str | Path) -> list[Problem]:
        dataset = cls(root, "test")
        return [problem for index in range(8) for problem in invalid_values(dataset, index, dataset.read(index))]
