from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from densevision.datasets.augmentation import Augmentation
from densevision.datasets.rooms import Rooms
from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.training.stream import Order, TrainingView, batches

from .toys import DamagedReliefs, Relief, Reliefs, difference, follow


def keys(order: Order) -> list[tuple[int, int]]:
    return list(chain.from_iterable(order))


def view_of(dataset, seed: int = 0, colour: float = 0.0) -> TrainingView:
    return TrainingView(dataset, Depth(), (16, 24), Augmentation(flip=0.5, rotate=5.0, zoom=1.5), colour, seed)


@pytest.mark.parametrize(("samples", "batch"), [(7, 2), (7, 3), (5, 8), (12, 4), (1, 3)])
def test_every_epoch_is_a_permutation_and_no_batch_drops_or_repeats_a_sample_of_it(samples, batch):
    # Batches are cut from one row of epochs without looking where an epoch ends.
    row = keys(Order(samples, batch, range(-(-3 * samples // batch)), seed=3))
    assert all(len(part) == batch for part in Order(samples, batch, range(5), seed=3))
    for epoch in range(3):
        part = row[epoch * samples : (epoch + 1) * samples]
        assert {number for number, _ in part} == {epoch}
        assert sorted(index for _, index in part) == list(range(samples))


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    row = [index for _, index in keys(Order(40, 40, range(3), seed=0))]
    other = [index for _, index in keys(Order(40, 40, range(1), seed=1))]
    orders = [row[:40], row[40:80], row[80:], other]
    assert all(a != b for number, a in enumerate(orders) for b in orders[:number])
    assert all(order != sorted(order) for order in orders)


@pytest.mark.parametrize("samples", [7, None])
def test_an_order_that_begins_later_is_the_rest_of_the_whole_one(samples):
    whole = list(Order(samples, 3, range(20), seed=2))
    for start in (1, 5, 19):
        assert list(Order(samples, 3, range(start, 20), seed=2)) == whole[start:]


def test_an_order_gives_the_same_when_it_is_gone_through_twice_or_asked_out_of_turn():
    order = Order(7, 3, range(9), seed=2)
    assert list(order) == list(order)
    assert order.keys(2) == list(order)[2] and order.keys(7) == list(order)[7]


@pytest.mark.parametrize("samples", [11, None])
def test_two_processes_of_a_batch_see_what_one_of_twice_the_batch_sees(samples):
    one = Order(samples, 6, range(8), seed=4)
    two = [Order(samples, 3, range(8), 4, rank, 2) for rank in (0, 1)]
    for whole, first, second in zip(one, *two, strict=True):
        assert whole == first + second


def test_a_worlds_stream_never_repeats():
    row = [key for rank in (0, 1) for key in keys(Order(None, 5, range(200), 0, rank, 2))]
    assert len(set(row)) == 2000 and {epoch for epoch, _ in row} == {0}


def test_a_key_is_one_sample_whoever_reads_it_and_whenever():
    view, again = view_of(Reliefs()), view_of(Reliefs())
    expected = {key: view.sample(key) for key in [(0, 2), (1, 2), (0, 3)]}
    for key in reversed(list(expected)):
        for name, value in again.sample(key).items():
            np.testing.assert_array_equal(value, expected[key][name])
    assert (expected[0, 2]["image"] != expected[1, 2]["image"]).any(), "another epoch moves a sample otherwise"
    assert (expected[0, 2]["image"] != view_of(Reliefs(), seed=1).sample((0, 2))["image"]).any()


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_workers_change_no_batch(colour):
    made = [
        list(batches(view_of(Reliefs(), colour=colour), Order(7, 2, range(6), seed=1), workers, False))
        for workers in (0, 1, 2)
    ]
    assert len(made[0]) == 6
    assert difference(made[0], made[1]) is None and difference(made[0], made[2]) is None


def test_the_samples_of_a_world_are_drawn_at_the_training_size_and_are_all_different():
    view = view_of(Rooms(size=(16, 24)))
    (batch,) = batches(view, Order(None, 4, range(1), 0), 0, False)
    assert batch["image"].shape == (4, 3, 16, 24)
    assert len({batch["image"][number].numpy().tobytes() for number in range(4)}) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_sample_stops_the_training_with_its_own_sentence(tmp_path, workers):
    with pytest.raises(UserError) as caught:
        follow(Relief(), tmp_path / "run", DamagedReliefs(), network="plain", workers=workers)
    assert str(caught.value) == "relief-3.png: expected a whole picture, found a PNG cut off after 7 bytes."
