"""Any trunk for two pictures: one trunk that sees both, or one trunk that reads them as six channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...backbones.backbone import Backbone, Level
from ...backbones.initialization import initialize
from ..heads.head import Head, distinct_strides, levels_read
from .correlation import correlation
from .network import FlowNetwork
from .warping import CELLS, MATCHED, REACH, Warping, standardized

FINEST_COMPARED = 8
"""Stride from which on levels are compared: finer ones see too little to tell one place from another."""
PREDICTION_STD = 0.01


class StackedFlow(FlowNetwork):
    """Both pictures as one of six channels through trunk and head: FlowNetS's way.

    Args:
        backbone: any trunk of six channels.
        head: on its levels, of two channels.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head, self.stride = backbone, head, head.stride
        _start_still(head.predict)

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """One estimate, (B, 2, H, W); see `FlowNetwork.pyramid`."""
        pictures = torch.cat((first, second), dim=1)
        features = self.backbone.features(self.backbone.preprocessing(pictures))
        return [_in_pixels(self.head(features, (first.shape[-2], first.shape[-1])), self.stride)]


class CorrelatedFlow(FlowNetwork):
    """One trunk for both pictures; the head sees the first one's levels beside their correlation with the second's.

    Args:
        backbone: any trunk.
        head: on `compared_levels(backbone.levels)`, of two channels.
    """

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone, self.head, self.stride = backbone, head, head.stride
        read = set(levels_read(head))
        self.match = nn.ModuleDict(
            {
                str(place): nn.Conv2d(backbone.levels[place].channels, MATCHED, 1)
                for place in compared_places(backbone.levels)
                if place in read
            }
        )
        initialize(self.match, "he_fan_in")
        _start_still(head.predict)

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """One estimate, (B, 2, H, W); see `FlowNetwork.pyramid`."""
        ours, theirs = features_of_both(self.backbone, first, second)
        joined = list(ours)
        for place, match in self.match.items():
            number = int(place)
            costs = correlation(standardized(match(ours[number])), standardized(match(theirs[number])), REACH)
            joined[number] = torch.cat((ours[number], costs.to(ours[number].dtype)), dim=1)
        return [_in_pixels(self.head(joined, (first.shape[-2], first.shape[-1])), self.stride)]


class WarpingFlow(FlowNetwork):
    """One trunk for both pictures, and the head that goes from coarse to fine, bringing the second to the first.

    Args:
        backbone: any trunk.
        head: on its levels.
    """

    def __init__(self, backbone: Backbone, head: Warping) -> None:
        super().__init__()
        self.backbone, self.head, self.stride = backbone, head, head.stride

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """An estimate per stride from 32 on; see `FlowNetwork.pyramid`."""
        return self.head(*features_of_both(self.backbone, first, second))


def features_of_both(backbone: Backbone, first: Tensor, second: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The levels of two batches through one trunk, at once: its normalisations see both, as they will in evaluation."""
    levels = backbone.features(backbone.preprocessing(torch.cat((first, second))))
    halves = [level.chunk(2) for level in levels]
    return [half[0] for half in halves], [half[1] for half in halves]


def compared_places(levels: tuple[Level, ...]) -> list[int]:
    """Positions of the levels that are compared: the deepest of every stride from 8 on, or the last of all."""
    places = [place for place in distinct_strides(levels) if levels[place].stride >= FINEST_COMPARED]
    return places or [len(levels) - 1]


def compared_levels(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """The levels as a head meets them in `CorrelatedFlow`: with the correlation's channels on top."""
    places = set(compared_places(levels))
    return tuple(
        Level(level.name, level.stride, level.channels + CELLS) if place in places else level
        for place, level in enumerate(levels)
    )


def _in_pixels(answer: Tensor, stride: int) -> Tensor:
    """A head's answer is in cells of the coarsest level: numbers about 1 for motion that is about its reach."""
    return answer.float() * stride


def _start_still(predict: nn.Conv2d) -> None:
    """Let a last layer answer about zero motion before it has learned anything."""
    assert predict.bias is not None
    with torch.no_grad():
        nn.init.normal_(predict.weight, 0.0, PREDICTION_STD)
        nn.init.zeros_(predict.bias)
