"""`densevision visualize activations`: activation maps of the channels of a level, as a grid.

Every map has its own color scale; its caption shows the channel's index, as used in targets, and maximum activation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ..core.options import ModelOptions

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..core.model import InspectedModel

CELL = 112
"""Longer side of a map in the grid, in pixels."""
Order = Literal["strongest", "number"]


def activations(model: InspectedModel, pixels: tuple[Tensor, ...], level: str) -> np.ndarray:
    """Activations of a level.

    Args:
        model: the model.
        pixels: (1, C, H, W) in [0, 1] each. For two inputs, the maps of the first are returned.
        level: a level of the backbone or any submodule with feature maps.

    Returns:
        (K, h, w) float32, one map per channel.

    Raises:
        UserError: an unknown level, or one without spatial positions.
    """
    import torch

    from ...errors import UserError

    with torch.no_grad():
        maps = model.forward(pixels, (level,), run_output=False).levels[level]
    if maps.ndim != 4:
        raise UserError(f"'{level}' of {model.name} has no spatial positions; choose a level with feature maps.")
    return maps[0].detach().float().cpu().numpy()


def select_channels(maps: np.ndarray, count: int, order: Order = "strongest") -> list[int]:
    """Channels to draw: those with the largest mean absolute activation, or the first ones."""
    import numpy as np

    if order == "number":
        return list(range(min(count, len(maps))))
    return np.argsort(-np.abs(maps).mean((1, 2)), kind="stable")[:count].tolist()


def draw_activations(maps: np.ndarray, channels: list[int]) -> np.ndarray:
    """Grid of maps, (H, W, 3) uint8: grayscale if no activation is negative, otherwise red above 0 and blue below."""
    import math

    import numpy as np

    from ..core.image_grid import add_caption, fit_to_cell, image_grid
    from ..core.render import diverging_map, intensity_map

    draw = intensity_map if maps.min() >= 0 else diverging_map
    height, width = maps.shape[1:]
    cell = (max(1, round(CELL * height / max(height, width))), max(1, round(CELL * width / max(height, width))))
    cells = [add_caption(fit_to_cell(draw(maps[k]), cell), f"{k}: {np.abs(maps[k]).max():.2g}") for k in channels]
    return image_grid(cells, math.ceil(math.sqrt(1.5 * len(cells))))


def show_activations(
    model_options: Annotated[ModelOptions, Parameter(name="*")],
    *,
    image: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    level: str,
    out: Path,
    count: int = 48,
    order: Order = "strongest",
) -> None:
    """Draw the activation maps of the channels of a level, each at its own scale.

    Args:
        image: Input image; two for a model with two inputs.
        level: Level of the backbone, or any layer with feature maps.
        out: Output image (.png); the raw array of all channels is written to the same name with .npy.
        count: Maximum number of channels to draw.
        order: Channels to draw: strongest (largest mean absolute activation) or number (lowest index).
    """
    from ...errors import UserError
    from ..core.render import validate_out, write_image_and_array

    if count < 1:
        raise UserError(f"--count is {count}; it must be at least 1.")
    validate_out(out)
    model = model_options.open_model()
    maps = activations(model, model.pixels(*image), level)
    rendered = draw_activations(maps, select_channels(maps, count, order))
    dead = int((~maps.any((1, 2))).sum())
    print(f"{level}: {maps.shape[0]} channels of {maps.shape[1]} x {maps.shape[2]}, {dead} of them are 0 everywhere.")
    print(f"Wrote {' and '.join(map(str, write_image_and_array(out, rendered, maps)))}.")
