"""Image priors: regularizers of feature visualization and feature inversion.

    alpha norm        sum over pixels and channels of |x|^alpha, x about gray
    total variation   sum of ((right - here)^2 + (below - here)^2)^(beta / 2); at the last column and row the difference
                      is 0
    BN statistics     distance of the batch statistics at every batch normalization to its running statistics

The first two: Mahendran, Vedaldi: Understanding Deep Image Representations by Inverting Them. CVPR 2015,
arXiv:1412.0035, section 2. The third: Yin et al.: Dreaming to Distill. CVPR 2020, arXiv:1912.08795, equation 4. The
statistics are those of the entire batch: a single image cannot have the statistics of a data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

EPSILON = 1e-10
"""Minimum under a square root, whose gradient at 0 is infinite. The code of 2015 uses 1e-5 for squared bytes."""
FIRST_LAYER_WEIGHT = 10.0
"""Weight of the first normalization, which detects fine noise; in the code of 2020, not in the paper."""


def alpha_norm(x: Tensor, alpha: float = 6.0) -> Tensor:
    """sum |x|^alpha, (B,) from (B, C, H, W) about 0; without the root."""
    return x.abs().pow(alpha).flatten(1).sum(1)


def total_variation(x: Tensor, beta: float = 2.0) -> Tensor:
    """Total variation, (B,) from (B, C, H, W). With beta below 2, edges cost less, and spikes too."""
    right = functional.pad(x.diff(dim=3), (0, 1))
    below = functional.pad(x.diff(dim=2), (0, 0, 0, 1))
    squares = right.square() + below.square()
    if beta != 2:
        squares = squares.clamp_min(EPSILON).pow(beta / 2)
    return squares.flatten(1).sum(1)


@contextmanager
def bn_statistics_loss(model: nn.Module) -> Iterator[Callable[[], Tensor]]:
    """Context that records the batch statistics of forward passes at every batch normalization.

    Yields:
        A function that returns the loss of the passes since its last call: the sum over the normalizations of the
        distances of the channels' means and variances, over all images and positions, to the running statistics.
    """
    distances: list[Tensor] = []

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = layer.running_mean, layer.running_var
        assert isinstance(mean, Tensor) and isinstance(variance, Tensor)
        maps = inputs[0].float()
        distance = _distance(maps.mean((0, 2, 3)), mean) + _distance(maps.var((0, 2, 3), correction=0), variance)
        distances.append(distance if distances else FIRST_LAYER_WEIGHT * distance)

    def pop_loss() -> Tensor:
        distance = torch.stack(distances).sum() if distances else torch.zeros(())
        distances.clear()
        return distance

    hooks = [module.register_forward_pre_hook(hook) for module in model.modules() if _has_running_statistics(module)]
    try:
        yield pop_loss
    finally:
        for handle in hooks:
            handle.remove()


def _has_running_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None and not isinstance(module, nn.BatchNorm1d)


def _distance(batch_statistic: Tensor, running_statistic: Tensor) -> Tensor:
    return (batch_statistic - running_statistic).square().sum().clamp_min(EPSILON).sqrt()
