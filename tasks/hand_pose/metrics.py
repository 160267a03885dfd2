"""Metrics of hand pose: the mean error of the joints in millimeters, and how many frames are right as a whole.

mm is the mean over the frames of the mean distance of their joints to the true ones. within_D is the share of frames
whose worst joint is at most D mm away: a frame counts only if all of its joints are right.

Under the protocol `palm-given`, the cube around the hand is the one of the dataset, which is centered at the true palm
and then at the center of mass. That is how papers on DeepPrior evaluate: the hand need not be found.
"""

from __future__ import annotations

import numpy as np

from ...datasets.dataset import Sample
from ..prediction import Prediction
from ..task import RowMetrics
from .hand_prediction import HandPrediction

PROTOCOLS = ("palm-given",)

DISTANCES_MM = (20, 30, 40, 50, 60, 80)
"""Distances of the success curve."""


class HandMetrics(RowMetrics):
    """A row per frame: the distance of every joint to the true one, (J,) millimeters."""

    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        assert isinstance(prediction, HandPrediction)
        differences = prediction.joints.astype(np.float64) - ground_truth["joints"]
        self.rows.append(np.linalg.norm(differences, axis=1))

    def compute(self) -> dict[str, float]:
        if not self.rows:
            return {"mm": float("nan"), **{f"within_{distance}": float("nan") for distance in DISTANCES_MM}}
        worst = np.array([errors.max() for errors in self.rows])
        return {
            "mm": float(np.mean(sorted(errors.mean() for errors in self.rows))),
            **{f"within_{distance}": float((worst <= distance).mean()) for distance in DISTANCES_MM},
        }
