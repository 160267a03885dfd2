from __future__ import annotations

import math

import numpy as np
import pytest

from densevision.tasks.classification import Classification
from densevision.tasks.classification.metrics import ClassificationMetrics, ClassScores

TEN = tuple("abcdefghij")


def scores(*predictions: tuple[list[float], int]) -> dict[str, float]:
    """The metrics of (probabilities, true class) pairs."""
    metrics = ClassificationMetrics()
    for probabilities, category in predictions:
        names = tuple(map(str, range(len(probabilities))))
        metrics.update(ClassScores(names, np.array(probabilities, np.float32)), {"category": np.array(category)})
    return metrics.compute()


DESCENDING = [0.3, 0.2, 0.15, 0.1, 0.08, 0.06, 0.05, 0.03, 0.02, 0.01]


@pytest.mark.parametrize("place", range(10))
def test_the_place_of_the_true_class_decides(place):
    found = scores((DESCENDING, place))
    assert found["top1"] == (place < 1) and found["top5"] == (place < 5)
    assert found["nll"] == pytest.approx(-math.log(DESCENDING[place]), rel=1e-6)


def test_shares_are_of_the_images():
    found = scores((DESCENDING, 0), (DESCENDING, 3), (DESCENDING, 9), (DESCENDING, 1))
    assert found["top1"] == 0.25 and found["top5"] == 0.75


def test_constant_predictions_name_nothing():
    # trap 32: ties counted as correct
    assert scores(*(([0.1] * 10, category) for category in range(10))) == {
        "top1": 0.0, "top5": 0.0, "nll": pytest.approx(math.log(10), rel=1e-6)
    }  # fmt: skip


def test_a_tie_with_the_true_class_counts_as_lost():
    # trap 32
    two = [0.3, 0.3, 0.2, 0.2]
    assert [scores((two, category))["top1"] for category in range(4)] == [0, 0, 0, 0]
    at_the_edge = [0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert [scores((at_the_edge, category))["top5"] for category in range(8)] == [1, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("classes", [1, 3, 10])
def test_nan_is_never_right(classes):
    # trap 32; among five classes or fewer, every name is among the first five
    found = scores(*(([math.nan] * classes, category) for category in range(classes)))
    assert found["top1"] == found["top5"] == 0


def test_nan_elsewhere_does_not_make_the_true_class_first():
    assert scores(([0.1, math.nan, 0.2], 2))["top1"] == 0


def test_a_true_class_of_probability_0_costs_much_but_not_infinity():
    assert 80 < scores(([1.0, 0.0], 1))["nll"] < 100


def test_without_a_image_every_score_is_nan():
    assert all(math.isnan(value) for value in ClassificationMetrics().compute().values())


def test_merging_the_states_of_processes_is_counting_all_images_once():
    predictions = [(DESCENDING, place) for place in (0, 1, 0, 6, 9, 4, 0)]
    parts = []
    for share in (predictions[:2], predictions[2:6], predictions[6:], []):
        part = ClassificationMetrics()
        for probabilities, category in share:
            part.update(ClassScores(TEN, np.array(probabilities)), {"category": np.array(category)})
        parts.append(part.state())
    merged = ClassificationMetrics()
    merged.update(ClassScores(TEN, np.array(DESCENDING)), {"category": np.array(0)})  # is replaced, not added to
    merged.merge(parts)
    assert merged.compute() == pytest.approx(scores(*predictions), rel=1e-6)


def test_the_metrics_of_every_protocol_know_nothing_of_smoothing():
    # trap 30: accuracy and nll are of the hard target, whatever the training's loss was
    for protocol in Classification.protocols:
        metrics = Classification().metrics(protocol)
        metrics.update(ClassScores(("a", "b"), np.array([1.0, 0.0])), {"category": np.array(0)})
        assert metrics.compute() == {"top1": 1.0, "top5": 1.0, "nll": 0.0}
