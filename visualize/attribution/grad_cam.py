"""`densevision visualize grad-cam`: Grad-CAM, a class activation map of a level weighted by gradients.

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
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from ..core.options import AttributionOptions

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..core.model import InspectedModel
    from ..core.objectives import Objective


class UnitGrid(NamedTuple):
    """Positions of a level's units along one axis of the image, in pixels: the first at `center`, then every `jump`."""

    center: float
    jump: float


class CamResult(NamedTuple):
    """A class activation map.

    Attributes:
        units: (h, w) float32, signed, one value per unit of the level.
        pixels: (H, W) float32, non-negative: the positive part at the size of the model input.
        level: name of the level.
    """

    units: np.ndarray
    pixels: np.ndarray
    level: str


def grad_cam(
    model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective, level: str | None = None
) -> CamResult:
    """max(0, sum over channels k of mean(dS / dA_k) A_k).

    Args:
        model: the model.
        pixels: (1, C, H, W) in [0, 1] each. For two inputs, the map of the first is returned.
        objective: S.
        level: A: a level of the backbone or any submodule with feature maps; None: the last level of the backbone.

    Raises:
        UserError: an unknown level, one without spatial positions, or one on which the objective does not depend.
    """
    import torch

    from ...errors import UserError
    from ..core.gradients import check_nonzero_gradient, evaluate_objective

    if level is None:
        if model.backbone is None:
            raise UserError(f"{model.name} has no backbone with levels; give a layer with --level.")
        level = model.backbone.levels[-1].name
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
    return CamResult(units.float().cpu().numpy(), upsampled.float().cpu().numpy(), level)


def unit_grids(
    model: InspectedModel, level: str, count: tuple[int, ...], size: tuple[int, int]
) -> tuple[UnitGrid, UnitGrid]:
    """Positions of a level's units, along height and width: traced if possible, otherwise evenly spread over the image.

    Args:
        model: the model.
        level: a level or a submodule.
        count: (h, w) units.
        size: (height, width) of the image in pixels.
    """
    from ...backbones.receptive_field import layer_fields, receptive_fields

    grids = []
    for axis, units, pixels in zip(("height", "width"), count, size, strict=True):
        fields = {}
        if model.backbone is not None:
            with suppress(ValueError, RuntimeError):  # not traceable, for example attention
                fields = {**layer_fields(model.backbone, axis), **receptive_fields(model.backbone, axis)}
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


def show_grad_cam(options: Annotated[AttributionOptions, Parameter(name="*")], *, level: str | None = None) -> None:
    """Draw the Grad-CAM heat map of a target over the image; red is the maximum.

    Args:
        level: Level of the backbone, or any layer with feature maps; the last level of the backbone if not stated.
    """
    from ..core.render import overlay_heatmap, to_uint8_image

    inputs = options.open()
    cam = grad_cam(inputs.model, inputs.pixels, inputs.objective, level)
    if not cam.pixels.any():
        print(f"Grad-CAM of {inputs.objective} at {cam.level} is 0 everywhere: no unit has a positive contribution.")
    options.write(inputs.mark(overlay_heatmap(to_uint8_image(inputs.pixels[0]), cam.pixels)), cam.pixels)
