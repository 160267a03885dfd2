"""Methods of view synthesis without learning, by name, in the form of networks: the same predict takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from .networks import ViewNetwork
from .plane_sweep import WINDOW, Rig, SweepVolume, smooth


class Classical(ViewNetwork):
    """Base of the classical methods; they have no parameters.

    Args:
        planes: number of planes.
    """

    def __init__(self, planes: int = 32) -> None:
        super().__init__(0, planes)
        self.margin = WINDOW // 2


class NearestView(Classical):
    """The first source, which is the nearest, as it is."""

    def forward(self, views: Tensor, cameras: Tensor, poses: Tensor, camera: Tensor, depth_range: Tensor) -> Tensor:
        return _flat(views[:, 0], depth_range)

    def decide(self, volume: SweepVolume) -> Tensor:
        raise NotImplementedError


class MeanOfViews(NearestView):
    """The mean of the sources as they are."""

    def forward(self, views: Tensor, cameras: Tensor, poses: Tensor, camera: Tensor, depth_range: Tensor) -> Tensor:
        return _flat(views.mean(1), depth_range)


class OnePlane(Classical):
    """The best homographies: of the planes, the one over which the sources agree best in the complete image."""

    def forward(self, views: Tensor, cameras: Tensor, poses: Tensor, camera: Tensor, depth_range: Tensor) -> Tensor:
        return self.render(views, Rig(cameras, poses, camera, depth_range), (views.shape[-2], views.shape[-1]))

    def decide(self, volume: SweepVolume) -> Tensor:
        mean = volume.mean
        best = volume.disagreement(mean).flatten(2).mean(2).argmin(1)
        return _chosen(best[:, None, None].expand(-1, *mean.shape[-2:]), mean, volume.depths)


class WinnerTakesAll(Classical):
    """The classical plane sweep: per pixel, the mean of the sources over the plane whose colors have the least variance
    in a window of 5x5."""

    def decide(self, volume: SweepVolume) -> Tensor:
        mean = volume.mean
        return _chosen(smooth(volume.disagreement(mean))[:, :, 0].argmin(1), mean, volume.depths)


CLASSICAL: dict[str, type[Classical]] = {
    "nearest-view": NearestView,
    "mean-of-views": MeanOfViews,
    "one-plane": OnePlane,
    "winner-takes-all": WinnerTakesAll,
}


def _flat(colors: Tensor, depth_range: Tensor) -> Tensor:
    """(B, 4, H, W) without a depth, which is that of the middle of the range."""
    middle = 2 / (1 / depth_range).sum(1)
    return torch.cat([colors.float(), middle[:, None, None, None].expand(-1, 1, *colors.shape[-2:])], 1)


def _chosen(plane: Tensor, colors: Tensor, depths: Tensor) -> Tensor:
    """(B, 4, h, w): colors (B, D, 3, h, w) and depths (B, D) of one plane per pixel, (B, h, w)."""
    index = plane[:, None, None].expand(-1, 1, 3, -1, -1)
    depth = depths.gather(1, plane.flatten(1)).view(plane.shape)
    return torch.cat([colors.gather(1, index)[:, 0], depth[:, None]], 1)
