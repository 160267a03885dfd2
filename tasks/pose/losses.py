"""Losses of human pose estimation: Tukey's biweight, L2 and smooth L1 on coordinates, and L2 on heat maps.

Convention: predictions are compared with `joints` (B, J, 2) in the same unit, fractions of the image's width and
height for coordinates and cells for heat maps. `mask` (B, J) is true for labeled joints; the values of the others
change neither the loss nor a gradient. Coordinates come in stages (of a cascade), each of which is a term. Everything
is computed in float32; float64 stays float64.

Losses of coordinates are summed over an image's joints and averaged over the images, so that the authors' learning
rates apply; that of heat maps is a mean over joints and cells. `find_loss` selects the form for a network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ...errors import UserError
from ...registry import lookup
from ..network import LossTerms
from .heatmaps import SIGMA, encode, pixels_to_cells
from .networks import OutputType, PoseNetwork, pixels_to_fractions

NetworkLoss = Callable[[Any, Tensor, Tensor], LossTerms]
"""(network, images, joints in the form of a batch) to loss terms."""

TUKEY_C = 4.6851
"""Cutoff of Tukey's loss, in robust standard deviations: 95 % efficiency on normal errors."""
ROBUST_STD = 1.4826
"""Standard deviations of a normal distribution per median absolute deviation."""
WARMUP_BATCHES, WARMUP_SCALE = 50, 7.0
"""In the first batches the scale of Tukey's loss is multiplied; without this, nearly all errors would be outliers."""
MIN_MAD = 1e-3
"""Minimum scale, a thousandth of the image. If all errors of an output are equal, as in a batch of one, MAD is 0."""
SMOOTH_L1_BETA = 0.05
"""Transition from the parabola to the line, in fractions of the image; our choice."""

Gradient = Literal["autograd", "authors"]


def tukey(
    stages: list[Tensor], joints: Tensor, mask: Tensor, warmup: Tensor | bool = False, grad: Gradient = "autograd"
) -> LossTerms:
    """Tukey's biweight: ρ(r) = c²/6 (1 - (1 - (r/c)²)³) up to c = 4.6851, and c²/6 beyond: outliers have no gradient.

    r is the error over the MAD of its output: over the batch (of this process, if there are several), separately for
    each x and each y, and a constant for the gradient. The MAD of a small batch is unreliable; the authors' has 230.

    Args:
        stages: (B, J, 2) each, fractions.
        joints, mask: see the convention above.
        warmup: whether the scale is 7 times as wide: the authors' first 50 batches.
        grad: "autograd" is the gradient of the sum of ρ, ψ(r) / MAD. The authors' code leaves out 1 / MAD; "authors"
            has that gradient, as that of the sum of MAD · ρ, which is the value returned. Learning rates differ by MAD.

    Source: Belagiannis et al. 2015 (arXiv:1505.06606), and the released vl_nntukeyloss.m.
    """

    def cost(error: Tensor) -> Tensor:
        widen = torch.as_tensor(warmup, device=error.device)
        scale = mad(error.detach(), mask).clamp_min(MIN_MAD) * torch.where(widen, WARMUP_SCALE, 1.0)
        # Clamped so that the gradient of the plateau is 0 however far the outlier is.
        x = (error / scale / TUKEY_C).clamp(-1, 1)
        rho = TUKEY_C**2 / 6 * (1 - (1 - x.square()) ** 3)
        return scale * rho if grad == "authors" else rho

    return _terms_per_stage("tukey", cost, stages, joints, mask)


def l2(stages: list[Tensor], joints: Tensor, mask: Tensor) -> LossTerms:
    """x² / 2 of every error x; see the convention above."""
    return _terms_per_stage("l2", lambda error: error.square() / 2, stages, joints, mask)


def smooth_l1(stages: list[Tensor], joints: Tensor, mask: Tensor) -> LossTerms:
    """x² / 2β of errors up to β = 0.05, |x| - β/2 beyond.

    Source: Girshick 2015 (Fast R-CNN, arXiv:1504.08083), equation 3, with β = 1.
    """

    def cost(error: Tensor) -> Tensor:
        size = error.abs()
        return torch.where(size < SMOOTH_L1_BETA, size.square() / (2 * SMOOTH_L1_BETA), size - SMOOTH_L1_BETA / 2)

    return _terms_per_stage("smooth_l1", cost, stages, joints, mask)


def heatmaps(maps: Tensor, joints: Tensor, mask: Tensor, sigma: float = SIGMA, rounded: bool = False) -> LossTerms:
    """Half the mean squared difference to Gaussians around the joints; maps of unlabeled joints count as 0 error.

    Args:
        maps: (B, J, h, w).
        joints: in cells. One that is outside the map counts as unlabeled.
        mask: see the convention above.
        sigma, rounded: of the Gaussians; see `heatmaps.encode`.

    Source: Xiao et al. 2018 (arXiv:1804.06208), section 2, and the released JointsMSELoss.
    """
    maps = _full_precision(maps)
    target, valid = encode(_full_precision(joints), mask, (maps.shape[-2], maps.shape[-1]), sigma, rounded)
    return {"heatmaps": torch.where(valid[..., None, None], maps - target, 0.0).square().mean() / 2}


def mad(errors: Tensor, mask: Tensor) -> Tensor:
    """1.4826 times the median absolute deviation from the median, over the batch, of every output.

    Args:
        errors: (B, J, 2).
        mask: (B, J), which of them count.

    Returns:
        (J, 2); 0 if none count. The median of an even number is the mean of the middle two, as in numpy.
    """
    counted = torch.where(mask[..., None], errors, torch.nan)
    deviation = (counted - _nanmedian(counted)).abs()
    return ROBUST_STD * torch.nan_to_num(_nanmedian(deviation), nan=0.0)


def _coordinate_loss(terms: Callable[..., LossTerms]) -> NetworkLoss:
    def compute(network: Any, image: Tensor, joints: Tensor) -> LossTerms:
        points, mask = _split_joints(joints)
        return terms(network.coordinates(image), pixels_to_fractions(points, (image.shape[-2], image.shape[-1])), mask)

    return compute


def _tukey_loss(grad: Gradient) -> NetworkLoss:
    def compute(network: Any, image: Tensor, joints: Tensor) -> LossTerms:
        warmup = network.compared < WARMUP_BATCHES
        if network.training:
            network.compared.add_(1)
        return _coordinate_loss(partial(tukey, warmup=warmup, grad=grad))(network, image, joints)

    return compute


def _heatmap_loss(rounded: bool) -> NetworkLoss:
    def compute(network: Any, image: Tensor, joints: Tensor) -> LossTerms:
        points, mask = _split_joints(joints)
        return heatmaps(network(image), pixels_to_cells(points), mask, network.sigma, rounded)

    return compute


# By the output type that they apply to. "paper" is the default: Belagiannis's for coordinates, Xiao's for heat maps.
LOSSES: dict[str, dict[OutputType, NetworkLoss]] = {
    "paper": {"coordinates": _tukey_loss("autograd"), "heatmaps": _heatmap_loss(rounded=False)},
    "tukey": {"coordinates": _tukey_loss("autograd")},
    "tukey-authors": {"coordinates": _tukey_loss("authors")},
    "l2": {"coordinates": _coordinate_loss(l2)},
    "smooth-l1": {"coordinates": _coordinate_loss(smooth_l1)},
    "heatmaps": {"heatmaps": _heatmap_loss(rounded=False)},
    "heatmaps-rounded": {"heatmaps": _heatmap_loss(rounded=True)},
}


def find_loss(name: str, network: PoseNetwork) -> Callable[[Tensor, Tensor], LossTerms]:
    """A loss by name, in the form for a network: (images, joints) to terms.

    Raises:
        UserError: no such loss, or one that does not apply to the network's output type.
    """
    losses = lookup("loss of the task pose", name, LOSSES)
    if network.output_type not in losses:
        applicable = ", ".join(other for other, types in LOSSES.items() if network.output_type in types)
        raise UserError(
            f"The loss '{name}' does not apply to a model that predicts {network.output_type}: use --loss with one of "
            f"{applicable}."
        )
    return partial(losses[network.output_type], network)


def _split_joints(joints: Tensor) -> tuple[Tensor, Tensor]:
    """Points (B, J, 2), 0 for unlabeled joints whatever their value, and the mask of labeled ones (B, J)."""
    mask = joints[..., 2] > 0
    return torch.where(mask[..., None], joints[..., :2], 0.0), mask


def _terms_per_stage(
    name: str, cost: Callable[[Tensor], Tensor], stages: list[Tensor], joints: Tensor, mask: Tensor
) -> LossTerms:
    """One term per stage: the cost of every labeled error, summed over an image, averaged over the images."""
    terms = {}
    for number, stage in enumerate(stages, 1):
        error = torch.where(mask[..., None], _full_precision(stage) - _full_precision(joints), 0.0)
        costs = torch.where(mask[..., None], cost(error), 0.0)
        terms[name if len(stages) == 1 else f"{name}_{number}"] = costs.flatten(1).sum(1).mean()
    return terms


def _nanmedian(values: Tensor) -> Tensor:
    """Over the first axis. Unlike `torch.nanmedian`, the middle two of an even number are averaged."""
    return torch.nanquantile(values, 0.5, dim=0)


def _full_precision(values: Tensor) -> Tensor:
    """As float32; float64 stays float64."""
    return values if values.dtype == torch.float64 else values.float()
