"""Any trunk with any head: the network that most tasks build."""

from __future__ import annotations

from torch import Tensor

from ..backbones.backbone import Backbone
from .heads.head import Head, takes
from .task import Network


class DenseNetwork(Network):
    """A trunk and a head, which answer for every pixel of one picture. Tasks derive from it and write `forward`.

    It takes pictures in [0, 1] and applies the trunk's preprocessing outside the trunk: whoever holds one of these
    networks holds its weights' preprocessing too.

    Args:
        backbone: any trunk; its classifier, if any, is not used.
        head: built on the trunk's levels. Tasks start its last layer, `head.predict`, at what they expect of an average
            pixel.

    Attributes:
        takes: as the head says and the trunk allows.
        stride: as the head says; sizes that are multiples of it are answered without resampling by odd factors.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.takes = takes(backbone, head)
        self.stride = head.stride

    def raw(self, image: Tensor) -> Tensor:
        """What the head says, linear and of any range.

        Args:
            image: (B, C, H, W) in [0, 1], C as the trunk's `in_channels`.

        Returns:
            (B, channels of the head, H, W) float32.
        """
        features = self.backbone.features(self.backbone.preprocessing(image))
        return self.head(features, (image.shape[-2], image.shape[-1])).float()
