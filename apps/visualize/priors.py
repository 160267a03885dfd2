"""What is known of pictures beforehand: terms that keep a painted picture from turning into noise.

    alpha norm        sum over pixels and channels of |x|^alpha, x about grey
    total variation   sum of ((right - here)^2 + (below - here)^2)^(beta / 2); at the last column and row the difference
                      is 0
    naturalness       how far the statistics in front of every batch normalisation are from those of the training

The first two: Mahendran, Vedaldi: Understanding Deep Image Representations by Inverting Them. CVPR 2015,
arXiv:1412.0035, section 2. The third: Yin et al.: Dreaming to Distill. CVPR 2020, arXiv:1912.08795, equation 4. The
statistics are those of all pictures that are painted together: one alone would have to be everything at once.
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
FIRST = 10.0
"""Weight of the first normalisation, which sees fine noise; the code of 2020 has it, its paper has not."""


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
def unnaturalness(model: nn.Module) -> Iterator[Callable[[], Tensor]]:
    """While it lasts, passes tell how far their statistics are from those of the training.

    Yields:
        A function that gives one number: over all normalisations that the last passes met, the distances of the
        channels' means and variances over all pictures and places. It forgets what it has told.
    """
    met: list[Tensor] = []

    def meet(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = layer.running_mean, layer.running_var
        assert isinstance(mean, Tensor) and isinstance(variance, Tensor)
        maps = inputs[0].float()
        far = _distance(maps.mean((0, 2, 3)), mean) + _distance(maps.var((0, 2, 3), correction=0), variance)
        met.append(far if met else FIRST * far)

    def told() -> Tensor:
        far = torch.stack(met).sum() if met else torch.zeros(())
        met.clear()
        return far

    hooks = [module.register_forward_pre_hook(meet) for module in model.modules() if _remembers(module)]
    try:
        yield told
    finally:
        for hook in hooks:
            hook.remove()


def _remembers(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None and not isinstance(module, nn.BatchNorm1d)


def _distance(here: Tensor, there: Tensor) -> Tensor:
    return (here - there).square().sum().clamp_min(FLOOR).sqrt()
