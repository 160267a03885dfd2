"""Coarse-to-fine optical flow head with warping and correlation, after PWC-Net.

Sun, Yang, Liu, Kautz: PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume. CVPR 2018,
arXiv:1709.02371, figure 3 right: at every level, warp the second image's features by the upsampled flow, correlate them
with the first's within 4 pixels of the feature map, and estimate the rest of the motion; at the finest level, a context
network of dilated convolutions refines the flow.

Deviations: the pyramid is a backbone's, continued to stride 32 by average pooling; features are compared after a
projection to a few channels and standardization, so that correlations are within -1 to 1; besides the correlations, an
estimator reads their soft-argmax displacement, which is informative before training; estimators are three layers
without dense connections; every level predicts in pixels of its own map; warping passes no gradient to the flow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones.backbone import Level
from ...backbones.initialization import initialize
from ..heads.head import distinct_strides, resize
from .correlation import correlation

MAX_DISPLACEMENT = 4
NUM_DISPLACEMENTS = (2 * MAX_DISPLACEMENT + 1) ** 2
FINEST_STRIDE, COARSEST_STRIDE = 4, 32
"""Finest and coarsest stride at which flow is estimated."""
MATCH_CHANNELS = 48
"""Channels of the projected features that are compared."""
ESTIMATOR_WIDTHS = (96, 64, 32)
"""Widths of the estimator of a level; the features of the last layer are passed to the next finer level."""
CONTEXT_LAYERS = ((64, 1), (64, 2), (64, 4), (48, 8), (32, 1))
"""Widths and dilations of the context network."""
INVERSE_TEMPERATURE = 10.0
"""Factor of the correlations in the softmax of `expected_displacement`."""
NEGATIVE_SLOPE = 0.1
PREDICTION_STD = 0.01


class Warping(nn.Module):
    """Coarse-to-fine flow head, from stride 32 to stride 4.

    Args:
        levels: levels of the backbone. Strides finer than 4 are used only if the backbone has no other.

    Attributes:
        level_indices: indices of the levels that are used, fine to coarse.
        strides: strides at which flow is estimated, fine to coarse; the first belong to `level_indices`.
        stride: the coarsest of them.
    """

    def __init__(self, levels: tuple[Level, ...]) -> None:
        super().__init__()
        indices = distinct_strides(levels)
        self.level_indices = [index for index in indices if levels[index].stride >= FINEST_STRIDE] or indices[-1:]
        self.strides = [levels[index].stride for index in self.level_indices]
        while self.strides[-1] < COARSEST_STRIDE:
            self.strides.append(2 * self.strides[-1])
        channels = [levels[index].channels for index in self.level_indices]
        channels += channels[-1:] * (len(self.strides) - len(channels))
        self.match = nn.ModuleList(nn.Conv2d(count, MATCH_CHANNELS, 1) for count in channels)
        self.stride = self.strides[-1]
        carried = ESTIMATOR_WIDTHS[-1] + 2
        self.estimators = nn.ModuleList(
            _convolutions(
                NUM_DISPLACEMENTS + 2 + MATCH_CHANNELS + (carried if index else 0),
                [(width, 1) for width in ESTIMATOR_WIDTHS],
            )
            for index in range(len(self.strides))
        )
        self.predict = nn.ModuleList(nn.Conv2d(ESTIMATOR_WIDTHS[-1], 2, 3, padding=1) for _ in self.strides)
        self.context = _convolutions(carried, CONTEXT_LAYERS)
        self.refine = nn.Conv2d(CONTEXT_LAYERS[-1][0], 2, 3, padding=1)
        initialize(self, "he_fan_in")
        for layer in (*self.predict, self.refine):
            nn.init.normal_(layer.weight, 0.0, PREDICTION_STD)  # pyright: ignore[reportArgumentType]

    def forward(self, first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        """Flow at every stride, coarse to fine.

        Args:
            first, second: levels of the backbone for each image, (B, C, h, w).

        Returns:
            (B, 2, h, w) float32 per stride, in pixels of the image.
        """
        return self.estimate(first, second)[0]

    def estimate(self, first: list[Tensor], second: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What `forward` returns, and the features of the estimator of every stride, (B, 32, h, w)."""
        features1, features2 = self._matching_features(first), self._matching_features(second)
        flows: list[Tensor] = []
        hidden: list[Tensor] = []
        for step, stride in enumerate(reversed(self.strides)):
            before = (flows[-1], hidden[-1]) if flows else None
            flow, features = self.update(step, stride, features1[-1 - step], features2[-1 - step], before)
            flows.append(flow)
            hidden.append(features)
        flows[-1] = self.refined(flows[-1], hidden[-1], self.strides[0])
        return flows, hidden

    def update(
        self, step: int, stride: float, maps1: Tensor, maps2: Tensor, before: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """One estimate: warp, correlate, and estimate the rest of the motion.

        Args:
            step: number of the estimator, 0 for the coarsest stride.
            stride: pixels of the image between neighboring units of the maps.
            maps1, maps2: projected features of both images, (B, 48, h, w).
            before: flow, in pixels of the image, and features of a coarser estimate, of any size; None: no flow.

        Returns:
            Flow (B, 2, h, w) float32, in pixels of the image, and features (B, 32, h, w).
        """
        size = (maps1.shape[-2], maps1.shape[-1])
        if before is None:
            flow, carried = maps1.new_zeros(len(maps1), 2, *size, dtype=torch.float32), []
        else:
            flow, hidden = (resize(each, size) for each in before)
            maps2 = warp(maps2, flow.detach() / stride)
            carried = [hidden, (flow / stride).to(hidden.dtype)]
        costs = correlation(standardize_channels(maps1), standardize_channels(maps2), MAX_DISPLACEMENT)
        matches = [F.leaky_relu(costs, NEGATIVE_SLOPE), expected_displacement(costs)]
        inputs = [*(match.to(maps1.dtype) for match in matches), maps1, *carried]
        features = self.estimators[step](torch.cat(inputs, dim=1))
        return flow + stride * self.predict[step](features).float(), features

    def refined(self, flow: Tensor, features: Tensor, stride: float) -> Tensor:
        """Flow with the update of the context network, from what `update` returned for this stride."""
        context = self.context(torch.cat([features, (flow / stride).to(features.dtype)], dim=1))
        return flow + stride * self.refine(context).float()

    def _matching_features(self, levels: list[Tensor]) -> list[Tensor]:
        """Projected features for the correlation, one map per stride, fine to coarse."""
        maps = [levels[index] for index in self.level_indices]
        while len(maps) < len(self.strides):
            maps.append(F.avg_pool2d(maps[-1], 2, ceil_mode=True))
        return [match(features) for match, features in zip(self.match, maps, strict=True)]


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Backward warping: sample the second image at x + flow(x), bilinearly, with zeros outside.

    Args:
        image: (B, C, h, w), the second image or its features.
        flow: (B, 2, h, w), from the first image to the second, in pixels of `image`.

    Returns:
        (B, C, h, w) in the data type of `image`.
    """
    height, width = image.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None]
    columns = torch.arange(width, device=flow.device, dtype=torch.float32)[None]
    # In grid_sample, -1 and 1 are the outer edges of the border pixels; their centers are half a pixel further in.
    x = (2 * (columns + flow[:, 0].float()) + 1) / width - 1
    y = (2 * (rows + flow[:, 1].float()) + 1) / height - 1
    grid = torch.stack((x, y), dim=-1)
    return F.grid_sample(image.float(), grid, padding_mode="zeros", align_corners=False).to(image.dtype)


def expected_displacement(costs: Tensor) -> Tensor:
    """Soft-argmax of a correlation volume: mean displacement under its softmax, (B, 2, h, w), x then y, in pixels."""
    probabilities = (INVERSE_TEMPERATURE * costs.float()).softmax(dim=1)
    steps = torch.arange(-MAX_DISPLACEMENT, MAX_DISPLACEMENT + 1, device=costs.device, dtype=torch.float32)
    displacements = torch.stack([steps.repeat(len(steps)), steps.repeat_interleave(len(steps))])
    return torch.einsum("bkhw,dk->bdhw", probabilities, displacements)


def standardize_channels(maps: Tensor) -> Tensor:
    """Standardize the channels of every position to mean 0 and deviation 1: correlations become Pearson's, -1 to 1."""
    maps = maps.float()
    centered = maps - maps.mean(dim=1, keepdim=True)
    return centered * torch.rsqrt(centered.square().mean(dim=1, keepdim=True) + 1e-4)


def _convolutions(channels: int, layers) -> nn.Sequential:
    modules = []
    for width, dilation in layers:
        modules += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.LeakyReLU(NEGATIVE_SLOPE)]
        channels = width
    return nn.Sequential(*modules)
