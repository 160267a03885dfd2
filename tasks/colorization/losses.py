"""Colorization losses.

Convention: `logits` (or `prediction`) is (B, channels, h, w), the output of a network's `logits`; `ab` is (B, 2, h, w),
the target color at the same positions. Losses are averaged over the pixels of each image, then over images, in float32.

Weights act on the gradient only, as in the authors' code: the logged value is the unweighted loss, comparable between
weightings. Images in which no |a| or |b| exceeds 5 are gray; their weight is 0 in every loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..network import LossTerms
from .decoders import BinClassification, Regression
from .encoding import class_rebalancing_weights, soft_targets
from .lab import AB_RANGE

GRAY = 5.0

Loss = Callable[[Tensor, Tensor, Any, int], LossTerms]


def rebalanced(logits: Tensor, ab: Tensor, decoder: BinClassification, neighbors: int) -> LossTerms:
    """Soft cross-entropy whose gradient is weighted by class rebalancing under the decoder's prior.

    Args:
        logits, ab: see the convention above.
        decoder: decoder with the prior.
        neighbors: bins of a soft target.

    Source: Zhang et al. 2016, equations 2 to 4.
    """
    index, weight = soft_targets(ab.float(), neighbors)
    per_pixel = soft_cross_entropy(logits.float(), index, weight)
    return {
        "cross_entropy": weighted_gradient(
            per_pixel, class_rebalancing_weights(decoder.prior)[index[:, 0]] * colored(ab)
        ).mean()
    }


def cross_entropy(logits: Tensor, ab: Tensor, decoder: BinClassification, neighbors: int) -> LossTerms:
    """Soft cross-entropy without class rebalancing; see `rebalanced`."""
    per_pixel = soft_cross_entropy(logits.float(), *soft_targets(ab.float(), neighbors))
    return {"cross_entropy": weighted_gradient(per_pixel, colored(ab).expand_as(per_pixel)).mean()}


def l2(prediction: Tensor, ab: Tensor, decoder: Regression, neighbors: int) -> LossTerms:
    """Half the squared distance of the colors, in units of 110 (Zhang et al. 2016, equation 1)."""
    per_pixel = (prediction.float() - ab.float() / AB_RANGE).square().sum(1) / 2
    return {"l2": weighted_gradient(per_pixel, colored(ab).expand_as(per_pixel)).mean()}


LOSSES: dict[str, dict[str, Loss]] = {
    "bins": {"rebalanced": rebalanced, "cross-entropy": cross_entropy},
    "regression": {"l2": l2},
}
"""Losses by the task's `output`; the default first."""


def soft_cross_entropy(logits: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """-Σ w log softmax(logits) over the bins of a sparse target, whose weights have sum 1.

    Args:
        logits: (B, Q, h, w).
        index, weight: (B, K, h, w), from `soft_targets`.

    Returns:
        (B, h, w).
    """
    return logits.logsumexp(1) - (logits.gather(1, index) * weight).sum(1)


def colored(ab: Tensor) -> Tensor:
    """(B, 2, h, w) to (B, 1, 1): 1 for an image with any color in it, 0 for a gray one."""
    return (ab.abs().amax((1, 2, 3)) > GRAY).float()[:, None, None]


def weighted_gradient(values: Tensor, weight: Tensor) -> Tensor:
    """Identity whose gradient is multiplied by weights of the same shape."""
    return _WeightedGradient.apply(values, weight)  # pyright: ignore[reportReturnType] - untyped in torch


class _WeightedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return gradients[0] * weight, None
