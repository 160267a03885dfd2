"""Losses of human pose.

Convention: what a network made is compared with `joints` (B, J, 2) in the same unit, fractions of the picture's sides
for coordinates and cells for heat maps, where `mask` (B, J) says that a joint is labelled; whatever stands at others
reaches neither a value nor a gradient. Coordinates come in stages (a cascade's), each of which is a term. Everything is
computed in float32; float64 stays float64.

Losses of coordinates are summed over a picture's joints and averaged over the pictures, so that the authors' learning
rates hold; that of heat maps is a mean over joints and cells. `find_loss` fits one to a network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ...errors import UserError, unknown_name
from ..task import Terms
from .heatmaps import SIGMA, encode, to_cells
from .networks import Answers, PoseNetwork, to_fractions

Comparison = Callable[[Any, Tensor, Tensor], Terms]
"""Of a network, pictures and joints as batches have them."""

TUKEY_C = 4.6851
"""Where Tukey's influence ends, in robust standard deviations: 95 % efficiency on normal errors."""
ROBUST_STD = 1.4826
"""Standard deviations of a normal distribution per median absolute deviation."""
WARM_BATCHES, WARMTH = 50, 7.0
"""In its first batches Tukey's scale is so much wider, or nearly all errors of a fresh network were outliers."""
SMALLEST_MAD = 1e-3
"""A thousandth of the picture's side. Where all errors of an output are equal, as in a batch of one, their MAD is 0."""
SMOOTH_UP_TO = 0.05
"""Where smooth-l1 turns from a parabola to a line, in fractions of the picture's sides; ours."""

Gradient = Literal["autograd", "authors"]


def tukey(
    stages: list[Tensor], joints: Tensor, mask: Tensor, warm: Tensor | bool = False, grad: Gradient = "autograd"
) -> Terms:
    """Tukey's biweight: ρ(r) = c²/6 (1 - (1 - (r/c)²)³) up to c = 4.6851, and c²/6 beyond: outliers pull no more.

    r is the error over the MAD of its output: over the batch (of this process, where there are several), each x and
    each y for itself, and a constant for the gradient. A batch of a few pictures has no MAD to speak of; the authors'
    has 230.

    Args:
        stages: (B, J, 2) each, fractions.
        joints, mask: see the convention above.
        warm: whether the scale is 7 times as wide: the authors' first 50 batches.
        grad: "autograd" is the gradient of the sum of ρ, ψ(r) / MAD. The authors' code leaves out 1 / MAD; "authors"
            has that gradient, as that of the sum of MAD · ρ, which is the value given. Learning rates differ by MAD.

    Source: Belagiannis et al. 2015 (arXiv:1505.06606), and the released vl_nntukeyloss.m.
    """

    def cost(error: Tensor) -> Tensor:
        wide = torch.as_tensor(warm, device=error.device)
        scale = mad(error.detach(), mask).clamp_min(SMALLEST_MAD) * torch.where(wide, WARMTH, 1.0)
        # Clamped, so that the plateau's gradient is 0 however far the outlier is.
        x = (error / scale / TUKEY_C).clamp(-1, 1)
        rho = TUKEY_C**2 / 6 * (1 - (1 - x.square()) ** 3)
        return scale * rho if grad == "authors" else rho

    return _over_stages("tukey", cost, stages, joints, mask)


def l2(stages: list[Tensor], joints: Tensor, mask: Tensor) -> Terms:
    """x² / 2 of every error x; see the convention above."""
    return _over_stages("l2", lambda error: error.square() / 2, stages, joints, mask)


def smooth_l1(stages: list[Tensor], joints: Tensor, mask: Tensor) -> Terms:
    """x² / 2β of errors up to β = 0.05, |x| - β/2 beyond.

    Source: Girshick 2015 (Fast R-CNN, arXiv:1504.08083), equation 3, with β = 1.
    """

    def cost(error: Tensor) -> Tensor:
        size = error.abs()
        return torch.where(size < SMOOTH_UP_TO, size.square() / (2 * SMOOTH_UP_TO), size - SMOOTH_UP_TO / 2)

    return _over_stages("smooth_l1", cost, stages, joints, mask)


def heatmaps(maps: Tensor, joints: Tensor, mask: Tensor, sigma: float = SIGMA, rounded: bool = False) -> Terms:
    """Half the mean squared difference to Gaussians around the joints; maps of unknown joints count as right.

    Args:
        maps: (B, J, h, w).
        joints: in cells. One that is not on the map is unknown.
        mask: see the convention above.
        sigma, rounded: of the Gaussians; see `heatmaps.encode`.

    Source: Xiao et al. 2018 (arXiv:1804.06208), section 2, and the released JointsMSELoss.
    """
    maps = _wide(maps)
    truth, known = encode(_wide(joints), mask, (maps.shape[-2], maps.shape[-1]), sigma, rounded)
    return {"heatmaps": torch.where(known[..., None, None], maps - truth, 0.0).square().mean() / 2}


def mad(errors: Tensor, mask: Tensor) -> Tensor:
    """1.4826 times the median absolute deviation from the median, over the batch, of every output.

    Args:
        errors: (B, J, 2).
        mask: (B, J), which of them count.

    Returns:
        (J, 2); 0 where nothing counts. Of an even number the median is the mean of the middle two, as numpy's.
    """
    counted = torch.where(mask[..., None], errors, torch.nan)
    away = (counted - _median(counted)).abs()
    return ROBUST_STD * torch.nan_to_num(_median(away), nan=0.0)


def _of_coordinates(terms: Callable[..., Terms]) -> Comparison:
    def compare(network: Any, image: Tensor, joints: Tensor) -> Terms:
        places, mask = _labelled(joints)
        return terms(network.coordinates(image), to_fractions(places, (image.shape[-2], image.shape[-1])), mask)

    return compare


def _tukey(grad: Gradient) -> Comparison:
    def compare(network: Any, image: Tensor, joints: Tensor) -> Terms:
        warm = network.compared < WARM_BATCHES
        if network.training:
            network.compared.add_(1)
        return _of_coordinates(partial(tukey, warm=warm, grad=grad))(network, image, joints)

    return compare


def _of_heatmaps(rounded: bool) -> Comparison:
    def compare(network: Any, image: Tensor, joints: Tensor) -> Terms:
        places, mask = _labelled(joints)
        return heatmaps(network(image), to_cells(places), mask, network.sigma, rounded)

    return compare


# By the sort of answer that they are for. The usual one first: Belagiannis's for coordinates, Xiao's for heat maps.
LOSSES: dict[str, dict[Answers, Comparison]] = {
    "paper": {"coordinates": _tukey("autograd"), "heatmaps": _of_heatmaps(rounded=False)},
    "tukey": {"coordinates": _tukey("autograd")},
    "tukey-authors": {"coordinates": _tukey("authors")},
    "l2": {"coordinates": _of_coordinates(l2)},
    "smooth-l1": {"coordinates": _of_coordinates(smooth_l1)},
    "heatmaps": {"heatmaps": _of_heatmaps(rounded=False)},
    "heatmaps-rounded": {"heatmaps": _of_heatmaps(rounded=True)},
}


def find_loss(name: str, network: PoseNetwork) -> Callable[[Tensor, Tensor], Terms]:
    """The loss of a name, for a network.

    Args:
        name: a key of `LOSSES`.
        network: that is trained. Tukey's loss counts its batches in the network's buffer `compared`.

    Returns:
        A function of a batch's pictures, (B, 3, H, W) in [0, 1], and its joints, (B, J, 3): x and y in their pixels,
        and 0 where unlabelled. It gives named terms.

    Raises:
        UserError: no such loss, or one for another sort of answer than this network's.
    """
    if name not in LOSSES:
        raise unknown_name("loss of the task pose", name, LOSSES)
    if network.answers not in LOSSES[name]:
        fitting = ", ".join(other for other, sorts in LOSSES.items() if network.answers in sorts)
        raise UserError(
            f"The loss '{name}' is not for a network that answers with {network.answers}: take --loss with one of "
            f"{fitting}."
        )
    return partial(LOSSES[name][network.answers], network)


def _labelled(joints: Tensor) -> tuple[Tensor, Tensor]:
    """(B, J, 2) places, 0 where unlabelled, whatever stands there, and the mask (B, J)."""
    mask = joints[..., 2] > 0
    return torch.where(mask[..., None], joints[..., :2], 0.0), mask


def _over_stages(
    name: str, cost: Callable[[Tensor], Tensor], stages: list[Tensor], joints: Tensor, mask: Tensor
) -> Terms:
    """A term a stage: the cost of every known error, summed over a picture, the mean over the pictures."""
    terms = {}
    for number, made in enumerate(stages, 1):
        error = torch.where(mask[..., None], _wide(made) - _wide(joints), 0.0)
        costs = torch.where(mask[..., None], cost(error), 0.0)
        terms[name if len(stages) == 1 else f"{name}_{number}"] = costs.flatten(1).sum(1).mean()
    return terms


def _median(values: Tensor) -> Tensor:
    """Over the first axis, nan left out. torch's own median takes the lower of the middle two."""
    return torch.nanquantile(values, 0.5, dim=0)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
