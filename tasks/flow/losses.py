"""Losses of optical flow.

Convention: `pyramid` holds estimates (B, 2, h, w) in pixels of the input, coarse to fine; `flow` is the truth,
(B, 2, H, W) in the same pixels, 0 where unknown; `mask` (B, H, W) says where it is known. Computed in float32, per
picture and then averaged over the pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import unknown_name

Loss = Callable[[list[Tensor], Tensor, Tensor], dict[str, Tensor]]

DIV_FLOW = 20.0
"""The authors' networks answer, and their losses measure, in units of 20 pixels."""

LEVEL_WEIGHTS = {64: 0.32, 32: 0.08, 16: 0.02, 8: 0.01, 4: 0.005}
"""By the stride of the level: flow6 to flow2 of the authors' train.prototxt."""

ROBUST_EPSILON, ROBUST_POWER = 0.01, 0.4
SEQUENCE_DECAY, FARTHEST = 0.8, 400.0


def multiscale(pyramid: list[Tensor], flow: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Weighted sum over levels of the end-point errors in units of 20 px, each summed over its level's pixels.

    Its size grows with the picture's.

    Source: Dosovitskiy et al. 2015 (arXiv:1504.06852), section 4.2; weights of the released code.
    """
    return _of_levels(pyramid, flow, mask, lambda difference: torch.linalg.vector_norm(difference, dim=1))


def robust(pyramid: list[Tensor], flow: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The same with (|u| + |v| + 0.01)^0.4 for the error, which does not ask outliers to be right.

    Source: Sun et al. 2018 (PWC-Net, arXiv:1709.02371), equation 2.
    """
    return _of_levels(
        pyramid, flow, mask, lambda difference: (difference.abs().sum(1) + ROBUST_EPSILON) ** ROBUST_POWER
    )


def sequence(pyramid: list[Tensor], flow: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Sum over estimates of 0.8^(later estimates) times the mean |u| + |v| at the truth's size; motion from 400 px on
    does not count.

    Source: Teed, Deng 2020 (RAFT, arXiv:2003.12039), equation 7 and the released train.py.
    """
    size = (flow.shape[-2], flow.shape[-1])
    counted = (mask & (torch.linalg.vector_norm(flow.float(), dim=1) < FARTHEST)).float()
    pixels = counted.flatten(1).sum(1).clamp(min=1)
    terms = {}
    for later, estimate in enumerate(reversed(pyramid)):
        full = F.interpolate(estimate.float(), size=size, mode="bilinear", align_corners=False)
        error = (full - flow.float()).abs().sum(1) * counted
        terms[f"estimate_{len(pyramid) - later}"] = SEQUENCE_DECAY**later * (error.flatten(1).sum(1) / pixels).mean()
    return terms


def truth_at(flow: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The mean of the known motion over each cell of a coarser grid, its values as they are, and where any is known.

    Args:
        flow: (B, 2, H, W), 0 where unknown.
        mask: (B, H, W) bool.
        size: (h, w).

    Returns:
        (B, 2, h, w) float32 and (B, h, w) bool.
    """
    known = F.adaptive_avg_pool2d(mask[:, None].float(), size)
    mean = F.adaptive_avg_pool2d(flow.float(), size) / known.clamp(min=1e-6)
    return mean, known[:, 0] > 0


def _of_levels(
    pyramid: list[Tensor], flow: Tensor, mask: Tensor, measure: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = {}
    for estimate in pyramid:
        truth, known = truth_at(flow, mask, (estimate.shape[-2], estimate.shape[-1]))
        error = measure((estimate.float() - truth) / DIV_FLOW) * known
        stride = 2 ** round(math.log2(flow.shape[-1] / estimate.shape[-1]))
        name, term = f"stride_{stride}", level_weight(stride) * error.flatten(1).sum(1).mean()
        # Estimates of one resolution share a name: all of RAFT's, and the coarsest of a tiny picture.
        terms[name] = terms[name] + term if name in terms else term
    return terms


def level_weight(stride: int) -> float:
    """The weight of a level by its stride; finer than the authors' finest, a pixel has its share of their cell's."""
    if stride in LEVEL_WEIGHTS:
        return LEVEL_WEIGHTS[stride]
    finest = min(LEVEL_WEIGHTS)
    if stride < finest:
        return LEVEL_WEIGHTS[finest] * (stride / finest) ** 2
    return LEVEL_WEIGHTS[max(LEVEL_WEIGHTS)]


# The usual one first. Each gives named terms, which the loop sums.
LOSSES: dict[str, Loss] = {"multiscale": multiscale, "robust": robust, "sequence": sequence}


def find_loss(name: str) -> Loss:
    """The loss of a name.

    Raises:
        UserError: no loss has it.
    """
    if name not in LOSSES:
        raise unknown_name("loss of the task flow", name, LOSSES)
    return LOSSES[name]
