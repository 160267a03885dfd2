"""Comparison grids: input, ground truth and prediction side by side, one row per sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..datasets.core.drawing import add_caption, fit_to_cell, hstack_images, vstack_images
from ..datasets.dataset import Dataset, Sample
from ..datasets.field_types import FieldType
from ..datasets.formats.image import write_image
from ..errors import printable
from .prediction import Prediction
from .task import Task

CELL = 160
"""Height and width of an image in a sheet of samples, in pixels."""


def draw_comparison(
    task: Task, fields: dict[str, FieldType], examples: Sequence[tuple[Sample, Prediction]]
) -> np.ndarray:
    """Grid (H, W, 3) uint8: one row per example with inputs, ground truth, and prediction in the same value range."""
    rows = []
    for sample, prediction in examples:
        ground_truth = task.ground_truth(sample, fields)
        maps = {name: kind for name, kind in task.inputs(fields).items() if kind.input_channels}
        inputs = [kind.colorize(sample[name]) for name, kind in maps.items()]
        rows.append(hstack_images([*inputs, ground_truth.to_image(), prediction.to_image(ground_truth)]))
    return vstack_images(rows)


def draw_samples(task: Task, dataset: Dataset, augmented: Sequence[Callable[[int], Sample]], count: int) -> np.ndarray:
    """Sheet (H, W, 3) uint8: one row per sample with inputs and ground truth as stored, and after each of some
    augmentations, which are functions of the index."""
    rows = []
    for index in dataset.spread(count):
        versions = [dataset.read(index), *(augment(index) for augment in augmented)]
        cells = []
        for number, sample in enumerate(versions):
            maps = {name: kind for name, kind in task.inputs(dataset.fields).items() if kind.input_channels}
            images = [kind.colorize(sample[name]) for name, kind in maps.items() if name in sample]
            images.append(task.ground_truth(sample, dataset.fields).to_image())
            row = hstack_images([fit_to_cell(image, (CELL, CELL)) for image in images])
            name = printable(dataset.sample_name(index))
            cells.append(add_caption(row, f"augmented {number}" if number else name[-row.shape[1] // 7 :]))
        rows.append(hstack_images(cells))
    return vstack_images(rows)


def write_comparison(path: Path, image: np.ndarray, min_width: int = 0) -> None:
    """Write an image as PNG, enlarged by the largest integer factor that keeps it within `min_width` pixels."""
    factor = max(1, min_width // max(1, image.shape[1]))
    if factor > 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    write_image(path, image)
