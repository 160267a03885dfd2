"""The recognition game: its formula, its ceiling, and that no score leaks. Facts-next, B.4."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.stats import rankdata

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.core.geometry import plain_resize
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.field_types import Image
from densevision.datasets.rendering.recognition_game import (
    CEILINGS,
    MAX_OBJECTS,
    MAX_STROKES,
    Scene,
    draw_rated_image,
    play,
    random_scene,
    render_scene,
)

NAMES = {20: "recognition-game", 40: "recognition-game-40"}
SAMPLES = 1000


def spearman(first: np.ndarray | list[float], second: np.ndarray | list[float]) -> float:
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


@cache
def drawn_split(players: int) -> dict[str, np.ndarray]:
    dataset = open_dataset(NAMES[players], split="test")
    assert len(dataset) == SAMPLES
    samples = [dataset.read(index) for index in range(SAMPLES)]
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def scenes(count: int) -> list[Scene]:
    return [random_scene(generator(0, 0, index, Purpose.TEST_SYNTHESIS)) for index in range(count)]


@pytest.mark.parametrize("players", NAMES)
def test_it_conforms_and_states_its_players(players):
    check_dataset(dataset_class(NAMES[players]))
    assert f"{players} simulated players" in dataset_class(NAMES[players]).title


@pytest.mark.parametrize("players", NAMES)
def test_the_stated_ceiling_is_reproduced(players):
    split = drawn_split(players)
    rho = spearman(split["score"], split["expected_score"])
    assert rho == pytest.approx(CEILINGS[players], abs=0.01)


def test_scores_are_those_of_a_finite_number_of_players():
    for players in NAMES:
        scores = drawn_split(players)["score"]
        np.testing.assert_allclose(scores * players, np.round(scores * players), atol=1e-9)
        assert scores.min() >= 0 and scores.max() <= 1 and len(np.unique(scores)) <= players + 1
    scene = scenes(1)[0]
    rng = np.random.default_rng(0)
    many = [play(scene, 20, rng) for _ in range(4000)]
    assert np.mean(many) == pytest.approx(scene.expected_score, abs=0.01)
    variance = (scene.hit * (1 - scene.hit) + scene.false_alarm * (1 - scene.false_alarm)) / 20
    assert np.var(many) == pytest.approx(variance, rel=0.1)


def test_the_probabilities_are_those_of_the_documented_formula():
    plain = Scene(None, 0.5, 0.4, 0.3, 0.2, ((0, 0, 0.1, 0.2, 0.5, 4),), None, np.zeros((0, 5)), 0.1, 0.7)
    z = -0.5 + 1.5 * 0.4 + 1.0 * 0.3 - 1.3 * 0.2
    assert plain.hit == pytest.approx(1 / (1 + math.exp(-z)))
    assert plain.false_alarm == pytest.approx(0.02 + 0.16 * 0.7 / 2)
    rich = replace(plain, figure=(0.0, 0.0, 0.2), horizon=0.1, objects=plain.objects * 4)
    assert rich.hit == pytest.approx(1 / (1 + math.exp(-(z + 0.6 + 1.1 * 0.5 - 0.3 * 2 - 0.6))))
    assert rich.false_alarm == pytest.approx(0.02)
    assert replace(plain, horizon=0.1).false_alarm == pytest.approx(0.02 + 0.16 * 0.7)
    assert replace(plain, contrast=0.0, clutter=1.0, objects=plain.objects * 5, horizon=0.1).expected_score == 0


def test_everything_that_counts_is_visible():
    for scene in scenes(300):
        assert 1 <= len(scene.objects) <= MAX_OBJECTS and len(scene.strokes) == round(MAX_STROKES * scene.clutter)
        differences = [abs(difference) for *_, difference, _, _ in scene.objects]
        assert differences[0] == max(differences) == pytest.approx(0.05 + 0.5 * scene.contrast)
        placed = [each[:3] for each in scene.objects] + ([scene.figure] if scene.figure else [])
        for first, (x, y, radius) in enumerate(placed):
            assert max(abs(x), abs(y)) + radius <= 0.52
            for a, b, other in placed[:first]:
                assert math.hypot(x - a, y - b) > radius + other


@pytest.mark.parametrize("part", ["figure", "horizon", "strokes", "contrast", "colorfulness", "objects"])
def test_every_part_of_the_formula_changes_pixels(part):
    scene = next(each for each in scenes(50) if each.figure and each.horizon is not None and len(each.strokes) > 4)
    changes: dict[str, Scene] = {
        "figure": replace(scene, figure=None),
        "horizon": replace(scene, horizon=None),
        "strokes": replace(scene, strokes=scene.strokes[:0]),
        "contrast": replace(scene, objects=tuple((*each[:3], each[3] / 2, *each[4:]) for each in scene.objects)),
        "colorfulness": replace(scene, colorfulness=1 - scene.colorfulness),
        "objects": replace(scene, objects=()),
    }
    before, after = (render_scene(each, (64, 64)).astype(int) for each in (scene, changes[part]))
    assert np.abs(before - after).max() > 8


def test_the_same_scene_at_any_size():
    for index in range(5):
        small, large = (
            draw_rated_image(generator(3, 0, index, Purpose.TEST_SYNTHESIS), size, 20)
            for size in ((64, 64), (256, 256))
        )
        assert (small.score, small.expected_score) == (large.score, large.expected_score)
        reduced = Image().transform(large.image, plain_resize((256, 256), (64, 64)))
        assert np.abs(reduced.astype(int) - small.image).mean() < 8
    assert draw_rated_image(np.random.default_rng(0), (33, 71), 20).image.shape == (33, 71, 3)


# T: the score must not be predictable from file order, seed or 8x8 thumbnails beyond what the scenes explain.


def cross_validated(features: np.ndarray, values: np.ndarray) -> float:
    """rho of the values with those that a ridge regression predicts from features, by five-fold cross-validation."""
    features = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
    predicted = np.empty(len(values))
    for fold in range(5):
        test = np.arange(len(values)) % 5 == fold
        x, y = features[~test], values[~test]
        weights = np.linalg.solve(x.T @ x + 300 * np.eye(x.shape[1]), x.T @ (y - y.mean()))
        predicted[test] = y.mean() + features[test] @ weights
    return spearman(predicted, values)


def test_neither_the_order_nor_the_seed_predicts_the_score():
    score = drawn_split(20)["score"]
    limit = 3 / math.sqrt(SAMPLES)  # three standard deviations of rho without any relation
    assert abs(spearman(np.arange(SAMPLES), score)) < limit
    assert abs(spearman(score[:-1], score[1:])) < limit
    seeds = [float(open_dataset(NAMES[20], seed=seed).read(0)["score"]) for seed in range(200)]
    assert abs(spearman(np.arange(200), seeds)) < 3 / math.sqrt(200)


def test_thumbnails_predict_nothing_that_the_scene_does_not_explain():
    split = drawn_split(20)
    reduced = [Image().transform(image, plain_resize((64, 64), (8, 8))) for image in split["image"]]
    thumbnails = np.stack(reduced).reshape(SAMPLES, -1).astype(np.float64)
    noise = split["score"] - split["expected_score"]
    assert abs(cross_validated(thumbnails, noise)) < 3 / math.sqrt(SAMPLES)
    # What the scene explains is visible in part, and far from all of it.
    assert cross_validated(thumbnails, split["score"]) < 0.6
    explained = np.column_stack([split["expected_score"], thumbnails])
    assert cross_validated(explained[:, :1], split["score"]) > cross_validated(explained, split["score"]) - 0.02


def test_an_image_takes_at_most_three_milliseconds():
    best = math.inf
    for attempt in range(3):
        start = time.process_time()
        for index in range(50):
            draw_rated_image(generator(attempt, 0, index, Purpose.EXAMPLE), (64, 64), 20)
        best = min(best, (time.process_time() - start) / 50)
    assert best < 0.003
