"""Warping of images by a flow, backward (every pixel says where it came from) and forward (where it goes), and filling
of what then is missing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_KNOWN = 0.01
"""How much of every pixel is known at least, so that an image of which nothing is known becomes blurred, not black."""


def move(image: Tensor, flow: Tensor) -> Tensor:
    """Sample an image (B, C, H, W) at x + flow(x), flow (B, 2, H, W) in pixels; beyond the edges, the edge goes on."""
    height, width = image.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)[None]
    # In grid_sample, -1 and 1 are the outer edges of the border pixels; their centers are half a pixel further in.
    x = (2 * (columns + flow[:, 0].float()) + 1) / width - 1
    y = (2 * (rows + flow[:, 1].float()) + 1) / height - 1
    grid = torch.stack((x, y), dim=-1)
    return F.grid_sample(image.float(), grid, padding_mode="border", align_corners=False)


def splat(image: Tensor, flow: Tensor) -> Tensor:
    """Forward warping: what is at x goes to x + flow(x), and is shared out to the four pixels around it.

    Values that arrive at the same pixel add up, what leaves the image is lost, and where nothing arrives the sum is 0.

    Args:
        image: (B, C, H, W).
        flow: (B, 2, H, W), pixels, x then y.

    Returns:
        The sums, (B, C, H, W) float32.
    """
    height, width = image.shape[-2:]
    image, flow = image.float(), flow.float()
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype)[None]
    # Far outside, it does not matter where.
    x = (columns + flow[:, 0]).clamp(-2, width + 1)
    y = (rows + flow[:, 1]).clamp(-2, height + 1)
    left, top = x.detach().floor(), y.detach().floor()
    sums = image.new_zeros(*image.shape[:2], height * width)
    for column, row in ((left + right, top + below) for below in (0, 1) for right in (0, 1)):
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        share = (1 - (x - column).abs()) * (1 - (y - row).abs()) * inside
        place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long().flatten(1)
        sums = sums.scatter_add(2, place[:, None].expand_as(sums), (image * share[:, None]).flatten(2))
    return sums.unflatten(2, (height, width))


def fill(image: Tensor, known: Tensor) -> Tensor:
    """Fill what is missing in an image from its surroundings: at each resolution from the next coarser one (pull-push).

    Gortler, Grzeszczuk, Szeliski, Cohen: The Lumigraph. SIGGRAPH 1996.

    Args:
        image: (B, C, H, W).
        known: (B, 1, H, W) in [0, 1], how much of each pixel is known; where it is 1, nothing changes.
    """
    if image.shape[-2:] == (1, 1):
        return image
    known = known.clamp(min=LEAST_KNOWN)
    weights = F.avg_pool2d(known, 2, ceil_mode=True)
    means = F.avg_pool2d(image * known, 2, ceil_mode=True) / weights
    # A coarse pixel is known if a part of it is.
    coarse = fill(means, (2 * weights).clamp(max=1))
    finer = F.interpolate(coarse, size=image.shape[-2:], mode="bilinear", align_corners=False)
    return known * image + (1 - known) * finer
