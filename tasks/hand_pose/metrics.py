"""Metrics of hand pose: the mean error of the joints in millimeters, and how many frames are right as a whole.

mm is the mean over the frames of the mean distance of their joints to the true ones. within_D is the share of frames
whose worst joint is at most D mm away: a frame counts only if all of its joints are right.

Protocols: under `palm-given`, the cube around the hand is the one of the dataset, centered at the true palm and then at
the center of mass. That is how papers on DeepPrior evaluate: the hand need not be found. Under `found`, the palm is
looked for in the complete depth image, as prediction does; a hand that is not found counts with its error.
"""

from __future__ import annotations

import numpy as np

from ...datasets.dataset import Sample
from ..prediction import Prediction
from ..task import RowMetrics
from .hand_prediction import HandPrediction

PROTOCOLS = ("palm-given", "found")

DISTANCES_MM = (20, 30, 40, 50, 60, 80)
"""Distances of the success curve."""


class HandMetrics(RowMetrics):
    """A row per frame: the names of the joints, and the distance of each to the true one, (J,) millimeters."""

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        assert isinstance(prediction, HandPrediction)
        differences = prediction.joints.astype(np.float64) - ground_truth["joints"]
        self.rows.append((prediction.skeleton.names, np.linalg.norm(differences, axis=1)))

    def compute(self) -> dict[str, float]:
        """mm, within_20 to within_80, and the mean error of every joint as "mm NAME"."""
        if not self.rows:
            return {"mm": float("nan"), **{f"within_{distance}": float("nan") for distance in DISTANCES_MM}}
        # Sorted, so that scores do not depend on the order of the samples.
        errors = np.sort([row for _, row in self.rows], axis=0)
        worst = self.worst()
        return {
            "mm": float(errors.mean()),
            **{f"within_{distance}": float((worst <= distance).mean()) for distance in DISTANCES_MM},
            **{f"mm {name}": float(mean) for name, mean in zip(self.rows[0][0], errors.mean(0), strict=True)},
        }

    def worst(self) -> np.ndarray:
        """(N,) millimeters: the error of the worst joint of every frame."""
        return np.array([errors.max() for _, errors in self.rows])
