"""ToyHead: one convolution on the coarsest level. No paper."""

from __future__ import annotations

from torch import Tensor, nn

from densevision.backbones.backbone import Level
from densevision.tasks.heads.head import Head, resize


class ToyHead(Head):
    """One convolution on the coarsest level; see `Head`."""

    def __init__(self, levels: tuple[Level, ...], channels: int) -> None:
        super().__init__(levels, channels)
        self.predict = nn.Conv2d(levels[-1].channels, channels, 3, padding=1)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """(B, channels, *size); see `Head.forward`."""
        return resize(self.predict(features[-1]), size)
