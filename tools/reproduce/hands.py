"""Methods without a network for `synthetic-hands`, in the cube: the mean pose, ridge regression and nearest neighbors.

python tools/reproduce/hands.py [TRAIN_SAMPLES]

Ridge regression and nearest neighbors take the depth at 16 x 16, each cell the mean of its pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import cv2
import numpy as np

from densevision.datasets import open_dataset
from densevision.datasets.dataset import Dataset
from densevision.datasets.field_types import Joints
from densevision.tasks.hand_pose.hand_prediction import sample_prediction
from densevision.tasks.hand_pose.metrics import HandMetrics

SIDE, NEIGHBORS, PENALTY = 16, 5, 3.0


def features(dataset: Dataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth (N, 256) in [-1, 1], and joints (N, 3 J) in sides of the cube, relative to its center."""
    depths, poses = [], []
    for index in range(count):
        sample = dataset.read(index)
        depths.append(2 * cv2.resize(sample["depth"], (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel() - 1)
        poses.append(((sample["joints"] - sample["cube"][:3]) / sample["cube"][3]).ravel())
    return np.array(depths, np.float64), np.array(poses, np.float64)


def predictors(depths: np.ndarray, poses: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Functions from depth (N, 256) to poses (N, 3 J), by name."""
    mean_depth, mean = depths.mean(0), poses.mean(0)
    centered = depths - mean_depth
    weights = np.linalg.solve(centered.T @ centered + PENALTY * np.eye(SIDE**2), centered.T @ (poses - mean))

    def nearest(queries: np.ndarray) -> np.ndarray:
        distances = (depths**2).sum(1) - 2 * queries @ depths.T
        return poses[np.argpartition(distances, NEIGHBORS, axis=1)[:, :NEIGHBORS]].mean(1)

    return {
        "mean pose": lambda queries: np.broadcast_to(mean, (len(queries), len(mean))),
        "ridge regression": lambda queries: mean + (queries - mean_depth) @ weights,
        f"{NEIGHBORS} nearest neighbors": nearest,
    }


def main(count: int = 6000) -> None:
    """Print the scores on the test split."""
    train, test = open_dataset("synthetic-hands"), open_dataset("synthetic-hands", None, "test")
    field_type = test.fields["joints"]
    assert isinstance(field_type, Joints)
    queries, _ = features(test, len(test))
    samples = [test.read(index) for index in range(len(test))]
    for name, predict in predictors(*features(train, count)).items():
        metrics = HandMetrics()
        for sample, pose in zip(samples, predict(queries), strict=True):
            joints = sample["cube"][:3] + pose.reshape(-1, 3) * sample["cube"][3]
            metrics.update(sample_prediction(sample, joints, field_type.skeleton), sample)
        scores = metrics.compute()
        print(f"{name}: " + ", ".join(f"{metric} {value:.4g}" for metric, value in scores.items()))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
