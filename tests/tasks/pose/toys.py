"""A skeleton of three joints facing the camera, and toy networks that predict fixed or visible joints."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from densevision.datasets.core.geometry import Size
from densevision.datasets.field_types import FieldType, Image, Keypoints, Skeleton
from densevision.tasks.inference import Predictor
from densevision.tasks.pose import HumanPose
from densevision.tasks.pose.heatmaps import STRIDE
from densevision.tasks.pose.networks import PoseNetwork
from densevision.tasks.pose.pose_prediction import PosePrediction
from densevision.tasks.tiling import pad_by_reflection

FACE_ON = Skeleton(("nose", "left hand", "right hand"), ((0, 1), (0, 2)), ((1, 2),), "person")
FIELDS: dict[str, FieldType] = {"image": Image(), "joints": Keypoints(FACE_ON)}
SIZE: Size = (64, 96)


class FixedJoints(PoseNetwork):
    """Predicts fixed joints, in pixels of its input, with confidences from 0.2 to 0.8."""

    output_type = "coordinates"
    stride = 1

    def __init__(self, points: np.ndarray) -> None:
        super().__init__()
        self.joints = torch.from_numpy(np.column_stack([points, np.linspace(0.2, 0.8, len(points))])).float()[None]

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[-2:] == SIZE
        return self.joints


class DotRegressor(PoseNetwork):
    """Finds the blue dot (nose), and the green and the red one (hands).

    The left hand of a person who faces the camera is on the right, whatever its color: equivariant to a flip.
    """

    output_type = "coordinates"
    stride = 1

    def forward(self, image: Tensor) -> Tensor:
        weights = image / image.sum((-1, -2), keepdim=True)
        height, width = image.shape[-2:]
        x, y = (weights.sum(axis) @ torch.arange(float(extent)) for axis, extent in ((-2, width), (-1, height)))
        red, green, blue = torch.stack([x, y, torch.ones_like(x)], dim=-1).unbind(1)
        left, right = (red, green) if red[0, 0] > green[0, 0] else (green, red)
        return torch.stack([blue, left, right], dim=1)


class DotHeatmaps(PoseNetwork):
    """`DotRegressor` with heat maps: the brightness of each color in every cell of the padded image."""

    output_type = "heatmaps"
    stride = STRIDE

    def forward(self, image: Tensor) -> Tensor:
        red, green, blue = functional.avg_pool2d(pad_by_reflection(image, STRIDE), STRIDE).unbind(1)
        columns = [int(hand[0].amax(0).argmax()) for hand in (red, green)]
        left, right = (red, green) if columns[0] > columns[1] else (green, red)
        return torch.stack([blue, left, right], dim=1)


def predict(
    network: PoseNetwork, image: np.ndarray, task: HumanPose | None = None, size: Size = SIZE, **options: Any
) -> PosePrediction:
    prediction = Predictor(task or HumanPose(), network, FIELDS, size).predict(image, **options)
    assert isinstance(prediction, PosePrediction)
    return prediction
