"""Losses of colorization.

Convention: `raw` is (B, channels of the answer, h, w) as a network's `raw` gives it, `ab` is (B, 2, h, w), the true
colour at the same places. Losses are averaged over the pixels of each picture, then over pictures, in float32.

Weights act on the gradient alone, as in the authors' code: the value printed stays the plain loss, which can be
compared between weightings. A picture in which no |a| or |b| exceeds 5 is a grey photograph that teaches grey; its
weight is 0 in every loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...errors import unknown_name
from ..task import Terms
from .answers import Classes, Regression
from .encoding import rarity, soft_targets
from .lab import AB_RANGE

GREY = 5.0

Loss = Callable[[Tensor, Tensor, Any, int], Terms]


def rebalanced(raw: Tensor, ab: Tensor, answer: Classes, neighbours: int) -> Terms:
    """Soft cross-entropy whose gradient is multiplied by the rarity of the true colour under the network's prior.

    Args:
        raw, ab: see the convention above.
        answer: whose prior is used.
        neighbours: bins of a soft target.

    Source: Zhang et al. 2016, equations 2 to 4.
    """
    index, weight = soft_targets(ab.float(), neighbours)
    per_pixel = soft_cross_entropy(raw.float(), index, weight)
    return {"cross_entropy": weighted_gradient(per_pixel, rarity(answer.prior)[index[:, 0]] * coloured(ab)).mean()}


def classification(raw: Tensor, ab: Tensor, answer: Classes, neighbours: int) -> Terms:
    """Soft cross-entropy, every colour alike; see `rebalanced`."""
    per_pixel = soft_cross_entropy(raw.float(), *soft_targets(ab.float(), neighbours))
    return {"cross_entropy": weighted_gradient(per_pixel, coloured(ab).expand_as(per_pixel)).mean()}


def l2(raw: Tensor, ab: Tensor, answer: Regression, neighbours: int) -> Terms:
    """Half the squared distance of the colours, in units of 110 (Zhang et al. 2016, equation 1)."""
    per_pixel = (raw.float() - ab.float() / AB_RANGE).square().sum(1) / 2
    return {"l2": weighted_gradient(per_pixel, coloured(ab).expand_as(per_pixel)).mean()}


LOSSES: dict[str, dict[str, Loss]] = {
    "classes": {"rebalanced": rebalanced, "classification": classification},
    "regression": {"l2": l2},
}
"""By what a network answers; the usual one first."""


def find_loss(answer: str, name: str) -> Loss:
    """The loss of a name.

    Raises:
        UserError: no loss of this name for this answer.
    """
    if name not in LOSSES[answer]:
        raise unknown_name(f"loss for --answer {answer}", name, LOSSES[answer])
    return LOSSES[answer][name]


def soft_cross_entropy(logits: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """-Σ w log softmax(logits) over the bins of a sparse target, whose weights add up to 1.

    Args:
        logits: (B, Q, h, w).
        index, weight: (B, K, h, w) as `soft_targets` gives them.

    Returns:
        (B, h, w).
    """
    return logits.logsumexp(1) - (logits.gather(1, index) * weight).sum(1)


def coloured(ab: Tensor) -> Tensor:
    """(B, 2, h, w) to (B, 1, 1): 1 for a picture with any colour in it, 0 for a grey one."""
    return (ab.abs().amax((1, 2, 3)) > GREY).float()[:, None, None]


def weighted_gradient(values: Tensor, weight: Tensor) -> Tensor:
    """The values as they are; on the way back their gradient is multiplied by the weights of the same shape."""
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
