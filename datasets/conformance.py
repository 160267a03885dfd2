"""The contract of a data set as checks, for our tests and for anyone who writes a loader: `check_dataset(Mine)`."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np

from .augmentation import Augmentation, sample_geometry
from .dataset import Dataset, Sample, World
from .fields import Depth, Flow, Image, Kind, Labels, Mask, collate, move_sample
from .geometry import Size
from .problems import DamagedData
from .randomness import Purpose, generator

WORLD_SIZE = (48, 64)
BATCH_SIZE = (40, 56)


def check_dataset(dataset_class: type[Dataset]) -> None:
    """Try everything that the contract promises, on the class's own miniature or, of a world, on a few samples.

    Raises:
        AssertionError: a promise is not kept; the sentence says which.
    """
    assert dataset_class.title and dataset_class.terms, "A data set states its title and its terms."
    assert dataset_class.splits, "A data set has at least one split."
    if issubclass(dataset_class, World):
        _check_world(dataset_class)
        return
    with tempfile.TemporaryDirectory() as root:
        dataset_class.write_miniature(root)
        problems = dataset_class.check(root)
        assert not problems, f"check() finds fault with the class's own miniature: {problems[0]}"
        labels: dict[str, str] = {}
        for split in dataset_class.splits:
            dataset = dataset_class(root, split)
            assert len(dataset) > 0, f"The split '{split}' of the miniature is empty."
            for index in range(len(dataset)):
                label = dataset.label(index)
                assert label not in labels, f"'{label}' occurs in '{labels[label]}' and again in '{split}'."
                labels[label] = split
            check_samples(dataset, list(range(min(len(dataset), 3))))
        _check_damage(dataset_class, Path(root))


def check_samples(dataset: Dataset, indices: list[int]) -> None:
    """The promises about single samples of an opened data set.

    Args:
        dataset: the opened data set.
        indices: which samples to read.

    Raises:
        AssertionError: a promise is not kept.
    """
    samples = [dataset.read(index) for index in indices]
    for index, sample in zip(indices, samples, strict=True):
        where = f"Sample {index} ({dataset.label(index)})"
        assert sample.keys() == dataset.fields.keys(), f"{where} has {list(sample)}, but fields {list(dataset.fields)}."
        for name, kind in dataset.fields.items():
            wrong = kind.check(sample[name])
            assert wrong is None, f"{where}, field '{name}': expected {wrong[0]}, found {wrong[1]}."
        sizes = _sizes(sample, dataset.fields)
        for frame in {frame for frame, _ in sizes.values()}:
            alike = {name: size for name, (of_frame, size) in sizes.items() if of_frame == frame}
            assert len(set(alike.values())) == 1, f"{where}: the fields of one frame differ in size, {alike}."
    copy: Dataset = pickle.loads(pickle.dumps(dataset))
    for index, sample in zip(indices, samples, strict=True):
        kept = {name: value.copy() for name, value in sample.items()}
        for value in sample.values():
            if value.flags.writeable:
                value[...] = 0
        _require_equal(kept, dataset.read(index), f"Reading sample {index} a second time")
        _require_equal(kept, copy.read(index), f"Reading sample {index} after pickling")
    _check_batch(dataset, [dataset.read(index) for index in indices])


def _check_batch(dataset: Dataset, samples: list[Sample]) -> None:
    moved = []
    for index, sample in enumerate(samples):
        sizes = _sizes(sample, dataset.fields)
        source = next(iter(sizes.values()))[1] if sizes else BATCH_SIZE
        rng = generator(0, 0, index, Purpose.GEOMETRY)
        geometry = sample_geometry(rng, source, BATCH_SIZE, Augmentation(flip=0.5, rotate=5, zoom=1.2))
        moved.append(move_sample(sample, dataset.fields, geometry))
        for name, (_, size) in _sizes(moved[-1], dataset.fields).items():
            assert size == BATCH_SIZE, f"Field '{name}' is {size} after a geometry to {BATCH_SIZE}."
    for name, tensor in collate(moved, dataset.fields).items():
        assert tensor.shape[0] == len(samples), f"The batch of '{name}' has {tensor.shape[0]} entries."
        assert not tensor.is_floating_point() or bool(tensor.isfinite().all()), f"The batch of '{name}' is not finite."


def _check_damage(dataset_class: type[Dataset], root: Path) -> None:
    largest = max((file for file in root.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    whole = largest.read_bytes()
    for what in ("cut off", "empty", "missing"):
        if what == "missing":
            largest.unlink()
        else:
            largest.write_bytes(whole[: len(whole) // 2] if what == "cut off" else b"")
        try:
            problems = dataset_class.check(root)
        except Exception as error:
            raise AssertionError(f"check() raises {error!r} where {largest.name} is {what}.") from error
        named = any(largest.stem in problem.file for problem in problems)
        assert named, f"check() does not name {largest.name}, which is {what}; it finds {problems or 'nothing'}."
    try:
        for split in dataset_class.splits:
            dataset = dataset_class(root, split)
            for index in range(len(dataset)):
                dataset.read(index)
    except DamagedData as damaged:
        pickled = pickle.loads(pickle.dumps(damaged))
        assert str(pickled) == str(damaged), "The sentence about a damaged file does not survive pickling."
    else:
        raise AssertionError(f"Every sample reads although {largest.name} is missing.")


def _check_world(world_class: type[World]) -> None:
    training, test = (world_class(None, split, WORLD_SIZE, seed=1) for split in ("train", "test"))
    assert training.unbounded and not test.unbounded, "A world's training split is a stream, its test split is finite."
    assert len(test) > 0, "A world has test samples."
    for world in (training, test):
        check_samples(world, [0, 1, len(world) - 1])
        for name, (_, size) in _sizes(world.read(0), world.fields).items():
            assert size == WORLD_SIZE, f"Field '{name}' of a world at {WORLD_SIZE} is {size}."
    others = {
        "another index": training.read(1),
        "the test split": test.read(0),
        "another seed": world_class(None, "train", WORLD_SIZE, seed=2).read(0),
    }
    first = training.read(0)
    for what, other in others.items():
        alike = all(np.array_equal(first[name], other[name], equal_nan=True) for name in first)
        assert not alike, f"The first training sample and that of {what} are the same."
    problems = world_class.check("")
    assert not problems, f"check() finds fault with the world: {problems[0]}"


def _sizes(sample: Sample, fields: dict[str, Kind]) -> dict[str, tuple[int, Size]]:
    """The frame and the (height, width) of every field that has a value per pixel."""
    sizes = {}
    for name, kind in fields.items():
        if isinstance(kind, (Image, Depth, Flow, Labels, Mask)):
            height, width = sample[name].shape[sample[name].ndim - kind.rank :][:2]
            sizes[name] = (kind.frame, (height, width))
    return sizes


def _require_equal(expected: Sample, found: Sample, what: str) -> None:
    for name, value in expected.items():
        same = found[name].dtype == value.dtype and np.array_equal(
            found[name], value, equal_nan=value.dtype.kind in "fc"
        )
        assert same, f"{what} changes the field '{name}'."
