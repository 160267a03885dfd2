"""Coarse to fine: at every level the second picture is brought to the first by what is known, and the rest is found.

Sun, Yang, Liu, Kautz: PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume. CVPR 2018,
arXiv:1709.02371, figure 3 right: warp, correlate within 4 cells, estimate, upsample; a context network of dilated
convolutions at the finest level.

Deviations: the pyramid is a trunk's, continued to stride 32 by averaging; cells are compared in few projected channels,
standardised, so that a correlation lies in -1 to 1; beside the correlations an estimator sees the displacement that a
softmax of them expects, which tells it something before it has learned anything; estimators are three layers without
dense connections; every level answers in cells of its own; the warp passes no gradient to the motion it warps by.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones.backbone import Level
from ...backbones.initialization import initialize
from ..heads.head import distinct_strides, resize
from .correlation import correlation

REACH = 4
CELLS = (2 * REACH + 1) ** 2
FINEST, COARSEST = 4, 32
"""Strides between which motion is estimated."""
MATCHED = 48
"""Channels in which two cells are compared."""
ESTIMATOR = (96, 64, 32)
"""Widths of a level's estimator; the last one is passed on to the finer level."""
CONTEXT = ((64, 1), (64, 2), (64, 4), (48, 8), (32, 1))
"""Widths and dilations of the context network."""
SHARPNESS = 10.0
"""Of the softmax over correlations, by whose weights a displacement is expected."""
SLOPE = 0.1
PREDICTION_STD = 0.01


class Warping(nn.Module):
    """From stride 32 to stride 4.

    Args:
        levels: of the trunk. Strides finer than 4 are not used, unless the trunk has no other.

    Attributes:
        stride: of the coarsest level that is estimated.
    """

    def __init__(self, levels: tuple[Level, ...]) -> None:
        super().__init__()
        places = distinct_strides(levels)
        self.places = [place for place in places if levels[place].stride >= FINEST] or places[-1:]
        self.strides = [levels[place].stride for place in self.places]
        while self.strides[-1] < COARSEST:
            self.strides.append(2 * self.strides[-1])
        channels = [levels[place].channels for place in self.places]
        channels += channels[-1:] * (len(self.strides) - len(channels))
        self.match = nn.ModuleList(nn.Conv2d(count, MATCHED, 1) for count in channels)
        self.stride = self.strides[-1]
        passed = ESTIMATOR[-1] + 2
        self.estimators = nn.ModuleList(
            _convolutions(CELLS + 2 + MATCHED + (passed if place else 0), [(width, 1) for width in ESTIMATOR])
            for place in range(len(self.strides))
        )
        self.predict = nn.ModuleList(nn.Conv2d(ESTIMATOR[-1], 2, 3, padding=1) for _ in self.strides)
        self.context = _convolutions(passed, CONTEXT)
        self.refine = nn.Conv2d(CONTEXT[-1][0], 2, 3, padding=1)
        initialize(self, "he_fan_in")
        for layer in (*self.predict, self.refine):
            nn.init.normal_(layer.weight, 0.0, PREDICTION_STD)  # pyright: ignore[reportArgumentType]

    def forward(self, first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        """The motion at every stride, coarse to fine.

        Args:
            first, second: the trunk's levels for each picture, (B, C, h, w).

        Returns:
            (B, 2, h, w) float32 per stride, pixels of the picture.
        """
        ours, theirs = self._matched(first), self._matched(second)
        flows: list[Tensor] = []
        hidden: Tensor | None = None
        for place, stride in enumerate(reversed(self.strides)):
            one, two = ours[-1 - place], theirs[-1 - place]
            size = (one.shape[-2], one.shape[-1])
            if hidden is None:
                flow, known = one.new_zeros(len(one), 2, *size, dtype=torch.float32), []
            else:
                flow = resize(flows[-1], size)
                two = warp(two, flow.detach() / stride)
                known = [resize(hidden, size), (flow / stride).to(hidden.dtype)]
            costs = correlation(standardized(one), standardized(two), REACH)
            found = [F.leaky_relu(costs, SLOPE), expected(costs)]
            hidden = self.estimators[place](torch.cat([*(each.to(one.dtype) for each in found), one, *known], dim=1))
            flows.append(flow + stride * self.predict[place](hidden).float())
        assert hidden is not None
        finest = self.strides[0]
        around = self.context(torch.cat([hidden, (flows[-1] / finest).to(hidden.dtype)], dim=1))
        flows[-1] = flows[-1] + finest * self.refine(around).float()
        return flows

    def _matched(self, features: list[Tensor]) -> list[Tensor]:
        """The maps that are compared, fine to coarse."""
        maps = [features[place] for place in self.places]
        while len(maps) < len(self.strides):
            maps.append(F.avg_pool2d(maps[-1], 2, ceil_mode=True))
        return [match(each) for match, each in zip(self.match, maps, strict=True)]


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """The second picture brought to the first: at x stands what the second shows at x + flow(x), 0 from outside.

    Args:
        picture: (B, C, h, w).
        flow: (B, 2, h, w), in cells of the picture.
    """
    height, width = picture.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None]
    columns = torch.arange(width, device=flow.device, dtype=torch.float32)[None]
    # grid_sample counts the outer edges of the outermost pixels as -1 and 1; middles lie half a pixel further in.
    x = (2 * (columns + flow[:, 0].float()) + 1) / width - 1
    y = (2 * (rows + flow[:, 1].float()) + 1) / height - 1
    grid = torch.stack((x, y), dim=-1)
    return F.grid_sample(picture.float(), grid, padding_mode="zeros", align_corners=False).to(picture.dtype)


def expected(costs: Tensor) -> Tensor:
    """(B, 2, h, w): the mean displacement in cells under a softmax of the correlation, x then y."""
    chances = (SHARPNESS * costs.float()).softmax(dim=1)
    steps = torch.arange(-REACH, REACH + 1, device=costs.device, dtype=torch.float32)
    places = torch.stack([steps.repeat(len(steps)), steps.repeat_interleave(len(steps))])
    return torch.einsum("bkhw,dk->bdhw", chances, places)


def standardized(maps: Tensor) -> Tensor:
    """Every cell's channels with mean 0 and deviation 1, so that the correlation of two cells is Pearson's, -1 to 1."""
    maps = maps.float()
    centred = maps - maps.mean(dim=1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + 1e-4)


def _convolutions(channels: int, layers) -> nn.Sequential:
    made = []
    for width, dilation in layers:
        made += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.LeakyReLU(SLOPE)]
        channels = width
    return nn.Sequential(*made)
