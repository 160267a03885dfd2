"""Plane sweep: source views, warped into a target camera over planes that face it.

A plane n^T X = d of the target's frame with n = (0, 0, 1) maps target pixels to pixels of a source by the homography
H = K_s (R + t n^T / d) K_t^-1, where x_s = R x_t + t. Pixel centers are at integers in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 5
"""Height and width in pixels of the window in which colors are compared."""
UNSEEN = 0.05
"""Disagreement where one view sees a point: that of unlike colors."""


@dataclass(frozen=True)
class Rig:
    """The cameras of a batch: V sources around a target.

    Attributes:
        cameras: (B, V, 3, 3) intrinsic matrices of the sources, pixels.
        poses: (B, V, 3, 4), [R t] from the frame of the target to those of the sources.
        camera: (B, 3, 3) intrinsic matrix of the target, pixels.
        depth_range: (B, 2), nearest and farthest depth in the target's frame, in the unit of the poses.
    """

    cameras: Tensor
    poses: Tensor
    camera: Tensor
    depth_range: Tensor

    def depths(self, planes: int) -> Tensor:
        """(B, D) depths of the planes, uniform in inverse depth, the nearest first."""
        near, far = (1 / self.depth_range.float()).unbind(-1)
        share = torch.linspace(0, 1, planes, device=near.device)
        return 1 / (near[:, None] + (far - near)[:, None] * share)

    def homographies(self, depths: Tensor) -> Tensor:
        """(B, V, D, 3, 3) from target pixels to source pixels, over planes at depths (B, D)."""
        cameras, poses = self.cameras.double(), self.poses.double()
        shifts = poses[:, :, None, :, 3:] / depths.double()[:, None, :, None, None]
        # n^T is (0, 0, 1): t n^T / d adds t / d to the third column of R.
        motion = torch.cat(
            [poses[:, :, None, :, :2].expand(*shifts.shape[:3], 3, 2), poses[:, :, None, :, 2:3] + shifts], -1
        )
        inverse = torch.linalg.inv(self.camera.double())[:, None, None]
        return (cameras[:, :, None] @ motion @ inverse).float()

    def window(self, top: int, left: int) -> Rig:
        """The cameras with a target whose pixel (0, 0) is (left, top) of this one."""
        shifted = self.camera.clone()
        shifted[:, 0] -= left * self.camera[:, 2]
        shifted[:, 1] -= top * self.camera[:, 2]
        return Rig(self.cameras, self.poses, shifted, self.depth_range)

    def from_first_source(self) -> Rig:
        """The cameras around the first source: it is the target now, and this target is the last of the sources.

        The range of depths is taken over: it is meant for cameras that are close to each other.
        """
        rotation, shift = self.poses[:, :1, :, :3], self.poses[:, :1, :, 3:]
        unmoved = torch.eye(3, 4, device=self.poses.device, dtype=self.poses.dtype).expand_as(self.poses[:, :1])
        others = torch.cat([self.poses[:, 1:], unmoved], 1)
        turned = others[..., :3] @ rotation.transpose(-1, -2)
        poses = torch.cat([turned, others[..., 3:] - turned @ shift], -1)
        cameras = torch.cat([self.cameras[:, 1:], self.camera[:, None]], 1)
        return Rig(cameras, poses, self.cameras[:, 0], self.depth_range)


@dataclass(frozen=True)
class SweepVolume:
    """Sources over the planes.

    Attributes:
        colors: (B, V, D, C, h, w) float32, colors in [0, 1] or features; outside of a source, its nearest ones.
        alpha: (B, V, D, 1, h, w) float32, 1 where the source sees the point of the plane, else 0.
        depths: (B, D) depths of the planes.
    """

    colors: Tensor
    alpha: Tensor
    depths: Tensor

    @property
    def seen(self) -> Tensor:
        """(B, D, 1, h, w): number of sources that see a point."""
        return self.alpha.sum(1)

    @property
    def mean(self) -> Tensor:
        """(B, D, C, h, w): mean color over the sources that see a point; over all where none does."""
        seen = self.seen
        inside = (self.colors * self.alpha).sum(1) / seen.clamp(min=1)
        return torch.where(seen > 0, inside, self.colors.mean(1))

    def disagreement(self, mean: Tensor) -> Tensor:
        """(B, D, 1, h, w): unbiased variance of the colors that see a point, averaged over the channels; `UNSEEN` for
        one of them, twice that for none."""
        seen = self.seen
        return torch.where(seen > 1, self.variance(mean).mean(2, keepdim=True), UNSEEN * (2 - seen))

    def variance(self, mean: Tensor) -> Tensor:
        """(B, D, C, h, w): unbiased variance of every channel over the sources that see a point; 0 for one or none."""
        squared = ((self.colors - mean[:, None]).square() * self.alpha).sum(1)
        return squared / (self.seen - 1).clamp(min=1) * (self.seen > 1)


def sweep(views: Tensor, rig: Rig, depths: Tensor, size: tuple[int, int]) -> SweepVolume:
    """Warp the sources into the target over planes.

    Args:
        views: (B, V, C, H, W), colors in [0, 1] or features.
        rig: the cameras.
        depths: (B, D), see `Rig.depths`.
        size: (h, w) of the target.
    """
    (batch, sources, _, *source_size), planes = views.shape, depths.shape[1]
    grid, inside = sampling_grid(rig.homographies(depths), size, source_size)
    # All planes of a source in one grid: the source is not copied for each.
    grid = grid.view(batch * sources, planes * size[0], size[1], 2)
    warped = F.grid_sample(views.flatten(0, 1).float(), grid, padding_mode="border", align_corners=True)
    colors = warped.view(batch, sources, -1, planes, *size).transpose(2, 3)
    return SweepVolume(colors, inside[:, :, :, None].float(), depths)


def sampling_grid(homographies: Tensor, size: tuple[int, int], source_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Where pixels of a target are in a source, for `grid_sample` with aligned corners.

    Args:
        homographies: (..., 3, 3) from target pixels to source pixels.
        size: (h, w) of the target.
        source_size: (height, width) of the source.

    Returns:
        (..., h, w, 2) positions x, y, where -1 and 1 are the centers of the outermost pixels; and (..., h, w) bool,
        whether the source sees them.
    """
    height, width = source_size
    rows, columns = torch.meshgrid(*(torch.arange(n, device=homographies.device) for n in size), indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)]).flatten(1).float()
    x, y, z = (homographies @ pixels).unflatten(-1, size).unbind(-3)
    # What is behind a source (z <= 0) would appear mirrored in it.
    in_front = z > 1e-6
    x, y = (torch.where(in_front, coordinate / torch.where(in_front, z, 1), -1e4) for coordinate in (x, y))
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    return torch.stack([2 * x / max(1, width - 1) - 1, 2 * y / max(1, height - 1) - 1], -1), inside


def smooth(values: Tensor, window: int = WINDOW) -> Tensor:
    """Mean of (B, D, C, h, w) over windows within the image."""
    pooled = F.avg_pool2d(values.flatten(0, 1), window, 1, window // 2, count_include_pad=False)
    return pooled.view(values.shape)
