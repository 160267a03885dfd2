"""What a network has learned, as it is: activation maps of a level, and filters of the first convolution.

Every activation map has its own color scale; its caption shows the channel's index, as used in targets, and maximum
activation. Filters are drawn with respect to pixels in [0, 1]: the weights times (high - low) / std of the
preprocessing, in RGB order. Mid-gray is 0, and every filter has its own scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..core.result import Visualization

if TYPE_CHECKING:
    import numpy as np

CELL = 112
"""Longer side of an activation map in the grid, in pixels."""
FILTER_CELL = 44
"""Size of a filter in the grid, in pixels."""
Order = Literal["strongest", "number"]


def activations(model: Any, image: Any, level: str, *, count: int = 48, order: Order = "strongest") -> Visualization:
    """Draw the activation maps of the channels of a level, each at its own scale.

    Args:
        model: see `inspect_model`.
        image: see `InspectedModel.take`; of two inputs, the maps of the first are drawn.
        level: level of the backbone, or any layer with feature maps.
        count: maximum number of channels to draw.
        order: channels to draw: strongest (largest mean absolute activation) or number (lowest index).

    Returns:
        array: (K, h, w) float32, one map per channel.

    Raises:
        UserError: an unknown level, or one without spatial positions.
    """
    import torch

    from ...errors import UserError
    from ..core.model import inspect_model

    if count < 1:
        raise UserError(f"--count is {count}; it must be at least 1.")
    model = inspect_model(model)
    with torch.no_grad():
        maps = model.forward(model.take(image).pixels, (level,), run_output=False).levels[level]
    if maps.ndim != 4:
        raise UserError(f"'{level}' of {model.name} has no spatial positions; choose a level with feature maps.")
    array = maps[0].detach().float().cpu().numpy()
    dead = int((~array.any((1, 2))).sum())
    note = (
        f"{level}: {array.shape[0]} channels of {array.shape[1]} x {array.shape[2]}, {dead} of them are 0 everywhere."
    )
    return Visualization(array, draw_activations(array, select_channels(array, count, order)), (note,))


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

    from ...datasets.core.drawing import add_caption, diverging_map, fit_to_cell, image_grid
    from ..core.images import intensity_map

    draw = intensity_map if maps.min() >= 0 else diverging_map
    height, width = maps.shape[1:]
    cell = (max(1, round(CELL * height / max(height, width))), max(1, round(CELL * width / max(height, width))))
    cells = [add_caption(fit_to_cell(draw(maps[k]), cell), f"{k}: {np.abs(maps[k]).max():.2g}") for k in channels]
    return image_grid(cells, math.ceil(math.sqrt(1.5 * len(cells))))


def filters(model: Any) -> Visualization:
    """Draw the filters of the first convolution; gray is 0, every filter has its own scale.

    Args:
        model: see `inspect_model`.

    Returns:
        array: (K, C, kh, kw) float32, the weights with respect to pixels: K filters over the C channels of an image.

    Raises:
        UserError: no convolution reads the image.
    """
    import torch
    from torch import nn

    from ...errors import UserError
    from ..core.model import inspect_model

    model = inspect_model(model)
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
    array = weights.numpy()
    dead = [str(number) for number, each in enumerate(array) if not each.any()]
    note = f"{len(array)} filters of {array.shape[2]} x {array.shape[3]}; all zero: {', '.join(dead) or 'none'}."
    return Visualization(array, draw_filters(array), (note,))


def draw_filters(weights: np.ndarray) -> np.ndarray:
    """Grid of filters, (H, W, 3) uint8, from the first three channels."""
    import math

    from ...datasets.core.drawing import fit_to_cell, image_grid
    from ..core.images import to_rgb

    cells = [fit_to_cell(to_rgb(each[:3]), (FILTER_CELL, FILTER_CELL)) for each in weights]
    return image_grid(cells, math.ceil(math.sqrt(1.5 * len(cells))))
