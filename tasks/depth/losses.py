"""Losses of depth estimation.

Convention: `prediction` and `truth` are (B, H, W) metres, `mask` is (B, H, W) bool and True where the truth is
known. Whatever stands at unknown pixels (zero, nan) reaches neither a value nor a gradient. Predictions are taken to
be positive; logarithms clamp them at `SMALLEST_DEPTH`, below which their gradient is 0. Every loss is averaged over
the known pixels of each picture, then over the pictures that have any: a picture without one counts nothing, and a
batch without one costs 0. (Two processes then equal one of twice the batch whenever every picture knows a pixel.)
Everything is computed in float32, whatever autocast says; float64 stays float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ...errors import unknown_name

Loss = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]

SMALLEST_DEPTH = 1e-3
"""Metres. A ReLU on the prediction can give exact zeros, whose logarithm is infinite."""

BERHU_SHARE = 0.2
EIGEN_LAMBDA = 0.5
BTS_LAMBDA, BTS_SCALE = 0.85, 10.0
GRADIENT_SCALES = 4
GRADIENT_WEIGHT = 0.5
"""As in MiDaS: for the truth of sensors, which blurs and misplaces edges."""
EXACT_GRADIENT_WEIGHT = 3.0
"""Where the truth is exact to the pixel. On rooms, from scratch, 2 instead of 0.5 lowered abs_rel after 12,800 pictures
from 0.198 to 0.187; on 7-Scenes, 3 instead of 0.5 raised it after 210 steps from 0.112 to 0.144."""
_EPSILON = 1e-12


def l1(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Mean |p - g| in metres; see the convention above."""
    return _mean(_residual(prediction, truth, mask).abs(), mask)


def l2(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Mean (p - g)² in square metres; see the convention above."""
    return _mean(_residual(prediction, truth, mask).square(), mask)


def berhu(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """The reverse Huber loss: |x| up to c, (x² + c²) / 2c above, x = p - g.

    c is a fifth of the largest |x| over all known pixels of the batch (of this process, where there are several),
    and a constant for the gradient. Value and gradient are continuous at c.

    Source: Laina et al. 2016 (arXiv:1606.00373), equation 2.
    """
    size = _residual(prediction, truth, mask).abs()
    # A batch answered perfectly has c = 0, and 0 / 0 in the branch that `where` does not take.
    c = (BERHU_SHARE * size.detach().amax()).clamp_min(1e-6)
    return _mean(torch.where(size <= c, size, (size.square() + c.square()) / (2 * c)), mask)


def scale_invariant_log(prediction: Tensor, truth: Tensor, mask: Tensor, balance: float = EIGEN_LAMBDA) -> Tensor:
    """Mean d² - λ (mean d)² per picture, d = ln p - ln g.

    Args:
        prediction, truth, mask: see the convention above.
        balance: λ; 0 is the plain error of the logarithms, 1 their variance, which no global factor changes.

    Source: Eigen, Puhrsch, Fergus 2014 (arXiv:1406.2283), equation 4 with λ = 0.5.
    """
    return _over_pictures(_log_spread(prediction, truth, mask, balance), mask)


def silog(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """10 √(mean d² - 0.85 (mean d)²) per picture, d = ln p - ln g.

    Source: Lee et al. 2019 (BTS, arXiv:1907.10326), equation 4, which takes the means over the batch's pixels.
    """
    spread = _log_spread(prediction, truth, mask, BTS_LAMBDA)
    # The square root's slope at 0 is infinite.
    return _over_pictures(BTS_SCALE * spread.clamp_min(_EPSILON).sqrt(), mask)


def log_l1(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Mean |ln p - ln g|; see the convention above."""
    return _mean(_log_residual(prediction, truth, mask).abs(), mask)


def gradient_matching(
    prediction: Tensor, truth: Tensor, mask: Tensor, scales: int = GRADIENT_SCALES, of_logarithms: bool = True
) -> Tensor:
    """Σ over scales of (Σ |∂x R| + |∂y R|) / known pixels, per picture: edges where the truth has edges.

    R is the residual; a scale halves the resolution by taking every second pixel, and a difference counts where
    both its pixels are known.

    Args:
        prediction, truth, mask: see the convention above.
        scales: how many resolutions.
        of_logarithms: R = ln p - ln g; else p - g in metres.

    Source: Ranftl et al. 2020 (MiDaS, arXiv:1907.01341), equation 11; R there is of aligned disparities.
    """
    residual = (_log_residual if of_logarithms else _residual)(prediction, truth, mask)
    total = residual.new_zeros(residual.shape[0])
    for scale in range(scales):
        step = 2**scale
        r, known = residual[:, ::step, ::step], mask[:, ::step, ::step]
        across = (r[:, :, 1:] - r[:, :, :-1]).abs() * (known[:, :, 1:] & known[:, :, :-1])
        down = (r[:, 1:] - r[:, :-1]).abs() * (known[:, 1:] & known[:, :-1])
        total = total + (across.sum((1, 2)) + down.sum((1, 2))) / known.sum((1, 2)).clamp_min(1)
    return _over_pictures(total, mask)


def log_and_gradients(
    prediction: Tensor, truth: Tensor, mask: Tensor, weight: float = GRADIENT_WEIGHT
) -> dict[str, Tensor]:
    """Mean |ln p - ln g| beside the weighted gradient matching of the logarithms: two named terms.

    Relative errors, so that near and far surfaces count alike, and edges as sharp as the truth's.
    """
    return {
        "log_l1": log_l1(prediction, truth, mask),
        "gradients": weight * gradient_matching(prediction, truth, mask),
    }


def _alone(name: str, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loss:
    return lambda prediction, truth, mask: {name: loss(prediction, truth, mask)}


# The usual one first. Each gives named terms, which the loop sums.
LOSSES: dict[str, Loss] = {
    "log": log_and_gradients,
    "log-edges": partial(log_and_gradients, weight=EXACT_GRADIENT_WEIGHT),
    "berhu": _alone("berhu", berhu),
    "l1": _alone("l1", l1),
    "l2": _alone("l2", l2),
    "scale-invariant-log": _alone("scale_invariant_log", scale_invariant_log),
    "silog": _alone("silog", silog),
}


def find_loss(name: str) -> Loss:
    """The loss of a name.

    Raises:
        UserError: no such loss; the nearest name is offered.
    """
    if name not in LOSSES:
        raise unknown_name("depth loss", name, LOSSES)
    return LOSSES[name]


def at_size(truth: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Truth and mask at a network's own output size, by the nearest pixel: a mean would invent depths at edges.

    Args:
        truth: (B, H, W) metres.
        mask: (B, H, W) bool.
        size: (height, width) of the prediction.

    Returns:
        (B, *size) metres and bool.
    """
    if tuple(truth.shape[-2:]) == tuple(size):
        return truth, mask
    height, width = truth.shape[-2:]
    # The pixel whose area holds the centre of the output pixel.
    rows = ((torch.arange(size[0], device=truth.device) * 2 + 1) * height) // (2 * size[0])
    columns = ((torch.arange(size[1], device=truth.device) * 2 + 1) * width) // (2 * size[1])
    return truth[:, rows[:, None], columns], mask[:, rows[:, None], columns]


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _residual(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """p - g, and exact zero with zero gradient at unknown pixels, even where either is nan."""
    prediction, truth = _wide(prediction), _wide(truth)
    return torch.where(mask, prediction, 0.0) - torch.where(mask, truth, 0.0)


def _log_residual(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    # Masked before the logarithm: the gradient of a branch that `where` drops is 0 times its own, and 0 * inf is nan.
    prediction = torch.where(mask, _wide(prediction), 1.0).clamp_min(SMALLEST_DEPTH)
    truth = torch.where(mask, _wide(truth), 1.0).clamp_min(SMALLEST_DEPTH)
    return prediction.log() - truth.log()


def _log_spread(prediction: Tensor, truth: Tensor, mask: Tensor, balance: float) -> Tensor:
    """(B,) mean d² - balance (mean d)²."""
    d = _log_residual(prediction, truth, mask)
    return _per_picture(d.square(), mask) - balance * _per_picture(d, mask).square()


def _per_picture(values: Tensor, mask: Tensor) -> Tensor:
    """(B,) means over the known pixels, 0 where there are none. Values are 0 at unknown pixels already."""
    return values.sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)


def _over_pictures(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B,) over the pictures that have a known pixel."""
    counts = mask.any(2).any(1)
    return torch.where(counts, values, 0.0).sum() / counts.sum().clamp_min(1)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return _over_pictures(_per_picture(values, mask), mask)
