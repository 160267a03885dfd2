"""Losses of restoration.

Convention: `restored` and `clean` are (B, 3, H, W), encoded values in [0, 1]; `restored` may reach beyond. Computed in
float32, whatever autocast says; float64 stays float64. Averaged over the pictures.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import unknown_name

Loss = Callable[[Tensor, Tensor], dict[str, Tensor]]

CHARBONNIER_EPSILON = 1e-3


def charbonnier(restored: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Mean √(x² + ε²), x the difference: the absolute value with a round bottom, so that small errors settle.

    Source: Charbonnier et al. 1994; Lai et al. 2017 (LapSRN, arXiv:1704.03915), equation 3, ε = 1e-3.
    """
    difference = _difference(restored, clean)
    return {"charbonnier": (difference.square() + CHARBONNIER_EPSILON**2).sqrt().mean()}


def l1(restored: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Mean |x| over pixels and colours."""
    return {"l1": _difference(restored, clean).abs().mean()}


def l2(restored: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Half the squared norm of each picture's difference, summed over pixels and colours, the mean over pictures.

    Its size, and so what a learning rate means, grows with the picture's.

    Source: Eigen, Krishnan, Fergus 2013, equation 2.
    """
    return {"l2": _difference(restored, clean).square().flatten(1).sum(1).mean() / 2}


# The usual one first. Each gives named terms, which the loop sums.
LOSSES: dict[str, Loss] = {"charbonnier": charbonnier, "l1": l1, "l2": l2}


def find_loss(name: str) -> Loss:
    """The loss of a name.

    Raises:
        UserError: no such loss; the nearest name is offered.
    """
    if name not in LOSSES:
        raise unknown_name("restoration loss", name, LOSSES)
    return LOSSES[name]


def interior(clean: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of a truth, where a network answers for the interior of its input only.

    Args:
        clean: (B, 3, H, W).
        size: (height, width) of the answer; as much is missing on the one side as on the other.
    """
    top, left = (clean.shape[-2] - size[0]) // 2, (clean.shape[-1] - size[1]) // 2
    return clean[..., top : top + size[0], left : left + size[1]]


def _difference(restored: Tensor, clean: Tensor) -> Tensor:
    if restored.dtype == torch.float64:
        return restored - clean
    return restored.float() - clean.float()
