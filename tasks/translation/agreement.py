"""How far two label maps agree, class by class.

Pixels of all pictures go into one table of true against answered classes, and the scores are taken of that table.
From 0 to 1, higher is better:

    pixel_accuracy   of the pixels, how many have their true class
    class_accuracy   of a class's pixels, how many are found; the mean over the classes
    mean_iou         of the pixels that are a class or were called it, how many are both; the mean over the classes

These are the three numbers of the FCN score (Isola et al. 2017, section 4.1).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ...datasets.fields import Labels
from ...errors import UserError

Absent = Literal["left out", "zero"]
"""What a class without any pixel counts in the two means: nothing; or 0, as in pix2pix's published script, which adds
1e-12 to the denominators. A class that was never true but answered is in the mean of the IoU either way."""

SCORES = ("pixel_accuracy", "class_accuracy", "mean_iou")


def confusion(answered: np.ndarray, truth: np.ndarray, kind: Labels) -> np.ndarray:
    """Pixels by true class (row) and answered class (column).

    Args:
        answered: (H, W) integers; what is no class counts as wrong.
        truth: (H, W) integers; pixels of `kind.ignore` are not counted.
        kind: which classes there are.

    Returns:
        (N, N + 1) int64; the last column is of answers that are no class.

    Raises:
        ValueError: the two differ in size.
        UserError: a true label that is no class.
    """
    if answered.shape != truth.shape:
        raise ValueError(f"labels of {answered.shape} cannot be compared with labels of {truth.shape}")
    if (wrong := kind.check(truth)) is not None:
        raise UserError(f"The true labels are not those that are judged: expected {wrong[0]}, found {wrong[1]}.")
    classes = len(kind.names)
    said = truth != kind.ignore
    true, found = truth[said].astype(np.int64), answered[said].astype(np.int64)
    found = np.where((found >= 0) & (found < classes), found, classes)
    counts = np.bincount(true * (classes + 1) + found, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def agreement(counts: np.ndarray, absent: Absent = "left out") -> dict[str, float]:
    """The scores of this page, nan where no pixel was counted.

    Args:
        counts: (N, N + 1), the sum of what `confusion` gives.
        absent: what a class without any pixel counts.
    """
    if not counts.any():
        return dict.fromkeys(SCORES, float("nan"))
    right = np.diag(counts).astype(np.float64)
    true, answered = counts.sum(axis=1), counts.sum(axis=0)[:-1]
    return {
        "pixel_accuracy": float(right.sum() / counts.sum()),
        "class_accuracy": _mean_share(right, true, absent),
        "mean_iou": _mean_share(right, true + answered - right, absent),
    }


def _mean_share(part: np.ndarray, whole: np.ndarray, absent: Absent) -> float:
    shares = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return float(shares.mean() if absent == "zero" else shares[whole > 0].mean())
