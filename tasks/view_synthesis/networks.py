"""Networks of view synthesis: probabilities of planes, and a color for each plane.

`DeepStereo` is the structure of Flynn et al. 2016. The paper publishes no parameter count and no code: its widths are
a reading, stated in `DeepStereo`. `LightDeepStereo` has a free number of planes and views, and `BackboneDeepStereo`
compares features of any backbone as well. Multiplane images are in `multiplane.py`.

All start at the classical plane sweep: the score of a plane is the disagreement of the sources in a 5x5 window, times
a factor, and its color is their mean. Towers whose last layers start at zero correct both.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones.backbone import Backbone
from ...errors import UserError
from ..heads.head import Head
from ..network import Network
from .plane_sweep import Rig, SweepVolume, smooth, sweep

SHARPNESS = 1000.0
"""Factor of the disagreement at the start."""
TILE = 160
"""Height and width of the windows in which larger images are predicted, so that the volume fits into memory."""


class ViewNetwork(Network):
    """Base of the networks of view synthesis.

    Attributes:
        views, planes: number of sources and planes.
        margin: pixels around a window that its output depends on.
        fixed: whether the network takes no other numbers of sources and planes.
    """

    input_policy = "whole"
    stride = 1
    margin: int
    fixed: ClassVar[bool] = False

    def __init__(self, views: int, planes: int) -> None:
        super().__init__()
        self.views, self.planes = views, planes

    def forward(self, views: Tensor, cameras: Tensor, poses: Tensor, camera: Tensor, depth_range: Tensor) -> Tensor:
        """The target at the size of the sources, window by window.

        Args:
            views: (B, V, 3, H, W) in [0, 1].
            cameras, poses, camera, depth_range: see `Rig`.

        Returns:
            (B, 4, H, W): red, green and blue in [0, 1], and the depth of the most probable plane.
        """
        rig, (height, width) = Rig(cameras, poses, camera, depth_range), views.shape[-2:]
        encoded = self.encode(views, rig)
        if max(height, width) <= TILE + 2 * self.margin:
            return self.render(encoded, rig, (height, width))
        rows = []
        for top in range(0, height, TILE):
            y0, y1, bottom = max(0, top - self.margin), min(height, top + TILE + self.margin), min(height, top + TILE)
            row = []
            for left in range(0, width, TILE):
                x0, x1 = max(0, left - self.margin), min(width, left + TILE + self.margin)
                part = self.render(encoded, rig.window(y0, x0), (y1 - y0, x1 - x0))
                right = min(width, left + TILE)
                row.append(part[..., top - y0 : bottom - y0, left - x0 : right - x0])
            rows.append(torch.cat(row, -1))
        return torch.cat(rows, -2)

    def encode(self, views: Tensor, rig: Rig) -> Tensor:
        """What all windows of a target are rendered from: the sources (B, V, 3, H, W) themselves."""
        return views

    def render(self, encoded: Tensor, rig: Rig, size: tuple[int, int]) -> Tensor:
        """The target in one pass, (B, 4, h, w), at any size, from the output of `encode`."""
        with exact_positions(encoded):
            volume = sweep(encoded, rig, rig.depths(self.planes), size)
        return self.decide(volume)

    @abstractmethod
    def decide(self, volume: SweepVolume) -> Tensor:
        """(B, 4, h, w) from the volume, see `forward`."""

    def require_numbers(self, views: int, planes: int) -> None:
        """Raise a UserError if the network is `fixed` and was trained for other numbers of sources and planes."""
        if self.fixed and (views, planes) != (self.views, self.planes):
            raise UserError(
                f"The model was trained for {self.views} views and {self.planes} planes, and takes no others ({views} "
                f"and {planes} are given): leave out --views and --planes, or take deepstereo-light."
            )


def exact_positions(tensor: Tensor) -> AbstractContextManager[Any]:
    """Without autocast: positions of pixels need fp32. Tensors without data ("meta") know no autocast."""
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def compose(logits: Tensor, colors: Tensor, depths: Tensor) -> Tensor:
    """(B, 4, h, w): the colors of the planes by their probabilities, and the depth of the most probable plane.

    Args:
        logits: (B, D, h, w).
        colors: (B, D, 3, h, w).
        depths: (B, D).
    """
    logits = logits.float()
    color = (logits.softmax(1)[:, :, None] * colors.float()).sum(1)
    nearest = logits.argmax(1)
    depth = depths.gather(1, nearest.flatten(1)).view(nearest.shape)
    return torch.cat([color, depth[:, None]], 1)


def _tower(*widths: int) -> nn.Sequential:
    """3x3 convolutions with ReLU between them."""
    layers: list[nn.Module] = []
    for channels, following in itertools.pairwise(widths):
        layers += [nn.Conv2d(channels, following, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def zero_weights(layer: nn.Module) -> None:
    """Start a convolution at zero."""
    assert isinstance(layer, (nn.Conv2d, nn.Conv3d)) and layer.bias is not None
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


class DeepStereo(ViewNetwork):
    """DeepStereo (Flynn, Neulander, Philbin, Snavely 2016, arXiv:1506.06825) for a fixed number of views and planes.

    Selection tower: per plane 4V -> 64 -> 64 -> 32 -> 8 channels, ReLU; across the D planes 8D -> 4D ReLU -> 2D tanh
    -> D, softmax. Color tower: per plane 4V -> 64 -> 64 -> 32 -> 3, the last layer linear. All layers are 3x3 with
    biases: 3,616,843 parameters for 4 views and 96 planes. These widths are a reading, as are one resolution instead of
    several and the start at the classical plane sweep; the paper orders the sources by distance, here their order is
    random.
    """

    margin = 4 + 3
    fixed = True

    def __init__(self, views: int, planes: int) -> None:
        super().__init__(views, planes)
        self.select_plane = nn.Sequential(*_tower(4 * views, 64, 64, 32, 8), nn.ReLU())
        self.across = nn.Conv2d(8 * planes, 4 * planes, 3, padding=1)
        self.penultimate = nn.Conv2d(4 * planes, 2 * planes, 3, padding=1)
        self.last = nn.Conv2d(2 * planes, planes, 3, padding=1)
        self.color = _tower(4 * views, 64, 64, 32, 3)
        zero_weights(self.last)
        zero_weights(self.color[-1])

    def decide(self, volume: SweepVolume) -> Tensor:
        batch, views, planes = volume.colors.shape[:3]
        self.require_numbers(views, planes)
        mean = volume.mean
        stacked = torch.cat([volume.colors * volume.alpha, volume.alpha], 3).transpose(1, 2).flatten(2, 3).flatten(0, 1)
        features = self.select_plane(stacked).view(batch, -1, *stacked.shape[-2:])
        mixed = torch.tanh(self.penultimate(F.relu(self.across(features))))
        logits = self.last(mixed).float() - SHARPNESS * smooth(volume.disagreement(mean))[:, :, 0]
        colors = mean + self.color(stacked).float().view(mean.shape)
        return compose(logits, colors, volume.depths)


class LightDeepStereo(ViewNetwork):
    """A small DeepStereo with a free number of planes and views.

    Selection: what the sources agree on (mean color, disagreement in windows of 1, 5, 11 and 21 pixels, share of the
    sources that see a point) through convolutions per plane, then 3-D convolutions across neighboring planes with tanh.
    Color: each source is first composed over the planes, and the sources are then averaged with weights from what they
    show and how they differ, which leaves out those that see something else in front.
    """

    WINDOWS = (1, 5, 11, 21)

    def __init__(self, views: int, planes: int, width: int = 16, evidence: int = 0) -> None:
        super().__init__(views, planes)
        self.margin = 10 + 3 + 2 + 4
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self.select_plane = nn.Sequential(*_tower(4 + len(self.WINDOWS) + evidence, width, width, 8), nn.ReLU())
        self.across = nn.Conv3d(8, width, 3, padding=1)
        self.last = nn.Conv3d(width, 1, 3, padding=1)
        self.blend_source = _tower(9, width, width)
        self.blend = _tower(2 * width, width, 1)
        zero_weights(self.last)
        zero_weights(self.blend[-1])

    def decide(self, volume: SweepVolume, evidence: Sequence[Tensor] = ()) -> Tensor:
        """See `ViewNetwork.decide`.

        Args:
            volume: colors.
            evidence: further (B, D, C, h, w) that speak for or against a plane, `evidence` channels together.
        """
        mean, seen = volume.mean, volume.seen / volume.colors.shape[1]
        disagreement = volume.disagreement(mean)
        windows = torch.cat([smooth(disagreement, window) for window in self.WINDOWS], 2)
        # The root spreads small values, which decide.
        features = torch.cat([mean, seen, 4 * (windows + 1e-6).sqrt(), *evidence], 2)
        planes = self.select_plane(features.flatten(0, 1)).view(*mean.shape[:2], -1, *mean.shape[-2:])
        correction = self.last(torch.tanh(self.across(planes.transpose(1, 2))))[:, 0]
        logits = correction.float() - self.log_sharpness.exp() * windows[:, :, 1]
        probability = logits.softmax(1)[:, None, :, None]
        colors, alpha = (probability * volume.colors).sum(2), (probability * volume.alpha).sum(2)
        output = compose(logits, mean, volume.depths)
        blended = self._blend(colors, alpha, output[:, :3])
        return torch.cat([blended, output[:, 3:]], 1)

    def _blend(self, colors: Tensor, alpha: Tensor, mean: Tensor) -> Tensor:
        """(B, 3, h, w): the mean of the sources (B, V, 3, h, w) by their weights; where none sees anything, `mean`."""
        batch, views = colors.shape[:2]
        difference = colors - mean[:, None]
        cues = torch.cat([colors, difference, 4 * (difference.square().mean(2, keepdim=True) + 1e-6).sqrt(), alpha,
                           mean[:, None].mean(2, keepdim=True).expand_as(alpha)], 2)  # fmt: skip
        features = F.relu(self.blend_source(cues.flatten(0, 1))).view(batch, views, -1, *colors.shape[-2:])
        together = torch.cat([features, features.mean(1, keepdim=True).expand_as(features)], 2)
        scores = self.blend(together.flatten(0, 1)).float().view(batch, views, 1, *colors.shape[-2:])
        weights = scores.softmax(1) * alpha
        total = weights.sum(1)
        return torch.where(total > 1e-3, (weights * colors).sum(1) / total.clamp(min=1e-3), mean)


class BackboneDeepStereo(LightDeepStereo):
    """`LightDeepStereo` whose selection also compares features of the sources, as MVSNet does (Yao et al. 2018,
    arXiv:1804.02505): their variance on every plane.

    Args:
        backbone: any backbone; it sees each source once.
        head: a head on its levels with `FEATURES` channels, which are the features of a pixel.
        views, planes: as in training; both are free at inference.
    """

    FEATURES = 8
    backbone: Backbone
    head: Head

    def __init__(self, backbone: Backbone, head: Head, views: int, planes: int) -> None:
        super().__init__(views, planes, evidence=self.FEATURES)
        self.backbone, self.head = backbone, head

    def encode(self, views: Tensor, rig: Rig) -> Tensor:
        """(B, V, 3 + FEATURES, H, W): colors and features of the sources."""
        images = views.flatten(0, 1)
        features = self.head(self.backbone.features(self.backbone.preprocessing(images)), images.shape[-2:])
        return torch.cat([views.float(), features.float().unflatten(0, views.shape[:2])], 2)

    def decide(self, volume: SweepVolume, evidence: Sequence[Tensor] = ()) -> Tensor:
        colors, features = (
            SweepVolume(part, volume.alpha, volume.depths) for part in volume.colors.split([3, self.FEATURES], 3)
        )
        return super().decide(colors, [features.variance(features.mean), *evidence])
