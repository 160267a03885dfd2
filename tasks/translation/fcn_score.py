"""Segmentation metrics of label maps, and the FCN-score: the same metrics of labels that are read in translated images.

Pixels of all images go into one confusion matrix, from which the scores are computed. From 0 to 1, higher is better:

    pixel_accuracy   fraction of pixels with the correct class
    class_accuracy   fraction of a class's pixels that are predicted as it; mean over the classes
    mean_iou         intersection over union of a class's labeled and predicted pixels; mean over the classes

These are the three numbers of the FCN-score (Isola et al. 2017, section 4.1). Its idea: if an image is realistic, a
segmentation network that was trained on real images, the evaluator, recovers the labels from which it was generated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from ...datasets.field_types import SegmentationMask
from ...errors import UserError
from ..inference import Predictor, load
from .predictions import LabelMap

Absent = Literal["skip", "zero"]
"""How a class without any pixel counts in the two means: not at all; or as 0, as in pix2pix's published script, which
adds 1e-12 to the denominators. A class that is predicted but never labeled is in the mean IoU either way."""

SCORES = ("pixel_accuracy", "class_accuracy", "mean_iou")


def confusion(predicted: np.ndarray, ground_truth: np.ndarray, field_type: SegmentationMask) -> np.ndarray:
    """Count pixels by ground truth class (row) and predicted class (column).

    Args:
        predicted: (H, W) integers; values that are not a class count as wrong.
        ground_truth: (H, W) integers; pixels of `field_type.ignore` are not counted.
        field_type: the classes.

    Returns:
        (N, N + 1) int64; the last column is for predictions that are not a class.

    Raises:
        ValueError: the sizes differ.
        UserError: a ground truth label is not a class.
    """
    if predicted.shape != ground_truth.shape:
        raise ValueError(f"labels of {predicted.shape} cannot be compared with labels of {ground_truth.shape}")
    if (wrong := field_type.check(ground_truth)) is not None:
        raise UserError(f"The ground truth labels do not match the classes: expected {wrong[0]}, found {wrong[1]}.")
    classes = len(field_type.names)
    labeled = ground_truth != field_type.ignore
    rows, columns = ground_truth[labeled].astype(np.int64), predicted[labeled].astype(np.int64)
    columns = np.where((columns >= 0) & (columns < classes), columns, classes)
    counts = np.bincount(rows * (classes + 1) + columns, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def segmentation_scores(counts: np.ndarray, absent: Absent = "skip") -> dict[str, float]:
    """The scores of this module, nan if no pixel was counted.

    Args:
        counts: (N, N + 1), a sum of confusion matrices from `confusion`.
        absent: how a class without any pixel counts.
    """
    if not counts.any():
        return dict.fromkeys(SCORES, float("nan"))
    correct = np.diag(counts).astype(np.float64)
    labeled, predicted = counts.sum(axis=1), counts.sum(axis=0)[:-1]
    return {
        "pixel_accuracy": float(correct.sum() / counts.sum()),
        "class_accuracy": _mean_ratio(correct, labeled, absent),
        "mean_iou": _mean_ratio(correct, labeled + predicted - correct, absent),
    }


def _mean_ratio(numerator: np.ndarray, denominator: np.ndarray, absent: Absent) -> float:
    ratios = np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
    return float(ratios.mean() if absent == "zero" else ratios[denominator > 0].mean())


class SegmentationEvaluator(NamedTuple):
    """A segmentation model and the labels that it predicts.

    Attributes:
        field: name of the sample's field with the ground truth labels.
        field_type: the classes.
        predict_labels: (H, W, 3) uint8 RGB to (H, W) integers.
    """

    field: str
    field_type: SegmentationMask
    predict_labels: Callable[[np.ndarray], np.ndarray]


def facades_evaluator(target_field: str) -> SegmentationEvaluator:
    """The exact decoder of synthetic-facades, where every part of a building has its own colors."""
    from ...datasets.rendering.facades import NAMES, read_labels

    return SegmentationEvaluator("labels", SegmentationMask(NAMES), read_labels)


def checkpoint_evaluator(checkpoint: str, target_field: str) -> SegmentationEvaluator:
    """A checkpoint of this task that was trained in the opposite direction, from the images to their labels.

    Args:
        checkpoint: as `tasks.inference.load` takes it; loaded once and cached.
        target_field: the field of the evaluated images.

    Raises:
        UserError: a checkpoint of another task or direction.
    """
    predictor = _load(checkpoint)
    if predictor.task.name != "translation":
        raise UserError(
            f"The evaluator '{checkpoint}' is a checkpoint of the task {predictor.task.name}; it must be one of the "
            f"task translation, trained with --source-field {target_field} and the dataset's labels as --target-field."
        )
    (source,) = predictor.task.inputs(predictor.fields)
    ((field, field_type),) = predictor.task.targets(predictor.fields).items()
    if source != target_field or not isinstance(field_type, SegmentationMask):
        raise UserError(
            f"The evaluator '{checkpoint}' translates '{source}' into '{field}' ({type(field_type).__name__}); to "
            f"evaluate '{target_field}' it must be trained with --source-field {target_field} and the dataset's labels "
            "as --target-field."
        )

    def predict_labels(image: np.ndarray) -> np.ndarray:
        labels = predictor.predict(image)
        assert isinstance(labels, LabelMap)
        return labels.classes

    return SegmentationEvaluator(field, field_type, predict_labels)


@lru_cache(maxsize=1)
def _load(checkpoint: str) -> Predictor:
    return load(checkpoint)
