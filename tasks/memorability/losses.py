"""Losses of memorability: named terms of the scores, main output first, and the true scores (B,)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn import functional

from ..network import LossTerms

AUXILIARY_WEIGHT = 0.3
"""Weight of each auxiliary output, as in classification."""


def l2(scores: Sequence[Tensor], score: Tensor) -> LossTerms:
    """Mean squared error: Caffe's Euclidean loss, which MemNet is trained with, without its factor 1/2.

    Args:
        scores: (B, 1) each, those of the main output first; auxiliary outputs have a weight of 0.3 each.
        score: (B,).
    """
    main, *others = (functional.mse_loss(each[:, 0], score) for each in scores)
    terms = {"l2": main}
    if others:
        terms["auxiliary"] = AUXILIARY_WEIGHT * sum(others[1:], others[0])
    return terms


LOSSES: dict[str, Callable[[Sequence[Tensor], Tensor], LossTerms]] = {"l2": l2}
