"""Lanes: the order of training samples that are stored in shards."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from densevision.tasks.training.data import InfiniteBatchSampler
from densevision.tasks.training.lanes import Lanes

SAMPLES, PER, SHARDS, LANES, BATCH = 20_000, 100, 200, 8, 25
STEPS = SAMPLES // (LANES * BATCH)


@pytest.fixture(scope="module")
def shards() -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(SHARDS), PER))


def keys_of(shards: np.ndarray, processes: int, steps: range, seed: int = 0) -> dict[tuple[int, int], list]:
    """Keys by step and micro-batch, as that many processes take them, each with its own sampler."""
    found = {}
    for rank in range(processes):
        numbers = [step * LANES + one for step in steps for one in range(rank, LANES, processes)]
        sampler = InfiniteBatchSampler(len(shards), BATCH, numbers, seed, lanes=Lanes(shards, LANES, seed))
        found |= {divmod(number, LANES): keys for number, keys in zip(numbers, sampler, strict=True)}
    return found


def test_the_order_is_that_of_one_process_for_any_number_of_them(shards):
    one = keys_of(shards, 1, range(2 * STEPS))
    for processes in (2, 3, 4):
        assert keys_of(shards, processes, range(2 * STEPS)) == one
    # A resumed run goes on where it was.
    later = keys_of(shards, 2, range(STEPS + 7, 2 * STEPS))
    assert later == {key: one[key] for key in later}
    assert keys_of(shards, 1, range(3), seed=1) != keys_of(shards, 1, range(3))


def test_every_sample_comes_once_in_an_epoch(shards):
    counts = Counter(key for keys in keys_of(shards, 1, range(2 * STEPS)).values() for key in keys)
    assert counts == Counter((epoch, index) for epoch in range(2) for index in range(SAMPLES))


def test_lanes_that_do_not_divide_the_samples_lose_none():
    shards = np.repeat(np.arange(11), 10)[:103]
    lanes, counts = Lanes(shards, 4, 0), Counter()
    for number in range(4 * 3 * 103):
        counts.update(lanes.keys(number, 1))
    whole = [epoch for epoch in range(6) if sum(key[0] == epoch for key in counts) == 103]
    assert whole == [*range(6)] and set(counts.values()) == {1}


def test_all_processes_together_fetch_each_shard_hardly_more_than_once(shards):
    for processes in (1, 2, 4, 8):
        read = {
            (micro_batch % processes, int(shards[index]))
            for (_, micro_batch), keys in keys_of(shards, processes, range(STEPS)).items()
            for _, index in keys
        }
        assert SHARDS <= len(read) <= SHARDS + LANES - 1
        assert len(read) <= 1.2 * SHARDS


def test_a_batch_has_samples_of_several_shards_and_epochs_differ(shards):
    found = keys_of(shards, 1, range(2 * STEPS))
    assert len({int(shards[index]) for _, index in found[0, 0]}) == 4
    assert [index for _, index in found[0, 0]] != [index for _, index in found[STEPS, 0]]
