"""Comparison grids: input, ground truth and prediction side by side, one row per sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..datasets.dataset import Sample
from ..datasets.field_types import FieldType
from ..datasets.formats.image import write_image
from .prediction import Prediction
from .task import Task

GAP = 4


def draw_comparison(
    task: Task, fields: dict[str, FieldType], examples: Sequence[tuple[Sample, Prediction]]
) -> np.ndarray:
    """Grid (H, W, 3) uint8: one row per example with inputs, ground truth, and prediction in the same value range."""
    rows = []
    for sample, prediction in examples:
        ground_truth = task.ground_truth(sample, fields)
        inputs = [field_type.colorize(sample[name]) for name, field_type in task.inputs(fields).items()]
        rows.append(hstack_images([*inputs, ground_truth.to_image(), prediction.to_image(ground_truth)]))
    widest = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, GAP), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded)[:-GAP]


def hstack_images(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images in a row, all resized to the height of the tallest one, so that text in it stays readable."""
    height = max(image.shape[0] for image in images)
    row = []
    for image in images:
        if image.shape[0] != height:
            width = max(1, round(image.shape[1] * height / image.shape[0]))
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
        row.append(np.pad(image, ((0, 0), (0, GAP), (0, 0)), constant_values=255))
    return np.concatenate(row, axis=1)[:, :-GAP]


def write_comparison(path: Path, image: np.ndarray, min_width: int = 0) -> None:
    """Write an image as PNG, enlarged by the largest integer factor that keeps it within `min_width` pixels."""
    factor = max(1, min_width // max(1, image.shape[1]))
    if factor > 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    write_image(path, image)
