"""Losses of depth estimation.

Convention: `prediction` and `target` are (B, H, W) meters, `mask` is (B, H, W) bool and True where the target is known.
Values at unknown pixels (zero, nan) affect neither the loss nor its gradient. Predictions are assumed to be positive;
they are clamped to `MIN_DEPTH` before logarithms, with gradient 0 below. Every loss is averaged over the known pixels
of each image, then over the images with known pixels: an image without any does not count, and the loss of a batch
without any is 0. (Two processes are then equivalent to one with twice the batch size if every image has known pixels.)
Losses are computed in float32, also under autocast; float64 stays float64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]

MIN_DEPTH = 1e-3
"""Minimum of predictions before logarithms, in meters. After a ReLU they can be 0, whose logarithm is infinite."""

BERHU_SHARE = 0.2
EIGEN_LAMBDA = 0.5
BTS_LAMBDA, BTS_SCALE = 0.85, 10.0
GRADIENT_SCALES = 4
GRADIENT_WEIGHT = 0.5
"""As in MiDaS: for ground truth of sensors, which blur and displace edges."""
EXACT_GRADIENT_WEIGHT = 3.0
"""For ground truth that is exact to the pixel. On synthetic-rooms, from scratch, 2 instead of 0.5 lowered abs_rel
after 12,800 images from 0.198 to 0.187; on 7-Scenes, 3 instead of 0.5 raised it after 210 steps from 0.112 to 0.144."""
_EPSILON = 1e-12


def l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean |p - g| in meters; see the convention above."""
    return _mean(_residual(prediction, target, mask).abs(), mask)


def l2(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean (p - g)² in square meters; see the convention above."""
    return _mean(_residual(prediction, target, mask).square(), mask)


def berhu(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Reverse Huber loss (berHu): |x| up to c, (x² + c²) / 2c above, x = p - g.

    c is a fifth of the maximum |x| over all known pixels of the batch (of this process, if there are several),
    and a constant for the gradient. Value and gradient are continuous at c.

    Source: Laina et al. 2016 (arXiv:1606.00373), equation 2.
    """
    error = _residual(prediction, target, mask).abs()
    # For perfect predictions, c would be 0, and 0 / 0 in the branch that `where` does not select.
    c = (BERHU_SHARE * error.detach().amax()).clamp_min(1e-6)
    return _mean(torch.where(error <= c, error, (error.square() + c.square()) / (2 * c)), mask)


def scale_invariant_log(prediction: Tensor, target: Tensor, mask: Tensor, balance: float = EIGEN_LAMBDA) -> Tensor:
    """Scale-invariant log loss: mean d² - λ (mean d)² per image, d = ln p - ln g.

    Args:
        prediction, target, mask: see the convention above.
        balance: λ; 0 is the mean squared error of the logarithms, 1 their variance, which is invariant to scale.

    Source: Eigen, Puhrsch, Fergus 2014 (arXiv:1406.2283), equation 4 with λ = 0.5.
    """
    return _over_images(_log_spread(prediction, target, mask, balance), mask)


def silog(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """SILog loss: 10 √(mean d² - 0.85 (mean d)²) per image, d = ln p - ln g.

    Source: Lee et al. 2019 (BTS, arXiv:1907.10326), equation 4, with means over the pixels of the batch.
    """
    spread = _log_spread(prediction, target, mask, BTS_LAMBDA)
    # The slope of the square root at 0 is infinite.
    return _over_images(BTS_SCALE * spread.clamp_min(_EPSILON).sqrt(), mask)


def log_l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean |ln p - ln g|; see the convention above."""
    return _mean(_log_residual(prediction, target, mask).abs(), mask)


def gradient_matching(
    prediction: Tensor, target: Tensor, mask: Tensor, scales: int = GRADIENT_SCALES, of_logarithms: bool = True
) -> Tensor:
    """Multi-scale gradient matching: Σ over scales of (Σ |∂x R| + |∂y R|) / known pixels, per image.

    R is the residual; each scale halves the resolution by taking every second pixel, and a difference counts if both
    of its pixels are known.

    Args:
        prediction, target, mask: see the convention above.
        scales: number of scales.
        of_logarithms: use R = ln p - ln g; else p - g in meters.

    Source: Ranftl et al. 2020 (MiDaS, arXiv:1907.01341), equation 11; R there is of aligned disparities.
    """
    residual = (_log_residual if of_logarithms else _residual)(prediction, target, mask)
    total = residual.new_zeros(residual.shape[0])
    for scale in range(scales):
        step = 2**scale
        r, known = residual[:, ::step, ::step], mask[:, ::step, ::step]
        dx = (r[:, :, 1:] - r[:, :, :-1]).abs() * (known[:, :, 1:] & known[:, :, :-1])
        dy = (r[:, 1:] - r[:, :-1]).abs() * (known[:, 1:] & known[:, :-1])
        total = total + (dx.sum((1, 2)) + dy.sum((1, 2))) / known.sum((1, 2)).clamp_min(1)
    return _over_images(total, mask)


def log_and_gradients(
    prediction: Tensor, target: Tensor, mask: Tensor, weight: float = GRADIENT_WEIGHT
) -> dict[str, Tensor]:
    """Mean |ln p - ln g| and the weighted gradient matching of the logarithms, as two named terms.

    Relative errors weight near and far surfaces equally; gradient matching sharpens edges.
    """
    return {
        "log_l1": log_l1(prediction, target, mask),
        "gradients": weight * gradient_matching(prediction, target, mask),
    }


def _single_term(name: str, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loss:
    return lambda prediction, target, mask: {name: loss(prediction, target, mask)}


# The default one first. Each returns named terms, which the training loop adds up.
LOSSES: dict[str, Loss] = {
    "log-l1+grad": log_and_gradients,
    "log-l1+grad-strong": partial(log_and_gradients, weight=EXACT_GRADIENT_WEIGHT),
    "berhu": _single_term("berhu", berhu),
    "l1": _single_term("l1", l1),
    "l2": _single_term("l2", l2),
    "scale-invariant-log": _single_term("scale_invariant_log", scale_invariant_log),
    "silog": _single_term("silog", silog),
}


def resize_target(target: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Resize target and mask to the output size of a model by nearest neighbor; means would be false depths at edges.

    Args:
        target: (B, H, W) meters.
        mask: (B, H, W) bool.
        size: (height, width) of the prediction.

    Returns:
        (B, *size) meters and bool.
    """
    if tuple(target.shape[-2:]) == tuple(size):
        return target, mask
    height, width = target.shape[-2:]
    # The pixel whose area contains the center of the output pixel.
    rows = ((torch.arange(size[0], device=target.device) * 2 + 1) * height) // (2 * size[0])
    columns = ((torch.arange(size[1], device=target.device) * 2 + 1) * width) // (2 * size[1])
    return target[:, rows[:, None], columns], mask[:, rows[:, None], columns]


def _to_float32(values: Tensor) -> Tensor:
    """float32, or float64 unchanged."""
    return values if values.dtype == torch.float64 else values.float()


def _residual(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """p - g; exactly 0 with gradient 0 at unknown pixels, even if either value is nan."""
    prediction, target = _to_float32(prediction), _to_float32(target)
    return torch.where(mask, prediction, 0.0) - torch.where(mask, target, 0.0)


def _log_residual(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    # Masked before the logarithm: otherwise the gradient of the masked branch is 0 * inf, which is nan.
    prediction = torch.where(mask, _to_float32(prediction), 1.0).clamp_min(MIN_DEPTH)
    target = torch.where(mask, _to_float32(target), 1.0).clamp_min(MIN_DEPTH)
    return prediction.log() - target.log()


def _log_spread(prediction: Tensor, target: Tensor, mask: Tensor, balance: float) -> Tensor:
    """(B,) mean d² - balance (mean d)²."""
    d = _log_residual(prediction, target, mask)
    return _per_image(d.square(), mask) - balance * _per_image(d, mask).square()


def _per_image(values: Tensor, mask: Tensor) -> Tensor:
    """(B,) means over the known pixels, 0 if there are none. Values must be 0 at unknown pixels."""
    return values.sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)


def _over_images(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B,) over the images with known pixels."""
    valid = mask.any(2).any(1)
    return torch.where(valid, values, 0.0).sum() / valid.sum().clamp_min(1)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return _over_images(_per_image(values, mask), mask)
