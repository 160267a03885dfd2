"""Optical flow models: RAFT, and any backbone with early fusion, or siamese with correlation or warping."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...backbones.backbone import Backbone, Level
from ...backbones.initialization import initialize
from ..heads.head import Head, distinct_strides, init_prediction, used_levels
from ..network import Network
from .correlation import correlation
from .fine_warping import ENLARGEMENT, FineWarping
from .warping import MATCH_CHANNELS, MAX_DISPLACEMENT, NUM_DISPLACEMENTS, Warping, standardize_channels


class FlowNetwork(Network):
    """Model that estimates the flow between two images, at one or several resolutions.

    Attributes:
        input_policy: "whole": large motion is found in a large receptive field, which tiles would cut off.
        stride: stride of the coarsest level.
    """

    input_policy = "whole"

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """Flow at every resolution at which it is estimated, for a loss on each of them.

        Args:
            first, second: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 2, h, w) float32 each, coarse to fine; x then y, in pixels of the *input* whatever h and w are.
        """
        raise NotImplementedError

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow at the finest resolution, (B, 2, h, w) float32, in pixels of the input; see `pyramid`."""
        return self.pyramid(first, second)[-1]


MIN_CORRELATION_STRIDE = 8
"""Minimum stride of correlated levels: the receptive field of finer ones is too small to be distinctive."""


class EarlyFusionFlow(FlowNetwork):
    """Early fusion: both images concatenated to six channels, as in FlowNetS.

    Args:
        backbone: any backbone with six input channels.
        head: head on its levels, with two output channels.
    """

    backbone: Backbone
    head: Head

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head, self.stride = backbone, head, head.stride
        init_prediction(head.predict)

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """One prediction, (B, 2, H, W); see `FlowNetwork.pyramid`."""
        images = torch.cat((first, second), dim=1)
        features = self.backbone.features(self.backbone.preprocessing(images))
        return [_to_pixels(self.head(features, (first.shape[-2], first.shape[-1])), self.stride)]


class CorrelatedFlow(FlowNetwork):
    """Siamese backbone; the head reads the first image's levels concatenated with their correlation with the second's.

    Args:
        backbone: any backbone.
        head: head on `correlation_levels(backbone.levels)`, with two output channels.
    """

    backbone: Backbone
    head: Head

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head, self.stride = backbone, head, head.stride
        used = set(used_levels(head))
        self.match = nn.ModuleDict(
            {
                str(index): nn.Conv2d(backbone.levels[index].channels, MATCH_CHANNELS, 1)
                for index in correlated_indices(backbone.levels)
                if index in used
            }
        )
        initialize(self.match, "he_fan_in")
        init_prediction(head.predict)

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """One prediction, (B, 2, H, W); see `FlowNetwork.pyramid`."""
        features1, features2 = siamese_features(self.backbone, first, second)
        head_inputs = list(features1)
        for key, match in self.match.items():
            index = int(key)
            maps1, maps2 = (standardize_channels(match(features[index])) for features in (features1, features2))
            costs = correlation(maps1, maps2, MAX_DISPLACEMENT)
            head_inputs[index] = torch.cat((features1[index], costs.to(features1[index].dtype)), dim=1)
        return [_to_pixels(self.head(head_inputs, (first.shape[-2], first.shape[-1])), self.stride)]


class WarpingFlow(FlowNetwork):
    """Siamese backbone, and a head that estimates from coarse to fine by warping the second image's features.

    Args:
        backbone: any backbone.
        head: warping head on its levels.
    """

    backbone: Backbone
    head: Warping

    def __init__(self, backbone: Backbone, head: Warping) -> None:
        super().__init__()
        self.backbone, self.head, self.stride = backbone, head, head.stride

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """One prediction per stride, from 32 on; see `FlowNetwork.pyramid`."""
        return self.head(*siamese_features(self.backbone, first, second))


class FineWarpingFlow(WarpingFlow):
    """`WarpingFlow` with another estimate from images of twice the size.

    Args:
        backbone: any backbone.
        head: fine warping head on its levels.
    """

    head: FineWarping

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """One prediction per stride, from 32 to 2; see `FlowNetwork.pyramid`."""
        flows, hidden = self.head.estimate(*siamese_features(self.backbone, first, second))
        enlarged = (
            functional.interpolate(image, scale_factor=ENLARGEMENT, mode="bicubic") for image in (first, second)
        )
        levels = siamese_features(self.backbone, *enlarged, count=self.head.fine_levels)
        return [*flows, self.head.repeat(*levels, flows[-1], hidden[-2])]


def siamese_features(
    backbone: Backbone, first: Tensor, second: Tensor, count: int | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Levels of both images, in one forward pass of the backbone: batch normalization sees both in training.

    Args:
        backbone: any backbone.
        first, second: (B, 3, H, W) in [0, 1].
        count: number of levels, from fine to coarse; None: all.
    """
    images = backbone.preprocessing(torch.cat((first, second)))
    levels = backbone.features(images) if count is None else backbone.first_features(images, count)
    halves = [level.chunk(2) for level in levels]
    return [half[0] for half in halves], [half[1] for half in halves]


def correlated_indices(levels: tuple[Level, ...]) -> list[int]:
    """Indices of the correlated levels: the deepest of every stride from 8 on; if there is none, the last level."""
    indices = [index for index in distinct_strides(levels) if levels[index].stride >= MIN_CORRELATION_STRIDE]
    return indices or [len(levels) - 1]


def correlation_levels(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """Levels as the head of `CorrelatedFlow` reads them: with the additional channels of the correlation."""
    correlated = set(correlated_indices(levels))
    return tuple(
        Level(level.name, level.stride, level.channels + NUM_DISPLACEMENTS) if index in correlated else level
        for index, level in enumerate(levels)
    )


def _to_pixels(output: Tensor, stride: int) -> Tensor:
    """Convert a head's output, in pixels of the coarsest level, to pixels of the input: typical outputs are about 1."""
    return output.float() * stride


ITERATIONS = 12
"""Updates in training; the authors evaluate with 32 on Sintel and 24 on KITTI."""

MIN_SIZE = 128
"""Minimum height and width in pixels: the coarsest of the four correlation levels then has two rows and columns."""


class RAFT(FlowNetwork):
    """RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, torchvision's implementation.

    Teed, Deng. ECCV 2020, arXiv:2003.12039. 5,257,536 parameters; the small model (appendix) has 990,162. All pairs of
    positions at 1/8 of the resolution are correlated once, and a recurrent unit looks up correlations and updates the
    flow 12 times.

    Deviation: images are padded at the right and the bottom by replicating their border, where the authors' evaluation
    on Sintel pads on all sides. Heights and widths that are multiples of 8 from 128 on are not padded.

    Args:
        small: build the small model.
        iterations: number of flow updates.

    Attributes:
        network: torchvision's module, to which torchvision's weights files belong (`published_module`).
    """

    stride = 8

    def __init__(self, small: bool, iterations: int = ITERATIONS) -> None:
        from torchvision.models.optical_flow import raft_large, raft_small

        super().__init__()
        self.iterations = iterations
        self.network = (raft_small if small else raft_large)()

    @property
    def published_module(self) -> nn.Module:
        return self.network

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """The flow after every update, (B, 2, H, W) each; see `FlowNetwork.pyramid`."""
        height, width = first.shape[-2:]
        bottom, right = (max(MIN_SIZE - length, -length % self.stride) for length in (height, width))
        padded = [functional.pad(2 * image - 1, (0, right, 0, bottom), mode="replicate") for image in (first, second)]
        flows = self.network(*padded, num_flow_updates=self.iterations)
        # torchvision keeps the correlations of the last pair: they would occupy memory and prevent a deep copy.
        self.network.corr_block.corr_pyramid = []
        return [flow[..., :height, :width].float() for flow in flows]


raft_small = partial(RAFT, small=True)
raft_large = partial(RAFT, small=False)
