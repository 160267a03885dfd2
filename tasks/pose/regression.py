"""Regression head: joint coordinates as offsets from the mean pose, from globally pooled features.

Toshev, Szegedy: DeepPose: Human Pose Estimation via Deep Neural Networks. CVPR 2014, arXiv:1312.4659, section 3.1: a
classifier whose last layer predicts coordinates instead.

Deviations: DeepPose keeps AlexNet's fully connected layers, which take one image size; here the deepest level is
averaged over all positions, as in a residual network, and normalized, so that any backbone and any size will do. The
output is added to the mean pose of the training set, at which training starts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...backbones.backbone import Level
from ...backbones.initialization import gaussian, initialize

HIDDEN = (1024, 1024)
"""Widths of the hidden layers."""
PREDICTION_STD = 0.001
"""Initial weights of the last layer: an untrained head predicts the mean pose, and the loss sees few outliers."""


class Regression(nn.Module):
    """Two numbers per joint from the spatial mean of the deepest level.

    Args:
        levels: of the backbone.
        joints: number of joints.

    Attributes:
        joints: number of joints.
    """

    def __init__(self, levels: tuple[Level, ...], joints: int) -> None:
        super().__init__()
        self.joints = joints
        width = levels[-1].channels
        # The scale of features differs between backbones, most of all before training.
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
        """Compute offsets (x, y) from the mean pose, (B, joints, 2) float32, linear, in fractions of width and height.

        Args:
            features: the backbone's levels, (B, C, h, w) of any size.
        """
        return linear_float32(self.predict, self.hidden(features[-1].mean((2, 3)))).unflatten(1, (-1, 2))


def linear_float32(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """A linear layer in float32 under autocast too: half precision would round coordinates to about a pixel."""
    # autocast does not support the meta device, where nothing is rounded.
    device = "cpu" if inputs.is_meta else inputs.device.type
    with torch.autocast(device, enabled=False):
        return layer(inputs.float())
