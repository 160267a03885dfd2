"""Depth models: any backbone with any head, and FCRN as published.

The input is images in [0, 1]; the preprocessing of the backbone is part of the model.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from ...backbones import create_backbone
from ...backbones.backbone import Backbone
from ..heads.head import Head, init_prediction
from ..heads.up_projection import Form, Pad, UpProjectionHead
from ..network import EncoderDecoder, Network

INITIAL_DEPTH = 2.5
"""Prediction of an untrained model in meters: about the middle of a room."""

LOG_RANGE = (-5.0, 5.3)
"""ln meters: 7 mm to 200 m. Predictions are clamped to it, with gradient 0 beyond, so that losses are finite."""


class DepthNetwork(EncoderDecoder):
    """A backbone and a head that predict the logarithm of depth.

    Args:
        backbone: any backbone.
        head: a head on the levels of the backbone with one channel. Its last layer is initialized again, so that the
            initial prediction is about `INITIAL_DEPTH` everywhere.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__(backbone, head)
        init_prediction(head.predict, math.log(INITIAL_DEPTH))

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], C = `in_channels` of the backbone, to (B, 1, H, W) float32 meters, 0.007 to 200."""
        return self.logits(image).clamp(*LOG_RANGE).exp()


class FCRN(Network):
    """FCRN, the fully convolutional residual network of Laina, Rupprecht, Belagiannis, Tombari, Navab 2016.

    3DV 2016, arXiv:1606.00373, figure 1 and table 1: ResNet-50 with the stride in the 1x1 convolutions, then four
    up-projections without skip connections. Input 228 x 304, output 128 x 160. 63,572,673 parameters in the fast form,
    63,566,913 in the plain form.

    Deviations: the eps of batch normalization is 1e-5, the default of PyTorch (the released weights were trained with
    1e-4: `bn_eps`). The max pooling pads on both ends, that of TensorFlow at the far end only (`pool="end"`). The
    dropout probability is not published; 0.5 is our choice. The authors' graph ends in a ReLU, where a unit that is
    initially negative never learns: with `relu` (the default), the last layer is initialized with small weights and a
    bias of 2.5 m, so that every pixel is initially positive.

    Args:
        form: "fast" or "plain"; `to_fast` converts weights of the plain form to the fast form.
        pad: "after" (the 5x5 kernel of the paper), "before" (the weights released for NYU) or "before-swapped" (a
            port); the latter two in the fast form only.
        relu: end in a ReLU. Predictions can then be 0: clamp them before logarithms.
        dropout: probability of dropping a unit before the last layer.
        bn_eps: eps of every batch normalization; None: the default of PyTorch.
        pool, stride_in: of the backbone: the released weights pad at the end, and some ports halve in the 3x3.
        weights: weights of the backbone, as for `create_backbone`. ImageNet weights of torchvision have the stride in
            the 3x3 convolutions and are refused.

    Raises:
        UserError: an unknown form or pad, or weights of another network.

    Attributes:
        input_policy, stride: see `Network`. Outputs have exactly half the size only if the size of the input is a
            multiple of the stride.
    """

    input_policy = "tiled"
    stride = 32
    backbone: Backbone
    head: UpProjectionHead

    def __init__(
        self,
        form: Form = "fast",
        pad: Pad = "after",
        *,
        relu: bool = True,
        dropout: float = 0.5,
        bn_eps: float | None = None,
        pool: str = "sides",
        stride_in: str = "1x1",
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.backbone = create_backbone("resnet50", weights, num_classes=0, stride_in=stride_in, pool=pool)
        self.head = UpProjectionHead(self.backbone.levels, 1, form, pad, dropout)
        self.activation = nn.ReLU() if relu else nn.Identity()
        init_prediction(self.head.predict, INITIAL_DEPTH)
        if bn_eps is not None:
            for layer in self.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = bn_eps

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 1, 16 ⌈H / 32⌉, 16 ⌈W / 32⌉) float32 meters, at the native resolution."""
        features = self.backbone.features(self.backbone.preprocessing(image))
        return self.activation(self.head.native(features)).float()


fcrn_plain = partial(FCRN, "plain")
"""FCRN with zero insertion and full 5x5 convolutions (`--model fcrn_plain`): the same function, but slower."""
fcrn_nyu = partial(FCRN, pad="before", bn_eps=1e-4, pool="end")
"""FCRN as the authors' graph for NYU Depth v2 computes it, for the weights that they released."""
fcrn_plain_3x3 = partial(FCRN, "plain", relu=False, stride_in="3x3")
"""FCRN of ports on torchvision's ResNet-50, with plain up-projections and without the final ReLU."""
fcrn_swapped_3x3 = partial(FCRN, pad="before-swapped", stride_in="3x3")
"""FCRN of a port on torchvision's ResNet-50 that exchanges the 2x3 and the 3x2 parts of the authors' graph."""
