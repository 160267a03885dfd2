"""Conformance checks of a dataset class, for tests of loaders: `check_dataset(MyDataset)`."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np

from .core.augmentation import Augmentation, sample_geometry
from .core.problems import DatasetError
from .core.randomness import Purpose, generator
from .dataset import Dataset, Sample, SyntheticDataset, map_sizes
from .field_types import collate, transform_sample
from .shards import Shards, write_shards

SYNTHETIC_SIZE = (48, 64)
BATCH_SIZE = (40, 56)


def check_dataset(dataset_class: type[Dataset]) -> None:
    """Check the contract of `Dataset` on the example of the class, or on a few samples of a synthetic dataset.

    Raises:
        AssertionError: the contract is violated; the message says how.
    """
    assert dataset_class.title and dataset_class.terms, "A dataset needs a title and terms."
    assert dataset_class.splits, "A dataset needs at least one split."
    if issubclass(dataset_class, SyntheticDataset):
        _check_synthetic(dataset_class)
        return
    with tempfile.TemporaryDirectory() as root:
        dataset_class.write_example(root)
        problems = dataset_class.validate(root)
        assert not problems, f"validate() reports a problem of the example: {problems[0]}"
        split_of: dict[str, str] = {}
        for split in dataset_class.splits:
            dataset = dataset_class(root, split)
            assert len(dataset) > 0, f"The split '{split}' of the example is empty."
            for index in range(len(dataset)):
                name = dataset.sample_name(index)
                assert name not in split_of, f"The sample '{name}' is in the splits '{split_of[name]}' and '{split}'."
                split_of[name] = split
            check_samples(dataset, list(range(min(len(dataset), 3))))
            _check_shards(dataset)
        _check_damaged_file(dataset_class, Path(root))


def check_samples(dataset: Dataset, indices: list[int]) -> None:
    """Check the contract of single samples, and of a batch of them.

    Args:
        dataset: an open dataset.
        indices: samples to read.

    Raises:
        AssertionError: the contract is violated.
    """
    samples = [dataset.read(index) for index in indices]
    for index, sample in zip(indices, samples, strict=True):
        where = f"Sample {index} ({dataset.sample_name(index)})"
        assert sample.keys() == dataset.fields.keys(), f"{where} has {list(sample)}, but fields {list(dataset.fields)}."
        for name, field_type in dataset.fields.items():
            mismatch = field_type.check(sample[name])
            assert mismatch is None, f"{where}, field '{name}': expected {mismatch[0]}, found {mismatch[1]}."
        sizes = map_sizes(sample, dataset.fields)
        for frame in {frame for frame, _ in sizes.values()}:
            frame_sizes = {name: size for name, (field_frame, size) in sizes.items() if field_frame == frame}
            assert len(set(frame_sizes.values())) == 1, f"{where}: fields of one frame differ in size, {frame_sizes}."
    copy: Dataset = pickle.loads(pickle.dumps(dataset))
    for index, sample in zip(indices, samples, strict=True):
        expected = {name: value.copy() for name, value in sample.items()}
        for value in sample.values():
            if value.flags.writeable:
                value[...] = 0
        _require_equal(expected, dataset.read(index), f"Reading sample {index} a second time")
        _require_equal(expected, copy.read(index), f"Reading sample {index} after pickling")
    _check_batch(dataset, [dataset.read(index) for index in indices])


def _check_batch(dataset: Dataset, samples: list[Sample]) -> None:
    transformed = []
    for index, sample in enumerate(samples):
        sizes = map_sizes(sample, dataset.fields)
        source = next(iter(sizes.values()))[1] if sizes else BATCH_SIZE
        rng = generator(0, 0, index, Purpose.GEOMETRY)
        geometry = sample_geometry(rng, source, BATCH_SIZE, Augmentation(hflip=0.5, max_rotation=5, max_zoom=1.2))
        transformed.append(transform_sample(sample, dataset.fields, geometry))
        for name, (_, size) in map_sizes(transformed[-1], dataset.fields).items():
            assert size == BATCH_SIZE, f"Field '{name}' has the size {size} after a geometry to {BATCH_SIZE}."
    for name, tensor in collate(transformed, dataset.fields).items():
        assert tensor.shape[0] == len(samples), f"The batch of '{name}' has {tensor.shape[0]} entries."
        assert not tensor.is_floating_point() or bool(tensor.isfinite().all()), f"The batch of '{name}' is not finite."


def _check_shards(dataset: Dataset, samples: int | None = None) -> None:
    """Check that samples are the same to the bit when they are read from shards."""
    with tempfile.TemporaryDirectory() as root:
        write_shards(dataset, root, 2, samples)
        shards = Shards(root, dataset.split)
        assert shards.fields == dataset.fields, "Shards have other fields."
        for index in range(len(shards)):
            assert shards.sample_name(index) == dataset.sample_name(index), "Shards have other names."
            _require_equal(dataset.read(index), shards.read(index), f"Storing sample {index} in a shard")


def _check_damaged_file(dataset_class: type[Dataset], root: Path) -> None:
    largest = max((file for file in root.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = largest.read_bytes()
    for damage in ("truncated", "empty", "missing"):
        if damage == "missing":
            largest.unlink()
        else:
            largest.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
        try:
            problems = dataset_class.validate(root)
        except Exception as error:
            raise AssertionError(f"validate() raises {error!r} when {largest.name} is {damage}.") from error
        reported = any(largest.stem in problem.file for problem in problems)
        assert reported, f"validate() does not report {largest.name}, which is {damage}; found {problems or 'nothing'}."
    try:
        for split in dataset_class.splits:
            dataset = dataset_class(root, split)
            for index in range(len(dataset)):
                dataset.read(index)
    except DatasetError as error:
        pickled = pickle.loads(pickle.dumps(error))
        assert str(pickled) == str(error), "Pickling changes the message of a DatasetError."
    else:
        raise AssertionError(f"No sample fails to read although {largest.name} is missing.")


def _check_synthetic(dataset_class: type[SyntheticDataset]) -> None:
    training, test = (dataset_class(None, split, SYNTHETIC_SIZE, seed=1) for split in ("train", "test"))
    assert training.infinite and not test.infinite, "The training split must be infinite, the test split finite."
    assert len(test) > 0, "A synthetic dataset needs test samples."
    for dataset in (training, test):
        check_samples(dataset, [0, 1, len(dataset) - 1])
        for name, (_, size) in map_sizes(dataset.read(0), dataset.fields).items():
            assert size == SYNTHETIC_SIZE, f"Field '{name}' has the size {size} instead of {SYNTHETIC_SIZE}."
    _check_shards(test, 2)
    others = {
        "another index": training.read(1),
        "the test split": test.read(0),
        "another seed": dataset_class(None, "train", SYNTHETIC_SIZE, seed=2).read(0),
    }
    first = training.read(0)
    for source, other in others.items():
        equal = all(np.array_equal(first[name], other[name], equal_nan=True) for name in first)
        assert not equal, f"The first training sample and that of {source} are equal."
    problems = dataset_class.validate("")
    assert not problems, f"validate() reports a problem: {problems[0]}"


def _require_equal(expected: Sample, actual: Sample, action: str) -> None:
    for name, value in expected.items():
        same = actual[name].dtype == value.dtype and np.array_equal(
            actual[name], value, equal_nan=value.dtype.kind in "fc"
        )
        assert same, f"{action} changes the field '{name}'."
