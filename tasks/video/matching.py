"""Motion between two frames without parameters: by block matching, what a predictor can continue from its first step,
and by their difference, where it has nothing to do.

Blocks of the last frame are compared with the frame before, first at half the size within 8 pixels, then at full size
around what was found. The motion is the mean of the displacements, weighted by a softmax of their differences.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .warping import move

LEVELS = ((2, 4, 5), (1, 1, 9))
"""Reduction of the frames, largest displacement and side of a block in reduced pixels, coarse to fine."""
SHARPNESS = 400.0
"""Factor of the differences, in [0, 1], in the softmax."""
SMOOTHNESS = 0.002
"""Differences far above it count as their absolute value."""
SHIFT_COST = 0.0003
"""Difference that a pixel of displacement costs, so that plain areas stand still."""

REACH = 8
"""Pixels within which motion can matter to a pixel in the next frame."""
STILL, NOISE_SIDE = 1.5 / 255, 5
"""Difference that is noise, if averaged over a square of this side; from twice of it on, it is motion."""


def match_blocks(last: Tensor, before: Tensor) -> Tensor:
    """Flow (B, 2, H, W) in pixels from the last frame back to the one before it, x then y.

    Args:
        last, before: (B, C, H, W) in [0, 1].
    """
    last, before = (each.float().mean(1, keepdim=True) for each in (last, before))
    flow = last.new_zeros(len(last), 2, *last.shape[-2:])
    for reduction, radius, block in LEVELS:
        flow = flow + _match(last, move(before, flow), reduction, radius, block)
    return flow


def _match(last: Tensor, before: Tensor, reduction: int, radius: int, block: int) -> Tensor:
    height, width = last.shape[-2:]
    if reduction > 1:
        last, before = (F.avg_pool2d(each, reduction, ceil_mode=True) for each in (last, before))
    rows, columns = last.shape[-2:]
    padded = F.pad(before, (radius,) * 4, mode="replicate")
    shifts = [(x, y) for y in range(-radius, radius + 1) for x in range(-radius, radius + 1)]
    differences = [
        (last - padded[..., radius + y : radius + y + rows, radius + x : radius + x + columns])[:, 0] for x, y in shifts
    ]
    # Absolute differences that are smooth at 0.
    absolute = (torch.stack(differences, dim=1).square() + SMOOTHNESS**2).sqrt()
    costs = F.avg_pool2d(absolute, block, 1, block // 2, count_include_pad=False)
    displacements = torch.tensor(shifts, dtype=costs.dtype, device=last.device)
    costs = costs + SHIFT_COST * reduction * displacements.norm(dim=1)[:, None, None]
    weights = (-SHARPNESS * costs).softmax(1)
    # Sums and no matrix product, whose rounding would depend on the batch, and whose values autocast would shorten.
    flow = reduction * torch.stack([(weights * each[:, None, None]).sum(1) for each in displacements.T], dim=1)
    if reduction > 1:
        flow = F.interpolate(flow, scale_factor=float(reduction), mode="bilinear", align_corners=False)
    return flow[..., :height, :width]


def motion_nearby(last: Tensor, before: Tensor) -> Tensor:
    """Whether anything changed within `REACH` pixels between two frames, (B, 1, H, W) from 0 to 1.

    Args:
        last, before: (B, C, H, W) in [0, 1].
    """
    difference = F.avg_pool2d((last - before).float().abs().mean(1, keepdim=True), NOISE_SIDE, 1, NOISE_SIDE // 2)
    for size in ((2 * REACH + 1, 1), (1, 2 * REACH + 1)):
        difference = F.max_pool2d(difference, size, 1, (size[0] // 2, size[1] // 2))
    return (difference / STILL - 1).clamp(0, 1)
