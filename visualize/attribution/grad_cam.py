"""Grad-CAM: a class activation map of a level weighted by gradients.

Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization. ICCV 2017, arXiv:1610.02391, equations 1 and 2: the channels of a level, weighted by the spatial mean of
their gradients, are summed; the positive part is the map. For a model that ends in global average pooling and one
linear layer this is the class activation map of Zhou et al. (CVPR 2016, arXiv:1512.04150) divided by the number of
positions.

The map is upsampled bilinearly with every unit at the center of its receptive field (`backbones.receptive_field`); a
plain resize would shift it by some pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.result import Visualization

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..core.model import InspectedModel


class UnitGrid(NamedTuple):
    """Positions of a level's units along one axis of the image, in pixels: the first at `center`, then every `jump`."""

    center: float
    jump: float


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassActivationMap(Visualization):
    """A class activation map: `array` is its positive part, (H, W) float32, at the size of the model input.

    Attributes:
        units: (h, w) float32, signed, one value per unit of the level.
        level: name of the level.
    """

    units: np.ndarray
    level: str


def grad_cam(model: Any, image: Any, target: Any, *, level: str | None = None) -> ClassActivationMap:
    """Draw the Grad-CAM heat map of a target over the image; red is the maximum.

    max(0, sum over channels k of mean(dS / dA_k) A_k).

    Args:
        model: see `inspect_model`.
        image: see `InspectedModel.take`; of two inputs, the first is drawn.
        target: S, see `resolve_target`.
        level: A: a level of the backbone, or any layer with feature maps; the last level of the backbone if not stated.

    Raises:
        UserError: an unknown level, one without spatial positions, or one on which the target does not depend.
    """
    import torch

    from ...errors import UserError
    from ..core.images import overlay_heatmap
    from ..core.objectives import check_nonzero_gradient, evaluate_objective
    from ..core.targets import attribution_inputs

    attributed = attribution_inputs(model, image, target)
    model, pixels, objective = attributed.model, attributed.pixels, attributed.objective
    if level is None and model.backbone is None:
        raise UserError(f"{model.name} has no backbone with levels; give a layer with --level.")
    level = str(level or model.backbone.levels[-1].name)
    inputs = tuple(each.detach().requires_grad_() for each in pixels)
    with torch.enable_grad():
        score, result = evaluate_objective(model, inputs, objective, (level,))
        maps = result.levels[level]
        if maps.ndim != 4:
            raise UserError(f"'{level}' of {model.name} has no spatial positions; choose a level with feature maps.")
        (grad,) = torch.autograd.grad(score.sum(), maps, allow_unused=True)
    if grad is None:
        raise UserError(f"{objective} does not depend on '{level}'; choose an earlier level.")
    check_nonzero_gradient(model, pixels, objective, (grad,))
    # A backbone that reads two images separately has the maps of the first one first.
    units = (grad.mean((2, 3), keepdim=True) * maps.detach()).sum(1)[0]
    size = (pixels[0].shape[-2], pixels[0].shape[-1])
    upsampled = upsample_aligned(units.clamp_min(0), unit_grids(model, level, units.shape, size), size)
    array = upsampled.float().cpu().numpy()
    empty = f"Grad-CAM of {objective} at {level} is 0 everywhere: no unit has a positive contribution."
    notes = () if array.any() else (empty,)
    image = attributed.draw([overlay_heatmap(attributed.photos[0], array)])
    return ClassActivationMap(array, image, notes, units=units.float().cpu().numpy(), level=level)


def unit_grids(
    model: InspectedModel, level: str, count: tuple[int, ...], size: tuple[int, int]
) -> tuple[UnitGrid, UnitGrid]:
    """Positions of the (h, w) units of a level in an image of (height, width): traced, or else evenly spread."""
    from ..correspondence.receptive_field import traced_fields

    grids = []
    for fields, units, pixels in zip(traced_fields(model) or ({}, {}), count, size, strict=True):
        field = fields.get(level)
        if field is not None and math.isfinite(field.center):
            grids.append(UnitGrid(field.center, field.jump))
        else:
            # Inputs are padded to multiples of the stride at the right and bottom.
            jump = field.jump if field is not None else pixels / units
            grids.append(UnitGrid((jump - 1) / 2, jump))
    return grids[0], grids[1]


def upsample_aligned(units: Tensor, grids: tuple[UnitGrid, UnitGrid], size: tuple[int, int]) -> Tensor:
    """Upsample (h, w) bilinearly to (height, width), aligned to the units; constant beyond the outer units."""
    import torch
    from torch.nn import functional

    axes = []
    for unit_grid, count, pixels in zip(grids, units.shape, size, strict=True):
        position = (torch.arange(pixels, device=units.device, dtype=torch.float64) - unit_grid.center) / unit_grid.jump
        axes.append((2 * position / max(count - 1, 1) - 1).to(units.dtype))
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    coordinates = torch.stack((columns, rows), dim=-1)[None]
    return functional.grid_sample(
        units[None, None], coordinates, mode="bilinear", padding_mode="border", align_corners=True
    )[0, 0]
