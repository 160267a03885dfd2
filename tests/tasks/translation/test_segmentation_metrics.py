"""The confusion matrix and the three scores computed from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, jaccard_score

from densevision.datasets.field_types import SegmentationMask
from densevision.errors import UserError
from densevision.tasks.translation.fcn_score import confusion, segmentation_scores

CLASSES = SegmentationMask(("a", "b", "c", "d"), ignore=255)


def published_script(counts: np.ndarray) -> tuple[float, float, float]:
    """pix2pix's scripts/eval_cityscapes/util.py, `get_scores`, of a square confusion matrix."""
    right = np.diag(counts)
    return (
        right.sum() / (counts.sum() + 1e-12),
        np.nanmean(right / (counts.sum(1) + 1e-12)),
        np.nanmean(right / (counts.sum(1) + counts.sum(0) - right + 1e-12)),
    )


def test_rows_are_labeled_and_columns_predicted_classes():
    labels, predicted = np.array([[0, 1, 1], [2, 255, 255]]), np.array([[0, 2, 1], [-1, 0, 3]])
    expected = [[1, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    assert confusion(predicted, labels, CLASSES).tolist() == expected


def test_scores_equal_scikit_learns():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (40, 50))
    predicted = np.where(rng.random(labels.shape) < 0.6, labels, rng.integers(0, 4, labels.shape))
    counts = confusion(predicted, labels, CLASSES)
    assert np.array_equal(counts[:, :4], confusion_matrix(labels.ravel(), predicted.ravel()))
    scores = segmentation_scores(counts)
    assert scores["pixel_accuracy"] == pytest.approx((labels == predicted).mean())
    assert scores["class_accuracy"] == pytest.approx(balanced_accuracy_score(labels.ravel(), predicted.ravel()))
    assert scores["mean_iou"] == pytest.approx(jaccard_score(labels.ravel(), predicted.ravel(), average="macro"))


def test_absent_class_is_skipped_or_counts_zero_as_in_the_published_script():
    # Facts 3.6: the script adds 1e-12 to denominators, so an absent class counts 0.
    counts = np.array([[8, 2, 0, 0, 0], [0, 6, 4, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    zero, skipped = segmentation_scores(counts, "zero"), segmentation_scores(counts)
    assert tuple(zero.values()) == pytest.approx(published_script(counts[:, :4]), abs=1e-9)
    assert skipped["pixel_accuracy"] == zero["pixel_accuracy"] == 0.7
    assert skipped["class_accuracy"] == pytest.approx((0.8 + 0.6) / 2)
    # The third class is predicted but never labeled, so its IoU is 0; the fourth is absent.
    assert skipped["mean_iou"] == pytest.approx((8 / 10 + 6 / 12 + 0) / 3)


def test_invalid_predictions_are_wrong_and_unlabeled_pixels_do_not_count():
    labels = np.array([[0, 0, 255, 255]])
    scores = segmentation_scores(confusion(np.array([[0, 77, 1, 2]]), labels, CLASSES))
    assert scores["pixel_accuracy"] == scores["class_accuracy"] == scores["mean_iou"] == 0.5
    empty = segmentation_scores(confusion(labels, np.full((1, 4), 255), CLASSES), "zero")
    assert all(math.isnan(score) for score in empty.values())


def test_ignored_class_among_the_names_does_not_count():
    field_type = SegmentationMask(("nothing", "road", "car"), ignore=0)
    counts = confusion(np.array([[1, 1, 2, 0]]), np.array([[0, 1, 2, 2]]), field_type)
    assert segmentation_scores(counts)["pixel_accuracy"] == pytest.approx(2 / 3)


def test_invalid_labels_and_other_sizes_are_refused():
    with pytest.raises(UserError, match="expected labels below 4 or 255, found label 7"):
        confusion(np.zeros((1, 2), int), np.array([[0, 7]]), CLASSES)
    with pytest.raises(ValueError, match="cannot be compared"):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), CLASSES)
