"""EncoderDecoder: any backbone with any head."""

from __future__ import annotations

from torch import Tensor

from ..backbones.backbone import Backbone
from .heads.head import Head, combined_input_policy
from .task import Network


class EncoderDecoder(Network):
    """A backbone and a head that predict for every pixel of one image. Tasks derive from it and implement `forward`.

    Inputs are images in [0, 1]; the backbone's preprocessing is part of this network.

    Args:
        backbone: any backbone; its classifier, if any, is not used.
        head: a head on the backbone's levels. Tasks initialize its last layer, `head.predict`, for an average pixel.

    Attributes:
        input_policy: see `combined_input_policy`.
        stride: stride of the head; sizes that are multiples of it need no resampling by odd factors.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.input_policy = combined_input_policy(backbone, head)
        self.stride = head.stride

    def logits(self, image: Tensor) -> Tensor:
        """Output of the head, without activation.

        Args:
            image: (B, C, H, W) in [0, 1], with C = `backbone.in_channels`.

        Returns:
            (B, head.channels, H, W) float32, of any range.
        """
        features = self.backbone.features(self.backbone.preprocessing(image))
        return self.head(features, (image.shape[-2], image.shape[-1])).float()
