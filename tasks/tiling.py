"""Padded and tiled inference on inputs of any size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from .network import Network
from .prediction import PredictionContext

TILE = 1024
"""Height and width in pixels of the part of a tile that is kept; the rest of a tile is context."""

_RADII: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the context; afterwards every module has its previous mode."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def run_padded(
    model: Network, inputs: Sequence[Tensor], tile: int = TILE, is_map: Sequence[bool] | None = None
) -> Tensor:
    """Run a network on inputs of any size: pad to multiples of its stride, tile if large, crop the output back.

    Args:
        model: the network; `stride` and `input_policy` decide, see `Network`.
        inputs: (B, ..., H, W) each, all maps of one size.
        tile: height and width of the kept part of a tile in pixels.
        is_map: for each input whether it is a map of pixels; None: all are. Others (cameras, noise) have no size: they
            reach the network unchanged, and it is not tiled.

    Returns:
        (B, ..., H, W); for a network with `input_policy` "fixed", or without a map, its output as it is.
    """
    is_map = [True] * len(inputs) if is_map is None else is_map
    if model.input_policy == "fixed" or not any(is_map):
        return model(*inputs)
    height, width = inputs[is_map.index(True)].shape[-2:]
    stride = model.stride
    padded = [pad_by_reflection(one, stride) if sized else one for one, sized in zip(inputs, is_map, strict=True)]
    size = padded[is_map.index(True)].shape[-2:]
    if model.input_policy == "tiled" and all(is_map) and max(size) > 2 * tile:
        output = run_tiled(model, padded, tile, receptive_radius(model, *(tensor.shape[1] for tensor in padded)))
    else:
        output = _resize_to(model(*padded), size)
    return output[..., :height, :width]


def pad_by_reflection(tensor: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W), or clips, by reflection to the right and below, up to a multiple of the stride."""
    if tensor.ndim > 4:
        padded = pad_by_reflection(tensor.flatten(0, -4), multiple)
        return padded.view(*tensor.shape[:-2], *padded.shape[-2:])
    height, width = tensor.shape[-2:]
    right, below = -width % multiple, -height % multiple
    while right or below:
        # torch reflects by less than the size at once; tiny images need several rounds.
        step_right, step_below = min(right, tensor.shape[-1] - 1), min(below, tensor.shape[-2] - 1)
        if step_right == 0 and step_below == 0:
            return F.pad(tensor, (0, right, 0, below), mode="replicate")
        tensor = F.pad(tensor, (0, step_right, 0, step_below), mode="reflect")
        right, below = right - step_right, below - step_below
    return tensor


def run_tiled(model: Network, inputs: list[Tensor], tile: int, overlap: int) -> Tensor:
    """Run a fully convolutional network tile by tile.

    The result equals that of one pass if `overlap` is at least the receptive radius. Tiles start at multiples of the
    stride, so that all tiles share the grid of units of one pass. The border of the image stays a border; elsewhere a
    tile includes `overlap` pixels of its neighbors, for which its output is discarded.

    Args:
        model: the network, with `stride`.
        inputs: (B, C, H, W) each, H and W multiples of the stride.
        tile: height and width of the kept part in pixels.
        overlap: context on each side in pixels; `tile` and `overlap` are rounded up to multiples of the stride.

    Returns:
        (B, C', H, W).
    """
    height, width = inputs[0].shape[-2:]
    tile, overlap = (math.ceil(value / model.stride) * model.stride for value in (tile, overlap))
    output: Tensor | None = None
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            y0, x0 = max(0, top - overlap), max(0, left - overlap)
            y1, x1 = min(height, top + tile + overlap), min(width, left + tile + overlap)
            part = _resize_to(model(*[tensor[..., y0:y1, x0:x1] for tensor in inputs]), (y1 - y0, x1 - x0))
            bottom, right = min(height, top + tile), min(width, left + tile)
            if output is None:
                output = part.new_empty((*part.shape[:2], height, width))
            output[..., top:bottom, left:right] = part[..., top - y0 : bottom - y0, left - x0 : right - x0]
    assert output is not None
    return output


def _resize_to(output: Tensor, size: Any) -> Tensor:
    """Bilinear resize to (height, width) of outputs at a fraction of the size (FCRN: half)."""
    if output.shape[-2:] == torch.Size(size):
        return output
    return F.interpolate(output.float(), size=tuple(size), mode="bilinear", align_corners=False)


def receptive_radius(model: Network, *channels: int) -> int:
    """Maximum distance in pixels at which an input pixel changes the output: half the receptive field.

    It is measured, hence exact for any fully convolutional graph: one column of nan spreads through every convolution,
    pooling, addition and resize, whatever the weights are (0 * nan is nan). A strip as high as one unit of the coarsest
    level suffices, since rows and columns behave in the same way.

    Args:
        model: the network, with `stride`.
        channels: number of channels of each input; one input of 3 if none is given.

    Raises:
        UserError: nan reaches the complete strip (the network contains a global operation and cannot be tiled), or
            none of the output.
    """
    if model not in _RADII:
        _RADII[model] = _measure_radius(model, channels or (3,))
    return _RADII[model]


def _measure_radius(model: Network, channels: tuple[int, ...]) -> int:
    device = next(model.parameters()).device
    stride = model.stride
    with eval_mode(model), torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for units in (32, 128, 512):
            width, radius, edge = units * stride, 0, False
            # The distance depends on the position of the pixel within the stride; take the maximum.
            for column in range(width // 2, width // 2 + stride):
                strips = [torch.zeros(1, count, stride, width, device=device) for count in channels]
                for strip in strips:
                    strip[..., column] = math.nan
                affected = _resize_to(model(*strips), (stride, width)).isnan()[0].any(0).any(0).nonzero().flatten()
                if len(affected) == 0:
                    raise UserError(
                        "The network removes nan, so its receptive radius cannot be measured; run it without tiling."
                    )
                first, last = int(affected.min()), int(affected.max())
                radius, edge = max(radius, column - first, last - column), first == 0 or last == width - 1
                if edge:
                    break
            if not edge:
                return radius
    raise UserError("Every output pixel of the network depends on the complete image: it cannot be tiled.")


def resize_to_input(output: Tensor, context: PredictionContext) -> np.ndarray:
    """Dense output (1, C, h, w), resized bilinearly to the size of the inputs: (H, W, C) float32."""
    if tuple(output.shape[-2:]) != context.size:
        output = F.interpolate(output.float(), size=context.size, mode="bilinear", align_corners=False, antialias=False)
    return output[0].movedim(0, -1).float().cpu().numpy()
