"""Losses of optical flow.

Convention: `pyramid` is a list of predictions (B, 2, h, w) in pixels of the input, coarse to fine; `flow`, (B, 2, H, W)
in the same pixels, is the ground truth, 0 where unknown; `mask` (B, H, W) is True where it is known. Computed in
float32, per image and then averaged over the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[list[Tensor], Tensor, Tensor], dict[str, Tensor]]

DIV_FLOW = 20.0
"""FlowNet's predictions and losses are in units of 20 pixels."""

LEVEL_WEIGHTS = {64: 0.32, 32: 0.08, 16: 0.02, 8: 0.01, 4: 0.005}
"""Weight by stride of the level: flow6 to flow2 of the authors' train.prototxt."""

ROBUST_EPSILON, ROBUST_POWER = 0.01, 0.4
SEQUENCE_GAMMA, MAX_FLOW = 0.8, 400.0


def multiscale(pyramid: list[Tensor], flow: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Weighted sum over levels of the end-point errors in units of 20 px, summed over the pixels of each level.

    The loss grows with the size of the image.

    Source: Dosovitskiy et al. 2015 (arXiv:1504.06852), section 4.2; weights of the released code.
    """
    return _sum_over_levels(pyramid, flow, mask, lambda difference: torch.linalg.vector_norm(difference, dim=1))


def robust(pyramid: list[Tensor], flow: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """`multiscale` with the robust error (|u| + |v| + 0.01)^0.4, on which outliers have less influence.

    Source: Sun et al. 2018 (PWC-Net, arXiv:1709.02371), equation 2.
    """
    return _sum_over_levels(
        pyramid, flow, mask, lambda difference: (difference.abs().sum(1) + ROBUST_EPSILON) ** ROBUST_POWER
    )


def sequence(pyramid: list[Tensor], flow: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Sum over predictions of 0.8^(number of later predictions) times the mean |u| + |v|.

    Predictions are resized to the ground truth. Pixels with a motion of 400 px or more are ignored.

    Source: Teed, Deng 2020 (RAFT, arXiv:2003.12039), equation 7 and the released train.py.
    """
    size = (flow.shape[-2], flow.shape[-1])
    valid = (mask & (torch.linalg.vector_norm(flow.float(), dim=1) < MAX_FLOW)).float()
    pixels = valid.flatten(1).sum(1).clamp(min=1)
    terms = {}
    for later, prediction in enumerate(reversed(pyramid)):
        full = F.interpolate(prediction.float(), size=size, mode="bilinear", align_corners=False)
        error = (full - flow.float()).abs().sum(1) * valid
        terms[f"estimate_{len(pyramid) - later}"] = SEQUENCE_GAMMA**later * (error.flatten(1).sum(1) / pixels).mean()
    return terms


def downsample_ground_truth(flow: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Mean of the known flow over each cell of a coarser grid, without rescaling of the vectors, and its mask.

    Args:
        flow: (B, 2, H, W), 0 where unknown.
        mask: (B, H, W) bool.
        size: (h, w).

    Returns:
        (B, 2, h, w) float32, and (B, h, w) bool, True where any pixel of the cell is known.
    """
    known = F.adaptive_avg_pool2d(mask[:, None].float(), size)
    mean = F.adaptive_avg_pool2d(flow.float(), size) / known.clamp(min=1e-6)
    return mean, known[:, 0] > 0


def _sum_over_levels(
    pyramid: list[Tensor], flow: Tensor, mask: Tensor, error_of: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = {}
    for prediction in pyramid:
        target, known = downsample_ground_truth(flow, mask, (prediction.shape[-2], prediction.shape[-1]))
        error = error_of((prediction.float() - target) / DIV_FLOW) * known
        stride = 2 ** round(math.log2(flow.shape[-1] / prediction.shape[-1]))
        name, term = f"stride_{stride}", level_weight(stride) * error.flatten(1).sum(1).mean()
        # Predictions of the same resolution share a term: all of RAFT's, and the coarsest of a tiny image.
        terms[name] = terms[name] + term if name in terms else term
    return terms


def level_weight(stride: int) -> float:
    """Weight of a level by its stride.

    Below the authors' finest stride it is divided by the number of pixels that replace one of theirs; above their
    coarsest it is that of the coarsest.
    """
    if stride in LEVEL_WEIGHTS:
        return LEVEL_WEIGHTS[stride]
    finest = min(LEVEL_WEIGHTS)
    if stride < finest:
        return LEVEL_WEIGHTS[finest] * (stride / finest) ** 2
    return LEVEL_WEIGHTS[max(LEVEL_WEIGHTS)]


# The default first. Each returns named terms, which the training loop sums.
LOSSES: dict[str, Loss] = {"multiscale": multiscale, "robust": robust, "sequence": sequence}
