"""Heads of hand pose, and networks of any backbone with one of them: a regression, or heat maps with depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...backbones.backbone import Backbone, Level
from ...datasets.core.geometry import Size
from ..heads import create_head
from .networks import HandNetwork

HEATMAP_STRIDE = 4
"""Pixels of the depth per pixel of the heat maps."""


class JointHead(nn.Module):
    """A head that predicts the pose of a hand from the levels of a backbone.

    Args:
        levels: of the backbone.
        joints: number of joints.
        outputs: numbers that the trained layers of the network predict, see `HandNetwork`.

    Attributes:
        gives_joints: whether it predicts joints (B, 3 J), with or without a prior; otherwise it predicts `outputs`.
    """

    gives_joints: ClassVar[bool]

    def forward(self, features: Sequence[Tensor], size: Size) -> Tensor:
        """Maps (B, C, h, w) of all levels to (B, values); `size` is the (height, width) of the depth."""
        raise NotImplementedError


class Regression(JointHead):
    """A linear layer on the mean of the deepest level."""

    gives_joints = False

    def __init__(self, levels: Sequence[Level], joints: int, outputs: int) -> None:
        super().__init__()
        self.predict = nn.Linear(levels[-1].channels, outputs)

    def forward(self, features: Sequence[Tensor], size: Size) -> Tensor:
        return self.predict(features[-1].mean((2, 3)))


class HeatMaps(JointHead):
    """A heat map and a map of depths per joint, by a U-Net at a quarter of the size of the depth.

    A joint is at the mean position under the softmax of its heat map, at the mean of its depths under it (Sun et al.:
    Integral Human Pose Regression, ECCV 2018, arXiv:1711.08229), which has a gradient: no heat maps are labeled. With a
    prior, the pose is projected to the nearest one of the prior.

    Positions are those of a parallel projection of the cube. The camera's perspective shifts a fingertip that is 100 mm
    nearer than the center by some pixels, which the network learns.
    """

    gives_joints = True

    def __init__(self, levels: Sequence[Level], joints: int, outputs: int) -> None:
        super().__init__()
        self.decoder = create_head("unet", tuple(levels), 2 * joints)

    def forward(self, features: Sequence[Tensor], size: Size) -> Tensor:
        height, width = (max(1, side // HEATMAP_STRIDE) for side in size)
        maps = self.decoder(list(features), (height, width)).float()
        heat, depth = maps.flatten(2).chunk(2, 1)
        share = heat.softmax(-1)
        x, y = ((2 * torch.arange(length, device=maps.device) + 1) / length - 1 for length in (width, height))
        columns, rows = x.repeat(height), y.repeat_interleave(width)
        return torch.stack([(share * value).sum(-1) for value in (columns, rows, depth)], -1).flatten(1)


class BackboneHand(HandNetwork):
    """Any backbone of one input channel and a head.

    Args:
        backbone: its classifier, if any, is not used.
        head: class of a head.
        joints, prior: as in `HandNetwork`.
    """

    backbone: Backbone
    head: JointHead

    def __init__(self, backbone: Backbone, head: type[JointHead], joints: int, prior: int) -> None:
        super().__init__(joints, prior)
        self.backbone = backbone
        self.head = head(backbone.levels, joints, self.outputs)
        self.stride = backbone.levels[-1].stride

    def regress(self, depth: Tensor) -> Tensor:
        features = self.backbone.features(self.backbone.preprocessing(depth))
        values = self.head(features, (depth.shape[-2], depth.shape[-1]))
        return self.prior.encode(values) if self.head.gives_joints and self.prior is not None else values
