"""Mixtures: several datasets as one, and samples that training sees more often than others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from ..errors import UserError
from . import DATASETS, open_dataset
from .core.geometry import Geometry, Size
from .core.problems import Problem
from .core.randomness import Purpose, generator
from .dataset import Dataset, Sample
from .field_types import FieldType

PARTS = " + "
"""Between the titles, and the names, of a mixture's datasets."""


def mix(
    datasets: Sequence[Dataset | str],
    weights: Sequence[float] | None = None,
    *,
    sample_weights: Sequence[float] | np.ndarray | None = None,
) -> Mixture:
    """Mix datasets of the same fields into one for `train`.

    >>> train("depth", data=mix([indoor, outdoor], [3, 1]), eval_data=indoor_test)  # doctest: +SKIP

    Args:
        datasets: datasets, or names of those that need no folder. At least one.
        weights: share of each dataset in the training, in any unit: [3, 1] takes three samples of the first for one
            of the second, whatever their lengths. None: every sample once an epoch. Required if one of the datasets is
            infinite (the training split of a synthetic one).
        sample_weights: share of each sample, for a weighted sampler: as many as all datasets have together, instead of
            `weights`. Samples of weight 2 are drawn twice as often as those of weight 1.

    Raises:
        UserError: another number of weights, weights that are no shares, or datasets of different fields.
    """
    opened = [open_dataset(dataset) if isinstance(dataset, str) else dataset for dataset in datasets]
    for number, dataset in enumerate(opened):
        if not isinstance(dataset, Dataset):
            raise UserError(
                f"mix: dataset {number} is a {type(dataset).__name__}; give a Dataset, a name, or "
                "densevision.datasets.samples.Samples(samples, fields) of yours."
            )
    if not opened:
        raise UserError("mix: there is no dataset to mix; give at least one.")
    if weights is not None and sample_weights is not None:
        raise UserError("mix: weights of datasets and sample_weights are two ways to say the same thing: give one.")
    if weights is not None:
        weights = _shares("weights", weights, len(opened), "datasets").tolist()
    mixture = Mixture(opened, weights)
    if sample_weights is not None:
        if mixture.infinite:
            raise UserError("mix: an infinite dataset has no list of samples: give weights of datasets instead.")
        mixture.sample_weights = _shares("sample_weights", sample_weights, len(mixture), "samples")
    return mixture


class Mixture(Dataset):
    """Several datasets as one; see `mix`.

    Finite ones follow each other. With an infinite one, the mixture is infinite: sample n is one of a dataset that is
    drawn by the weights, from n alone.
    """

    def __init__(self, datasets: Sequence[Dataset], weights: Sequence[float] | np.ndarray | None = None) -> None:
        super().__init__(split=datasets[0].split)
        self.datasets: list[Dataset] = list(datasets)
        self.weights: np.ndarray | None = None if weights is None else np.asarray(weights, np.float64)
        self.title: str = PARTS.join(dict.fromkeys(dataset.title for dataset in datasets))  # type: ignore[misc]
        self.terms: str = "; ".join(dict.fromkeys(dataset.terms for dataset in datasets))  # type: ignore[misc]
        self.splits: tuple[str, ...] = datasets[0].splits  # type: ignore[misc]
        self.default_protocol: str = datasets[0].default_protocol  # type: ignore[misc]
        self.skipped: list[Problem] = [problem for dataset in datasets for problem in dataset.skipped]
        self.fields: dict[str, FieldType] = _common_fields(datasets)
        self.infinite: bool = any(dataset.infinite for dataset in datasets)
        if self.infinite and weights is None:
            raise UserError(f"mix: {self.title} has an infinite dataset, so the shares must be stated: give weights.")
        lengths = [len(dataset) for dataset in datasets]
        self._starts = [0, *accumulate(lengths)]
        if self.weights is not None and not self.infinite:
            self.sample_weights = np.repeat(self.weights / np.maximum(lengths, 1), lengths)

    def __len__(self) -> int:
        return 2**31 if self.infinite else self._starts[-1]

    def _find(self, index: int) -> tuple[Dataset, int]:
        """The dataset of a sample, and its index there."""
        if not self.infinite:
            number = bisect_right(self._starts, index) - 1
            return self.datasets[number], index - self._starts[number]
        rng = generator(0, 0, index, Purpose.MIXTURE)
        dataset = self.datasets[int(rng.choice(len(self.datasets), p=self.weights))]
        return dataset, index if dataset.infinite else int(rng.integers(len(dataset)))

    def read(self, index: int) -> Sample:
        dataset, own = self._find(index)
        sample = dataset.read(own)
        return {name: sample[name] for name in self.fields if name in sample}

    def image_size(self, index: int) -> Size:
        dataset, own = self._find(index)
        return dataset.image_size(own)

    def read_transformed(self, index: int, geometry: Geometry, fields: dict[str, FieldType] | None = None) -> Sample:
        dataset, own = self._find(index)
        return dataset.read_transformed(own, geometry, fields or self.fields)

    def sample_name(self, index: int) -> str:
        dataset, own = self._find(index)
        return dataset.sample_name(own)

    def with_size(self, size: Size) -> Mixture:
        resized = Mixture([dataset.with_size(size) for dataset in self.datasets], self.weights)
        resized.sample_weights = self.sample_weights
        return resized


def registry_name(data: Dataset | str) -> str:
    """Registry name of a dataset, or of its class if it is not registered; of a mixture, the names of its parts."""
    if isinstance(data, str):
        return data
    if isinstance(data, Mixture):
        return PARTS.join(dict.fromkeys(map(registry_name, data.datasets)))
    path = f"{type(data).__module__}:{type(data).__name__}"
    return next((name for name, entry in DATASETS.items() if path.endswith(f".{entry}")), type(data).__name__)


def evaluated_name(name: str) -> str:
    """Of a mixture's name, the first part that is registered, on which its model is evaluated; else the name."""
    return next((part for part in name.split(PARTS) if part in DATASETS), name)


def _common_fields(datasets: Sequence[Dataset]) -> dict[str, FieldType]:
    """The fields that all datasets have, which must have the same types."""
    first, *others = datasets
    fields = {name: kind for name, kind in first.fields.items() if all(name in other.fields for other in others)}
    for name, kind in fields.items():
        for other in others:
            if other.fields[name] != kind:
                raise UserError(
                    f"mix: the field '{name}' is {kind} in {first.title} and {other.fields[name]} in {other.title}; "
                    "all datasets of a mixture must have the same classes, joints and channels."
                )
    if not fields:
        raise UserError(f"mix: {first.title} and {others[0].title} have no field in common.")
    return fields


def _shares(name: str, values: Sequence[float] | np.ndarray, count: int, what: str) -> np.ndarray:
    """Shares with sum 1."""
    try:
        shares = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        shares = np.empty(0)
    if shares.shape != (count,):
        raise UserError(
            f"mix: {name} must be {count} numbers, one for each of the {count} {what}; found {values!r:.60}."
        )
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise UserError(f"mix: {name} must be finite, at least 0, and not all 0; found {values!r:.60}.")
    return shares / shares.sum()
