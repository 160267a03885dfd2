"""`densevision visualize grad-cam`: where in the picture a level speaks for the answer.

Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra: Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization. ICCV 2017, arXiv:1610.02391, equations 1 and 2: each channel of a level, weighted by the mean of its
gradient over the places, summed, and its positive part. For a network that ends in a mean over places and one linear
layer this is the class activation map of Zhou et al. (CVPR 2016, arXiv:1512.04150) divided by the number of places.

The map is enlarged bilinearly with every unit at the centre of what it sees (`backbones.receptive_field`), where a
plain resize would move it by some pixels.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from .asked import Asked

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .measures import Probe
    from .subject import Subject


class Grid(NamedTuple):
    """Where the units of a level lie along one axis of the picture: the first at `centre`, then every `jump` pixels."""

    centre: float
    jump: float


class Activation(NamedTuple):
    """A class activation map.

    Attributes:
        units: (h, w) float32, of either sign: a number for each unit of the level.
        pixels: (H, W) float32 from 0 up: its positive part at the size of the shown picture.
        level: whose units these are.
    """

    units: np.ndarray
    pixels: np.ndarray
    level: str


def grad_cam(subject: Subject, pixels: tuple[Tensor, ...], probe: Probe, level: str | None = None) -> Activation:
    """max(0, sum over channels k of mean(dS / dA_k) A_k).

    Args:
        subject: the network.
        pixels: (1, C, H, W) in [0, 1] each. Of two pictures the first one's map is made.
        probe: S.
        level: A: a level of the trunk or any submodule that makes maps; None: the trunk's last level.

    Raises:
        UserError: no such level, one without places, or one that the probe does not depend on.
    """
    import torch

    from ...errors import UserError
    from .sensitivity import require_alive, score

    if level is None:
        if subject.trunk is None:
            raise UserError(f"{subject.name} has no trunk with levels; name a layer with --level.")
        level = subject.trunk.levels[-1].name
    watched = tuple(each.detach().requires_grad_() for each in pixels)
    with torch.enable_grad():
        measured, seen = score(subject, watched, probe, (level,))
        maps = seen.levels[level]
        if maps.ndim != 4:
            raise UserError(f"'{level}' of {subject.name} has no places; name a level that makes maps.")
        (found,) = torch.autograd.grad(measured.sum(), maps, allow_unused=True)
    if found is None:
        raise UserError(f"{probe} does not depend on '{level}'; name a level in front of it.")
    require_alive(subject, pixels, probe, (found,))
    # Of a trunk that sees two pictures, the first one's maps come first.
    units = (found.mean((2, 3), keepdim=True) * maps.detach()).sum(1)[0]
    size = (pixels[0].shape[-2], pixels[0].shape[-1])
    placed = at_pixels(units.clamp_min(0), unit_grids(subject, level, units.shape, size), size)
    return Activation(units.float().cpu().numpy(), placed.float().cpu().numpy(), level)


def unit_grids(subject: Subject, level: str, count: tuple[int, ...], size: tuple[int, int]) -> tuple[Grid, Grid]:
    """Where a level's units lie, along height and width: by the trunk's own graph, else spread evenly over the picture.

    Args:
        subject: the network.
        level: a level or a submodule.
        count: (h, w) units.
        size: (height, width) of the picture, pixels.
    """
    from ...backbones.receptive_field import layer_fields, receptive_fields

    grids = []
    for axis, units, pixels in zip(("height", "width"), count, size, strict=True):
        fields = {}
        if subject.trunk is not None:
            with suppress(ValueError, RuntimeError):  # attention and the like: no field is known
                fields = {**layer_fields(subject.trunk, axis), **receptive_fields(subject.trunk, axis)}
        known = fields.get(level)
        if known is not None and math.isfinite(known.centre):
            grids.append(Grid(known.centre, known.jump))
        else:
            # Pictures are padded to whole strides to the right and below, where nothing is shown.
            jump = known.jump if known is not None else pixels / units
            grids.append(Grid((jump - 1) / 2, jump))
    return grids[0], grids[1]


def at_pixels(units: Tensor, grids: tuple[Grid, Grid], size: tuple[int, int]) -> Tensor:
    """(h, w) numbers of units, bilinearly at every pixel of (height, width); beyond the outer units, theirs."""
    import torch
    from torch.nn import functional

    sides = []
    for grid, count, pixels in zip(grids, units.shape, size, strict=True):
        place = (torch.arange(pixels, device=units.device, dtype=torch.float64) - grid.centre) / grid.jump
        sides.append((2 * place / max(count - 1, 1) - 1).to(units.dtype))
    rows, columns = torch.meshgrid(*sides, indexing="ij")
    wanted = torch.stack((columns, rows), dim=-1)[None]
    return functional.grid_sample(
        units[None, None], wanted, mode="bilinear", padding_mode="border", align_corners=True
    )[0, 0]


def show_grad_cam(asked: Annotated[Asked, Parameter(name="*")], *, level: str | None = None) -> None:
    """Draw where a level speaks for the probe, over the picture: red is most.

    Args:
        level: Level of the trunk, or any layer that makes maps; default: the trunk's last.
    """
    from .drawing import over, photograph

    opened = asked.opened()
    found = grad_cam(opened.subject, opened.pixels, opened.probe, level)
    if not found.pixels.any():
        print(f"No unit of {found.level} speaks for {opened.probe}: the map is empty.")
    asked.write(over(photograph(opened.pixels[0]), found.pixels), found.pixels)
