"""Losses of view synthesis: named terms of colors in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..network import LossTerms

BORDER = 2
"""Pixels at the border of the target that no loss counts: windows and convolutions are cut off there."""

Loss = Callable[[Tensor, Tensor], LossTerms]
"""Function of the predicted and the true colors, (B, 3, h, w)."""


def l1(colors: Tensor, image: Tensor) -> LossTerms:
    """Mean absolute difference, as in the paper, without a border of `BORDER` pixels."""
    difference = (colors - image).abs()
    cut = min(BORDER, (min(difference.shape[-2:]) - 1) // 2)
    return {"l1": difference[..., cut : difference.shape[-2] - cut, cut : difference.shape[-1] - cut].mean()}


LOSSES: dict[str, Loss] = {"l1": l1}
