"""Losses of image restoration.

Convention: `restored` and `clean` are (B, 3, H, W), sRGB values in [0, 1]; `restored` may exceed this range. Losses are
computed in float32, also under autocast (float64 stays float64), and averaged over the images.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], dict[str, Tensor]]

CHARBONNIER_EPSILON = 1e-3


def charbonnier(restored: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Charbonnier loss: mean √(x² + ε²), x the difference. It is |x| with a smooth minimum.

    Source: Charbonnier et al. 1994; Lai et al. 2017 (LapSRN, arXiv:1704.03915), equation 3, ε = 1e-3.
    """
    difference = _difference(restored, clean)
    return {"charbonnier": (difference.square() + CHARBONNIER_EPSILON**2).sqrt().mean()}


def l1(restored: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Mean |x| over pixels and channels."""
    return {"l1": _difference(restored, clean).abs().mean()}


def l2(restored: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Half the squared difference, summed over pixels and channels, averaged over images.

    The loss, and with it the effect of a learning rate, grows with the size of the image.

    Source: Eigen, Krishnan, Fergus 2013, equation 2.
    """
    return {"l2": _difference(restored, clean).square().flatten(1).sum(1).mean() / 2}


# The default one first. Each returns named terms, which the training loop adds up.
LOSSES: dict[str, Loss] = {"charbonnier": charbonnier, "l1": l1, "l2": l2}


def interior(clean: Tensor, size: tuple[int, int]) -> Tensor:
    """Center crop of the clean image, for models that predict only the interior of their input.

    Args:
        clean: (B, 3, H, W).
        size: (height, width) of the prediction.
    """
    top, left = (clean.shape[-2] - size[0]) // 2, (clean.shape[-1] - size[1]) // 2
    return clean[..., top : top + size[0], left : left + size[1]]


def _difference(restored: Tensor, clean: Tensor) -> Tensor:
    if restored.dtype == torch.float64:
        return restored - clean
    return restored.float() - clean.float()
