"""Evaluators for the FCN-score: segmentation models that read labels in translated images.

The idea of the FCN-score (Isola et al. 2017, section 4.1): if an image is realistic, a segmentation network that was
trained on real images recovers the labels from which it was generated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...datasets.field_types import SegmentationMask
from ...errors import UserError
from ..inference import Predictor, load
from .predictions import LabelMap


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
