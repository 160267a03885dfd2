"""A network on inputs of any size: padded to multiples of its coarsest stride, tiled when large, cropped back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from .task import Network, Query

TILE = 1024
"""Sides of the part of a tile that is kept, pixels; what lies beside it is only context."""

_REACHES: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and as it was afterwards."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


def run_padded(model: Network, inputs: list[Tensor], tile: int = TILE) -> Tensor:
    """A network on inputs of any size: padded to multiples of its coarsest stride, tiled when large, cropped back.

    Args:
        model: with `stride` (of its coarsest level) and `takes`, see `Network`.
        inputs: (1, C, H, W) each, all of one size.
        tile: sides of the kept part of a tile, pixels.

    Returns:
        (1, C', H, W), or whatever a network answers that takes its inputs exactly as they are.
    """
    if model.takes == "exact":
        return model(*inputs)
    height, width = inputs[0].shape[-2:]
    stride = model.stride
    padded = [pad_by_reflection(tensor, stride) for tensor in inputs]
    if model.takes == "tiled" and max(padded[0].shape[-2:]) > 2 * tile:
        output = run_tiled(model, padded, tile, reach(model, *(tensor.shape[1] for tensor in padded)))
    else:
        output = _same_size(model(*padded), padded[0].shape[-2:])
    return output[..., :height, :width]


def pad_by_reflection(tensor: Tensor, multiple: int) -> Tensor:
    """(B, C, H, W) continued to the right and below by its mirror image, to multiples of a stride."""
    height, width = tensor.shape[-2:]
    right, below = -width % multiple, -height % multiple
    while right or below:
        # torch reflects by less than the size at once; tiny pictures need several goes.
        step_right, step_below = min(right, tensor.shape[-1] - 1), min(below, tensor.shape[-2] - 1)
        if step_right == 0 and step_below == 0:
            return F.pad(tensor, (0, right, 0, below), mode="replicate")
        tensor = F.pad(tensor, (0, step_right, 0, step_below), mode="reflect")
        right, below = right - step_right, below - step_below
    return tensor


def run_tiled(model: Network, inputs: list[Tensor], tile: int, overlap: int) -> Tensor:
    """A fully convolutional network tile by tile, equal to the whole where the overlap covers its reach.

    Tiles start at multiples of the stride, so that every tile's grid of units is the whole's. The picture's true
    border stays a border; elsewhere a tile sees `overlap` pixels of its neighbours, whose answers are thrown away.

    Args:
        model: with `stride`.
        inputs: (1, C, H, W) each, H and W multiples of the stride.
        tile: sides of the kept part, pixels.
        overlap: context on each side, pixels; both are rounded up to multiples of the stride.
    """
    height, width = inputs[0].shape[-2:]
    tile, overlap = (math.ceil(value / model.stride) * model.stride for value in (tile, overlap))
    output: Tensor | None = None
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            y0, x0 = max(0, top - overlap), max(0, left - overlap)
            y1, x1 = min(height, top + tile + overlap), min(width, left + tile + overlap)
            part = _same_size(model(*[tensor[..., y0:y1, x0:x1] for tensor in inputs]), (y1 - y0, x1 - x0))
            bottom, right = min(height, top + tile), min(width, left + tile)
            if output is None:
                output = part.new_empty((*part.shape[:2], height, width))
            output[..., top:bottom, left:right] = part[..., top - y0 : bottom - y0, left - x0 : right - x0]
    assert output is not None
    return output


def _same_size(output: Tensor, size: Any) -> Tensor:
    """Networks that answer at a fraction of the size (FCRN at half) are brought to it bilinearly."""
    if output.shape[-2:] == torch.Size(size):
        return output
    return F.interpolate(output.float(), size=tuple(size), mode="bilinear", align_corners=False)


def reach(model: Network, *channels: int) -> int:
    """How far, in pixels, an input pixel can change the output of a fully convolutional network: half its field.

    Measured, hence exact for any graph: one column of nan spreads through every convolution, pool, addition and
    resize as far as the network reaches, whatever the weights are (0 * nan is nan). A strip as high as one unit of
    the coarsest level suffices, since columns and rows are alike.

    Args:
        model: with `stride`.
        channels: of each of its inputs; one picture of three where none are given.

    Raises:
        UserError: the whole strip is reached: the network holds a global operation and cannot be tiled.
    """
    if model not in _REACHES:
        _REACHES[model] = _measured_reach(model, channels or (3,))
    return _REACHES[model]


def _measured_reach(model: Network, channels: tuple[int, ...]) -> int:
    device = next(model.parameters()).device
    stride = model.stride
    with evaluating(model), torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for units in (32, 128, 512):
            width, farthest, edge = units * stride, 0, False
            # What a pixel touches depends on its place within the stride; which place reaches farthest on the network.
            for column in range(width // 2, width // 2 + stride):
                strips = [torch.zeros(1, count, stride, width, device=device) for count in channels]
                for strip in strips:
                    strip[..., column] = math.nan
                touched = _same_size(model(*strips), (stride, width)).isnan()[0].any(0).any(0).nonzero().flatten()
                if len(touched) == 0:
                    raise UserError("The network swallows nan, so that its reach cannot be measured; run it whole.")
                first, last = int(touched.min()), int(touched.max())
                farthest, edge = max(farthest, column - first, last - column), first == 0 or last == width - 1
                if edge:
                    break
            if not edge:
                return farthest
    raise UserError("The network sees the whole picture at every pixel: it cannot be tiled.")


def original_size(output: Tensor, query: Query) -> np.ndarray:
    """A dense output back at the picture's size, bilinearly: (1, C, h, w) to (H, W, C) float32."""
    if tuple(output.shape[-2:]) != query.size:
        output = F.interpolate(output.float(), size=query.size, mode="bilinear", align_corners=False, antialias=False)
    return output[0].movedim(0, -1).float().cpu().numpy()
