"""The table of classes and the three numbers that are taken of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, jaccard_score

from densevision.datasets.fields import Labels
from densevision.errors import UserError
from densevision.tasks.translation.agreement import agreement, confusion

KIND = Labels(("a", "b", "c", "d"), ignore=255)


def published_script(counts: np.ndarray) -> tuple[float, float, float]:
    """pix2pix's scripts/eval_cityscapes/util.py, `get_scores`, of a square table."""
    right = np.diag(counts)
    return (
        right.sum() / (counts.sum() + 1e-12),
        np.nanmean(right / (counts.sum(1) + 1e-12)),
        np.nanmean(right / (counts.sum(1) + counts.sum(0) - right + 1e-12)),
    )


def test_rows_are_true_classes_and_columns_answered_ones():
    truth, answered = np.array([[0, 1, 1], [2, 255, 255]]), np.array([[0, 2, 1], [-1, 0, 3]])
    expected = [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    assert confusion(answered, truth, KIND).tolist() == expected


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (40, 50))
    answered = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 4, truth.shape))
    counts = confusion(answered, truth, KIND)
    assert np.array_equal(counts[:, :4], confusion_matrix(truth.ravel(), answered.ravel()))
    scores = agreement(counts)
    assert scores["pixel_accuracy"] == pytest.approx((truth == answered).mean())
    assert scores["class_accuracy"] == pytest.approx(balanced_accuracy_score(truth.ravel(), answered.ravel()))
    assert scores["mean_iou"] == pytest.approx(jaccard_score(truth.ravel(), answered.ravel(), average="macro"))


def test_an_absent_class_is_left_out_or_counts_zero_as_in_the_published_script():
    # Facts 3.6: the script adds 1e-12 to denominators, so that an absent class counts 0.
    counts = np.array([[8, 2, 0, 0, 0], [0, 6, 4, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    zero, left_out = agreement(counts, "zero"), agreement(counts)
    assert tuple(zero.values()) == pytest.approx(published_script(counts[:, :4]), abs=1e-9)
    assert left_out["pixel_accuracy"] == zero["pixel_accuracy"] == 0.7
    assert left_out["class_accuracy"] == pytest.approx((0.8 + 0.6) / 2)
    # The third class is never true but answered, which makes its IoU 0; the fourth is nowhere.
    assert left_out["mean_iou"] == pytest.approx((8 / 10 + 6 / 12 + 0) / 3)


def test_what_is_no_class_is_wrong_and_what_nothing_is_said_of_does_not_count():
    truth = np.array([[0, 0, 255, 255]])
    scores = agreement(confusion(np.array([[0, 77, 1, 2]]), truth, KIND))
    assert scores["pixel_accuracy"] == scores["class_accuracy"] == scores["mean_iou"] == 0.5
    nothing = agreement(confusion(truth, np.full((1, 4), 255), KIND), "zero")
    assert all(math.isnan(score) for score in nothing.values())


def test_an_ignored_class_among_the_names_does_not_count_either():
    kind = Labels(("nothing", "road", "car"), ignore=0)
    counts = confusion(np.array([[1, 1, 2, 0]]), np.array([[0, 1, 2, 2]]), kind)
    assert agreement(counts)["pixel_accuracy"] == pytest.approx(2 / 3)


def test_true_labels_that_are_no_class_and_maps_of_other_sizes_are_refused():
    with pytest.raises(UserError, match="expected labels below 4 or 255, found label 7"):
        confusion(np.zeros((1, 2), int), np.array([[0, 7]]), KIND)
    with pytest.raises(ValueError, match="cannot be compared"):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), KIND)
