"""What is known of pictures beforehand: terms that keep a painted picture from turning into noise.

    alpha norm        sum over pixels and channels of |x|^alpha, x about grey
    total variation   sum of ((right - here)^2 + (below - here)^2)^(beta / 2); at the last column and row the difference
                      is 0
    naturalness       how far the statistics in front of every batch normalisation are from those of the training

The first two: Mahendran, Vedaldi: Understanding Deep Image Representations by Inverting Them. CVPR 2015,
arXiv:1412.0035, section 2. The third: Yin et al.: Dreaming to Distill. CVPR 2020, arXiv:1912.08795, equation 4; here
the statistics are each picture's own, so that pictures painted together do not change each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

FLOOR = 1e-10
"""Under a root, whose gradient at 0 is infinite. The code of 2015 floors squared differences of bytes at 1e-5."""


def alpha_norm(x: Tensor, alpha: float = 6.0) -> Tensor:
    """(B,) of (B, C, H, W) about 0; no root is taken."""
    return x.abs().pow(alpha).flatten(1).sum(1)


def total_variation(x: Tensor, beta: float = 2.0) -> Tensor:
    """(B,) of (B, C, H, W). With beta below 2, edges cost less, and spikes too."""
    right = functional.pad(x.diff(dim=3), (0, 1))
    below = functional.pad(x.diff(dim=2), (0, 0, 0, 1))
    squares = right.square() + below.square()
    if beta != 2:
        squares = squares.clamp_min(FLOOR).pow(beta / 2)
    return squares.flatten(1).sum(1)


def has_statistics(model: nn.Module) -> bool:
    """Whether any layer remembers what it saw in training."""
    return any(_remembers(module) for module in model.modules())


@contextmanager
def unnaturalness(model: nn.Module) -> Iterator[Callable[[int], Tensor]]:
    """While it lasts, passes tell how far their statistics are from those of the training.

    Yields:
        A function of the number B of pictures that gives (B,): over all normalisations that the last passes met, the
        distances of the channels' means and variances. It forgets what it has told.
    """
    met: list[Tensor] = []

    def meet(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = layer.running_mean, layer.running_var
        assert isinstance(mean, Tensor) and isinstance(variance, Tensor)
        maps = inputs[0].float()
        met.append(_distance(maps.mean((2, 3)), mean) + _distance(maps.var((2, 3), correction=0), variance))

    def told(count: int) -> Tensor:
        # A trunk that sees two pictures a sample has a distance for each, the first pictures' first.
        distances = [each.view(-1, count).sum(0) for each in met]
        met.clear()
        return torch.stack(distances).sum(0) if distances else torch.zeros(count)

    hooks = [module.register_forward_pre_hook(meet) for module in model.modules() if _remembers(module)]
    try:
        yield told
    finally:
        for hook in hooks:
            hook.remove()


def _remembers(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None and not isinstance(module, nn.BatchNorm1d)


def _distance(here: Tensor, there: Tensor) -> Tensor:
    return (here - there).square().sum(1).clamp_min(FLOOR).sqrt()
