"""`densevision visualize filters`: filters of the first convolution, as RGB images.

Filters are drawn with respect to pixels in [0, 1]: the weights times (high - low) / std of the preprocessing, in RGB
order. Mid-gray is 0, and every filter has its own scale.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..core.options import ModelOptions

if TYPE_CHECKING:
    import numpy as np

    from ..core.model import InspectedModel

CELL = 44
"""Size of a filter in the grid, in pixels."""


def filters(model: InspectedModel) -> np.ndarray:
    """Weights of the first convolution, with respect to pixels.

    Args:
        model: the model.

    Returns:
        (K, C, kh, kw) float32: K filters over the C channels of an RGB image.

    Raises:
        UserError: no convolution reads the image.
    """
    import torch
    from torch import nn

    from ...errors import UserError

    backbone = model.backbone
    module = model.module if backbone is None else backbone
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or (backbone is not None and first.in_channels != backbone.in_channels):
        raise UserError(f"{model.name} has no convolution that reads the image, hence no filters to draw.")
    weights = first.weight.detach().float().cpu()
    if backbone is not None:
        preprocessing = backbone.preprocessing
        weights = (
            weights
            * (preprocessing.range[1] - preprocessing.range[0])
            / torch.tensor(preprocessing.std).view(1, -1, 1, 1)
        )
        weights = weights.flip(1) if preprocessing.order == "BGR" else weights
    return weights.numpy()


def draw_filters(weights: np.ndarray) -> np.ndarray:
    """Grid of filters, (H, W, 3) uint8, from the first three channels."""
    import math

    from ..core.image_grid import fit_to_cell, image_grid
    from ..core.render import to_rgb

    cells = [fit_to_cell(to_rgb(each[:3]), (CELL, CELL)) for each in weights]
    return image_grid(cells, math.ceil(math.sqrt(1.5 * len(cells))))


def show_filters(model_options: Annotated[ModelOptions, Parameter(name="*")], *, out: Path) -> None:
    """Draw the filters of the first convolution; gray is 0, every filter has its own scale.

    Args:
        out: Output image (.png); the raw array is written to the same name with .npy.
    """
    from ..core.render import validate_out, write_image_and_array

    validate_out(out)
    weights = filters(model_options.open_model())
    dead = [str(number) for number, each in enumerate(weights) if not each.any()]
    print(f"{len(weights)} filters of {weights.shape[2]} x {weights.shape[3]}; all zero: {', '.join(dead) or 'none'}.")
    print(f"Wrote {' and '.join(map(str, write_image_and_array(out, draw_filters(weights), weights)))}.")
