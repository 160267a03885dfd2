"""Random generators: streams depend on four words only."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.datasets.core.randomness import Purpose, generator


def test_numpy_treats_missing_words_as_zero():
    # design.md 3.3: (7, 3) and (7, 3, 0) give the same stream.
    assert np.random.default_rng((7, 3)).integers(1 << 30) == np.random.default_rng((7, 3, 0)).integers(1 << 30)


def test_no_purpose_is_zero():
    assert min(Purpose) >= 1
    assert len({int(purpose) for purpose in Purpose}) == len(Purpose)


def test_the_same_four_words_give_the_same_stream():
    first, second = (generator(7, 3, 5, Purpose.GEOMETRY).uniform(size=10) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("words", [(8, 3, 5, 2), (7, 4, 5, 2), (7, 3, 6, 2), (7, 3, 5, 3), (3, 7, 5, 2)])
def test_each_word_matters_and_so_does_their_order(words):
    seed, epoch, index, purpose = words
    assert generator(seed, epoch, index, Purpose(purpose)).uniform() != generator(7, 3, 5, Purpose.GEOMETRY).uniform()


def test_streams_of_neighboring_samples_differ():
    draws = np.array([generator(0, 0, index, Purpose.TRAINING_SYNTHESIS).normal(size=200) for index in range(20)])
    correlation = np.corrcoef(draws) - np.eye(20)
    assert np.abs(correlation).max() < 0.35  # 190 pairs of 200 draws: about 4 standard errors of 0.07 and a margin
