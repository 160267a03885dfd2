"""rho with ties and constants, its interval, and regression to the mean. Traps of facts-next, B.2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from densevision.tasks.memorability.memorability_score import MemorabilityScore
from densevision.tasks.memorability.metrics import (
    MemorabilityMetrics,
    average_ranks,
    confidence_interval,
    spearman,
)

GRAY = np.zeros((4, 6, 3), np.uint8)


def scored(predicted: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    metrics = MemorabilityMetrics()
    for value, score in zip(predicted.tolist(), scores.tolist(), strict=True):
        metrics.update(MemorabilityScore(value, GRAY), {"score": np.array(score)})
    return metrics.compute()


def pairs(count: int = 200, noise: float = 0.15, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    # Scores of 20 players have ties.
    scores = np.round(rng.beta(6, 4, count) * 20) / 20
    return np.clip(scores + rng.normal(0, noise, count), 0, 1), scores


def test_equal_values_have_their_average_rank():
    # T: LaMem has many scores of 1.0.
    values = np.array([0.7, 1.0, 0.2, 1.0, 0.7, 1.0])
    assert average_ranks(values).tolist() == [2.5, 5, 1, 5, 2.5, 5]
    rows = np.random.default_rng(0).integers(0, 6, (20, 17)).astype(float)
    np.testing.assert_array_equal(average_ranks(rows), rankdata(rows, axis=1))


@pytest.mark.parametrize("count", [2, 3, 50, 1000])
def test_rho_is_that_of_scipy(count):
    predicted, scores = pairs(count, seed=count)
    theirs: Any = spearmanr(predicted, scores)
    assert spearman(predicted, scores) == pytest.approx(theirs.statistic)
    assert scored(predicted, scores)["rho"] == pytest.approx(theirs.statistic)


def test_rho_does_not_change_under_monotone_maps_and_mse_does():
    # T: the torch port of MemNet rescales its output.
    predicted, scores = pairs()
    plain = scored(predicted, scores)
    for mapped in (predicted**3, np.sqrt(predicted), 0.2 + 0.1 * predicted):
        other = scored(mapped, scores)
        assert [other[name] for name in ("rho", "rho_low", "rho_high")] == pytest.approx(
            [plain[name] for name in ("rho", "rho_low", "rho_high")]
        )
        assert abs(other["mse"] - plain["mse"]) > 1e-3
    assert scored(1 - predicted, scores)["rho"] == pytest.approx(-plain["rho"])


@pytest.mark.parametrize("constant", ["predictions", "scores"])
def test_a_constant_has_no_rho_rather_than_zero(constant):
    # T: constant predictions have an undefined rho.
    predicted, scores = pairs()
    flat = np.full_like(scores, 0.6)
    result = scored(flat, scores) if constant == "predictions" else scored(predicted, flat)
    assert all(np.isnan(result[name]) for name in ("rho", "rho_low", "rho_high"))
    assert np.isfinite(result["mse"])
    expected = 0.0 if constant == "predictions" else np.nan
    np.testing.assert_equal(result["sd_ratio"], expected)


def test_nothing_counted_is_nan():
    result = MemorabilityMetrics().compute()
    assert result.pop("samples") == 0
    assert all(np.isnan(value) for value in result.values())


def test_regression_to_the_mean_is_visible_in_the_standard_deviation():
    # B.1: the released caffemodel ranks with a standard deviation of 0.0025 where the scores have 0.15.
    predicted, scores = pairs()
    shrunk = scored(0.6 + 0.01 * (predicted - 0.6), scores)
    assert shrunk["rho"] == pytest.approx(scored(predicted, scores)["rho"])
    assert shrunk["sd"] == pytest.approx(0.01 * predicted.std()) and shrunk["sd_ratio"] < 0.02


def test_the_interval_contains_rho_and_narrows_with_the_square_root_of_the_samples():
    widths = []
    for count in (50, 800):
        result = scored(*pairs(count))
        assert result["rho_low"] < result["rho"] < result["rho_high"]
        widths.append(result["rho_high"] - result["rho_low"])
    assert 2.5 < widths[0] / widths[1] < 6.5


def test_the_interval_covers_the_true_rho_in_about_19_of_20_samples():
    large = spearman(*pairs(200_000))
    hits = 0
    for seed in range(60):
        low, high = confidence_interval(*pairs(100, seed=seed))
        hits += low <= large <= high
    assert 51 <= hits <= 60


def test_scores_do_not_depend_on_the_order_of_the_images():
    predicted, scores = pairs(80)
    order = np.random.default_rng(1).permutation(80)
    assert scored(predicted, scores) == scored(predicted[order], scores[order])


def test_a_dataset_of_known_players_states_the_ceiling_and_the_consistency_of_halves():
    rng = np.random.default_rng(0)
    true = rng.beta(6, 4, 2000)
    halves = rng.binomial(20, true, (2, 2000)) / 20
    metrics, plain = MemorabilityMetrics(), MemorabilityMetrics()
    for expected, first, second in zip(true.tolist(), *halves.tolist(), strict=True):
        players = {"expected_score": expected, "first_half": first, "second_half": second}
        sample = {name: np.array(value) for name, value in {"score": (first + second) / 2, **players}.items()}
        metrics.update(MemorabilityScore(expected, GRAY), sample)
        plain.update(MemorabilityScore(expected, GRAY), {"score": sample["score"]})
    scores = metrics.compute()
    # The perfect prediction reaches the ceiling.
    assert scores["rho"] == scores["ceiling"]
    theirs: Any = spearmanr(*halves)
    assert scores["split_half"] == pytest.approx(theirs.statistic)
    # Spearman and Brown: the consistency of all players is about the square of the correlation with the expected score.
    assert scores["split_half_all"] == pytest.approx(scores["ceiling"] ** 2, abs=0.02)
    assert not {"ceiling", "split_half", "split_half_all"} & plain.compute().keys()
