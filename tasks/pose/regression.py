"""How far joints are from where they are expected, from any trunk: the mean over its deepest level, hidden layers, two
numbers a joint.

Toshev, Szegedy: DeepPose: Human Pose Estimation via Deep Neural Networks. CVPR 2014, arXiv:1312.4659, section 3.1: a
classifier whose last layer answers with coordinates instead.

Deviations: DeepPose keeps AlexNet's fully connected layers, which take one size of picture; here the deepest level is
averaged over all its places, as in a residual network, and normalised, so that any trunk and any size will do. What
it says is added to the mean pose of the training set, at which it begins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...backbones.backbone import Level
from ...backbones.initialization import gaussian, initialize

HIDDEN = (1024, 1024)
"""Widths of the layers between the mean and the coordinates."""
PREDICTION_STD = 0.001
"""An untrained head looks for every joint where it is expected, and the loss sees few outliers."""


class Regression(nn.Module):
    """Two numbers a joint from the mean over the deepest level.

    Args:
        levels: of the trunk.
        joints: how many.

    Attributes:
        joints: how many.
    """

    def __init__(self, levels: tuple[Level, ...], joints: int) -> None:
        super().__init__()
        self.joints = joints
        width = levels[-1].channels
        # Trunks differ in the size of their numbers, most of all before they are trained.
        layers: list[nn.Module] = [nn.LayerNorm(width)]
        for hidden in HIDDEN:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        self.hidden = nn.Sequential(*layers)
        self.predict = nn.Linear(width, 2 * joints)
        initialize(self, "he_fan_in")
        gaussian(self.predict.weight, std=PREDICTION_STD)
        nn.init.zeros_(self.predict.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        """(B, joints, 2) float32, linear: how far a joint is to the right of where it is expected and below it, in
        fractions of the picture's width and height.

        Args:
            features: the trunk's levels, (B, C, h, w) of any size.
        """
        return in_full(self.predict, self.hidden(features[-1].mean((2, 3)))).unflatten(1, (-1, 2))


def in_full(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """A linear layer in float32, whatever autocast says: half precision would round a place to a pixel or so."""
    # autocast does not know of meta, where nothing is rounded.
    device = "cpu" if inputs.is_meta else inputs.device.type
    with torch.autocast(device, enabled=False):
        return layer(inputs.float())
