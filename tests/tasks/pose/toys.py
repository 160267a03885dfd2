"""What the tests of pose share: three joints of somebody who faces the camera, and networks that know or see them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from densevision.datasets.fields import Image, Keypoints, Kind, Skeleton
from densevision.datasets.geometry import Size
from densevision.tasks.inference import Predictor, pad_by_reflection
from densevision.tasks.pose import HumanPose
from densevision.tasks.pose.heatmaps import STRIDE
from densevision.tasks.pose.networks import PoseNetwork
from densevision.tasks.pose.people import Pose

FACE_ON = Skeleton(("nose", "left hand", "right hand"), ((0, 1), (0, 2)), ((1, 2),))
FIELDS: dict[str, Kind] = {"image": Image(), "joints": Keypoints(FACE_ON)}
SIZE: Size = (64, 96)


class Knowing(PoseNetwork):
    """Answers with what it is told, in pixels of the picture that it is shown."""

    answers = "coordinates"
    stride = 1

    def __init__(self, told: np.ndarray) -> None:
        super().__init__()
        self.told = torch.from_numpy(np.column_stack([told, np.linspace(0.2, 0.8, len(told))])).float()[None]

    def forward(self, image: Tensor) -> Tensor:
        assert image.shape[-2:] == SIZE
        return self.told


class Looking(PoseNetwork):
    """Finds the blue dot, which is the nose, and the green and the red one, which are hands.

    Of somebody who faces the camera the left hand is on the right, whatever the colour: equivariant to a mirror.
    """

    answers = "coordinates"
    stride = 1

    def forward(self, image: Tensor) -> Tensor:
        weights = image / image.sum((-1, -2), keepdim=True)
        height, width = image.shape[-2:]
        x, y = (weights.sum(axis) @ torch.arange(float(side)) for axis, side in ((-2, width), (-1, height)))
        red, green, blue = torch.stack([x, y, torch.ones_like(x)], dim=-1).unbind(1)
        left, right = (red, green) if red[0, 0] > green[0, 0] else (green, red)
        return torch.stack([blue, left, right], dim=1)


class Mapping(PoseNetwork):
    """The same with a map a joint: how bright its colour is in every cell, of the picture continued to whole cells."""

    answers = "heatmaps"
    stride = STRIDE

    def forward(self, image: Tensor) -> Tensor:
        red, green, blue = functional.avg_pool2d(pad_by_reflection(image, STRIDE), STRIDE).unbind(1)
        columns = [int(hand[0].amax(0).argmax()) for hand in (red, green)]
        left, right = (red, green) if columns[0] > columns[1] else (green, red)
        return torch.stack([blue, left, right], dim=1)


def ask(
    network: PoseNetwork, picture: np.ndarray, task: HumanPose | None = None, size: Size = SIZE, **options: Any
) -> Pose:
    answer = Predictor(task or HumanPose(), network, FIELDS, size).predict(picture, **options)
    assert isinstance(answer, Pose)
    return answer
