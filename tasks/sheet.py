"""A sheet of samples: input, truth and prediction side by side, one row a sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..datasets.dataset import Sample
from ..datasets.fields import Kind
from ..datasets.formats.picture import write_picture
from .task import Prediction, Task

GAP = 4


def draw_sheet(task: Task, fields: dict[str, Kind], shown: Sequence[tuple[Sample, Prediction]]) -> np.ndarray:
    """(H, W, 3) uint8: per row the inputs, the truth, and the prediction in the truth's range."""
    rows = []
    for sample, prediction in shown:
        truth = task.truth(sample, fields)
        inputs = [kind.draw(sample[name]) for name, kind in task.inputs(fields).items()]
        rows.append(tile([*inputs, truth.picture(), prediction.picture(like=truth)]))
    widest = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, GAP), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded)[:-GAP]


def tile(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in a row, brought to the tallest one's height: what is written on one stays readable."""
    height = max(picture.shape[0] for picture in pictures)
    row = []
    for picture in pictures:
        if picture.shape[0] != height:
            width = max(1, round(picture.shape[1] * height / picture.shape[0]))
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
        row.append(np.pad(picture, ((0, 0), (0, GAP), (0, 0)), constant_values=255))
    return np.concatenate(row, axis=1)[:, :-GAP]


def write_sheet(path: Path, picture: np.ndarray, smallest: int = 0) -> None:
    """Write a picture as PNG; rows of tiny samples may be enlarged by a whole factor to be seen."""
    factor = max(1, smallest // max(1, picture.shape[1]))
    if factor > 1:
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    write_picture(path, picture)
