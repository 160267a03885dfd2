from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest

from densevision.datasets import open_dataset
from densevision.datasets.core.augmentation import Augmentation
from densevision.datasets.dataset import SyntheticDataset
from densevision.datasets.synthetic import SyntheticRooms, SyntheticShapes
from densevision.errors import UserError
from densevision.tasks import create_task, list_tasks
from densevision.tasks.depth import Depth
from densevision.tasks.training.data import REUSE_DISTANCE, AugmentedDataset, InfiniteBatchSampler, data_loader
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import resolve_options

from .toys import DamagedReliefs, Relief, Reliefs, difference, train_toy


def keys(sampler: InfiniteBatchSampler) -> list[tuple[int, int]]:
    return list(chain.from_iterable(sampler))


def augmented(dataset, seed: int = 0, color_jitter: float = 0.0) -> AugmentedDataset:
    return AugmentedDataset(
        dataset, Depth(), (16, 24), Augmentation(hflip=0.5, max_rotation=5.0, max_zoom=1.5), color_jitter, seed
    )


@pytest.mark.parametrize(("samples", "batch"), [(7, 2), (7, 3), (5, 8), (12, 4), (1, 3)])
def test_every_epoch_is_a_permutation_of_all_samples(samples, batch):
    # Batches are cut from one sequence of epochs, also across the end of an epoch.
    sequence = keys(InfiniteBatchSampler(samples, batch, range(-(-3 * samples // batch)), seed=3))
    assert all(len(part) == batch for part in InfiniteBatchSampler(samples, batch, range(5), seed=3))
    for epoch in range(3):
        part = sequence[epoch * samples : (epoch + 1) * samples]
        assert {number for number, _ in part} == {epoch}
        assert sorted(index for _, index in part) == list(range(samples))


def test_every_epoch_and_every_seed_has_its_own_order():
    sequence = [index for _, index in keys(InfiniteBatchSampler(40, 40, range(3), seed=0))]
    other = [index for _, index in keys(InfiniteBatchSampler(40, 40, range(1), seed=1))]
    orders = [sequence[:40], sequence[40:80], sequence[80:], other]
    assert all(a != b for number, a in enumerate(orders) for b in orders[:number])
    assert all(order != sorted(order) for order in orders)


@pytest.mark.parametrize("samples", [7, None])
def test_a_sampler_that_starts_later_gives_the_rest(samples):
    all_keys = list(InfiniteBatchSampler(samples, 3, range(20), seed=2))
    for start in (1, 5, 19):
        assert list(InfiniteBatchSampler(samples, 3, range(start, 20), seed=2)) == all_keys[start:]


def test_a_sampler_gives_the_same_keys_again_and_in_any_order():
    sampler = InfiniteBatchSampler(7, 3, range(9), seed=2)
    assert list(sampler) == list(sampler)
    assert sampler.keys(2) == list(sampler)[2] and sampler.keys(7) == list(sampler)[7]


@pytest.mark.parametrize("samples", [11, None])
def test_two_processes_get_the_samples_of_one_with_twice_the_batch(samples):
    one = InfiniteBatchSampler(samples, 6, range(8), seed=4)
    two = [InfiniteBatchSampler(samples, 3, range(rank, 16, 2), 4) for rank in (0, 1)]
    for batch, first, second in zip(one, *two, strict=True):
        assert batch == first + second


def test_an_infinite_stream_never_repeats():
    sequence = [key for rank in (0, 1) for key in keys(InfiniteBatchSampler(None, 5, range(rank, 400, 2), 0))]
    assert len(set(sequence)) == 2000 and {epoch for epoch, _ in sequence} == {0}


def test_a_sample_depends_on_its_key_alone():
    first, second = augmented(Reliefs()), augmented(Reliefs())
    expected = {key: first.sample(key) for key in [(0, 2), (1, 2), (0, 3)]}
    for key in reversed(list(expected)):
        for name, value in second.sample(key).items():
            np.testing.assert_array_equal(value, expected[key][name])
    assert (expected[0, 2]["image"] != expected[1, 2]["image"]).any(), "the augmentation differs between epochs"
    assert (expected[0, 2]["image"] != augmented(Reliefs(), seed=1).sample((0, 2))["image"]).any()


@pytest.mark.parametrize("color_jitter", [0.0, 1.0])
def test_workers_do_not_change_batches(color_jitter):
    batches = [
        list(
            data_loader(
                augmented(Reliefs(), color_jitter=color_jitter),
                InfiniteBatchSampler(7, 2, range(6), seed=1),
                workers,
                False,
            )
        )
        for workers in (0, 1, 2)
    ]
    assert len(batches[0]) == 6
    assert difference(batches[0], batches[1]) is None and difference(batches[0], batches[2]) is None


def test_synthetic_samples_have_the_training_size_and_differ():
    dataset = augmented(SyntheticRooms(size=(16, 24)))
    (batch,) = data_loader(dataset, InfiniteBatchSampler(None, 4, range(1), 0), 0, False)
    assert batch["image"].shape == (4, 3, 16, 24)
    assert len({batch["image"][number].numpy().tobytes() for number in range(4)}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_sample_stops_training_with_its_own_message(tmp_path, workers):
    with pytest.raises(UserError) as caught:
        train_toy(Relief(), tmp_path / "run", DamagedReliefs(), model="plain", workers=workers)
    assert str(caught.value) == "relief-3.png: expected a complete image, found a PNG cut off after 7 bytes."


def test_samples_used_again_have_their_distance_and_their_own_augmentation():
    sequence = keys(InfiniteBatchSampler(None, 16, range(200), seed=0, uses=4))
    assert len(set(sequence)) == len(sequence), "every use has its own random numbers"
    places: dict[int, list[int]] = {}
    for position, (_, index) in enumerate(sequence):
        places.setdefault(index, []).append(position)
    complete = [where for index, where in places.items() if index < 200]
    assert len(complete) == 200 and all(len(where) == 4 for where in complete)
    gaps = {later - earlier for where in complete for earlier, later in pairwise(where)}
    assert gaps == {4 * REUSE_DISTANCE + 1}
    halves = [InfiniteBatchSampler(None, 8, range(rank, 400, 2), 0, uses=4) for rank in (0, 1)]
    assert [key for pair in zip(*halves, strict=True) for batch in pair for key in batch] == sequence


def test_a_synthetic_sample_that_is_used_again_is_generated_once(monkeypatch):
    dataset = SyntheticShapes(split="train", size=(16, 16))
    calls = []
    generate = dataset.generate
    monkeypatch.setattr(dataset, "generate", lambda *arguments: calls.append(1) or generate(*arguments))
    dataset.keep_samples(2)
    first, again = dataset.read(0), dataset.read(0)
    assert len(calls) == 1 and all(np.array_equal(first[name], again[name]) for name in first)
    with pytest.raises(ValueError, match="read-only"):
        again["image"][:] = 0
    for index in (1, 2, 0):
        dataset.read(index)
    assert len(calls) == 4, "the oldest is forgotten"


@pytest.mark.parametrize("name", list_tasks())
def test_no_augmentation_changes_a_sample_that_is_used_again(name):
    task = create_task(name)
    options = resolve_options(task, Options())
    dataset = open_dataset(str(options.data), None, "train").with_size(options.image_size)
    assert isinstance(dataset, SyntheticDataset)
    dataset.keep_samples(4)
    samples = AugmentedDataset(dataset, task, options.image_size, Augmentation(), options.color_jitter or 0.0, 0)
    first = samples.sample((0, 0))
    samples.sample((1, 0))
    again = samples.sample((0, 0))
    assert all(np.array_equal(first[field], again[field], equal_nan=True) for field in first)
