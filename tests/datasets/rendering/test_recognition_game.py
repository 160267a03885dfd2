"""The recognition game: its formula, its ceiling, and that no score leaks. Facts-next, B.4."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from scipy.stats import rankdata

from densevision.datasets import dataset_class, open_dataset
from densevision.datasets.conformance import check_dataset
from densevision.datasets.core.geometry import plain_resize
from densevision.datasets.core.randomness import Purpose, generator
from densevision.datasets.field_types import Image
from densevision.datasets.rendering.recognition_game import (
    CEILING_OF_HITS,
    CEILINGS,
    MAX_OBJECTS,
    MAX_STROKES,
    SPLIT_HALF,
    Scene,
    find_cause,
    inside_circle,
    play,
    random_scene,
    render_scene,
)
from densevision.datasets.synthetic import RecognitionGame

NAMES = {20: "recognition-game", 40: "recognition-game-40"}
SAMPLES = 1000


def spearman(first: np.ndarray | list[float], second: np.ndarray | list[float]) -> float:
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


@cache
def drawn_split(players: int, name: str = "") -> dict[str, np.ndarray]:
    dataset = open_dataset(name or NAMES[players], split="test")
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


@pytest.mark.parametrize("players", NAMES)
def test_halves_of_the_players_agree_as_stated(players):
    # Facts-next, B.4, whose prototype had another formula: 0.806 with 40 players, 0.892 by Spearman and Brown.
    split = drawn_split(players)
    rho = spearman(split["first_half"], split["second_half"])
    assert rho == pytest.approx(SPLIT_HALF[players], abs=0.03)
    # Twice as many players are as consistent as Spearman and Brown's formula says.
    assert 2 * SPLIT_HALF[20] / (1 + SPLIT_HALF[20]) == pytest.approx(SPLIT_HALF[40], abs=0.005)


def test_the_score_is_that_of_both_halves_unless_one_of_them_is_below_zero():
    split = drawn_split(20)
    above = (split["first_half"] > 0) & (split["second_half"] > 0)
    means = (split["first_half"] + split["second_half"]) / 2
    assert above.mean() > 0.8
    np.testing.assert_allclose(means[above], split["score"][above], atol=1e-9)
    # Neither half is favored.
    difference = split["first_half"] - split["second_half"]
    assert abs(difference.mean()) < 3 * difference.std() / math.sqrt(SAMPLES)


def test_false_alarms_are_counted_or_not_as_the_name_of_the_dataset_says():
    check_dataset(dataset_class("recognition-game-hits"))
    hits, corrected = drawn_split(20, "recognition-game-hits"), drawn_split(20)
    np.testing.assert_array_equal(hits["image"][:20], corrected["image"][:20])
    # The same hits of the same players: only the false alarms are missing.
    assert (hits["score"] >= corrected["score"]).all() and (hits["score"] > corrected["score"]).mean() > 0.3
    false_alarms = (hits["score"] - corrected["score"]).mean()
    assert false_alarms == pytest.approx(np.mean([scene.false_alarm for scene in scenes(SAMPLES)]), abs=0.005)
    assert spearman(hits["score"], hits["expected_score"]) == pytest.approx(CEILING_OF_HITS, abs=0.01)


def test_the_cause_is_the_part_without_which_players_forget_most():
    plain = Scene(None, 0.5, 0.4, 0.3, 0.2, ((0, 0, 0.1, 0.25, 0.5, 4),), None, np.zeros((0, 5)), 0.1, 0.7)
    assert find_cause(plain) == (0, 0, 0.1)
    strong, weak, third = ((x, 0.0, 0.1, difference, 0.5, 4) for x, difference in ((0.1, -0.5), (0.2, 0.1), (0.3, 0.1)))
    assert find_cause(replace(plain, objects=(weak, strong, third))) == strong[:3]
    # An object that is hardly the strongest costs less contrast than one object less of three gains.
    assert find_cause(replace(plain, objects=(weak, third, (0.4, 0.0, 0.1, 0.11, 0.5, 4)))) is None
    figure = (0.2, 0.2, 0.2)
    assert find_cause(replace(plain, figure=figure)) == figure
    # Without the only object, its contrast is lost: 1.5 * 0.9 is more than 0.6 of the smallest figure.
    alone = replace(plain, figure=figure, figure_size=0.0, objects=(strong,))
    assert find_cause(alone) == strong[:3]
    assert find_cause(replace(alone, figure_size=0.9)) == figure


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_the_circle_of_a_cause_is_where_it_is_drawn(size):
    for scene in scenes(40):
        without = replace(scene, figure=None) if scene.figure else replace(scene, objects=scene.objects[1:])
        changed = (render_scene(scene, size).astype(int) != render_scene(without, size)).any(-1)
        inside = inside_circle(scene.figure or scene.objects[0][:3], size)
        # Borders are blurred, heads are higher than wide, and a triangle is smaller than its circle.
        grown = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5))) > 0
        assert changed.any() and not (changed & ~grown).any()
        assert (changed & inside).sum() > 0.3 * inside.sum()


def test_scores_are_those_of_a_finite_number_of_players():
    for players in NAMES:
        scores = drawn_split(players)["score"]
        np.testing.assert_allclose(scores * players, np.round(scores * players), atol=1e-9)
        assert scores.min() >= 0 and scores.max() <= 1 and len(np.unique(scores)) <= players + 1
    scene = scenes(1)[0]
    rng = np.random.default_rng(0)
    many = [play(scene, 20, rng).score for _ in range(4000)]
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
            RecognitionGame().generate(generator(3, 0, index, Purpose.TEST_SYNTHESIS), size)
            for size in ((64, 64), (256, 256))
        )
        assert all(small[name] == large[name] for name in small if name != "image")
        reduced = Image().transform(large["image"], plain_resize((256, 256), (64, 64)))
        assert np.abs(reduced.astype(int) - small["image"]).mean() < 8
    assert RecognitionGame().generate(np.random.default_rng(0), (33, 71))["image"].shape == (33, 71, 3)


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
