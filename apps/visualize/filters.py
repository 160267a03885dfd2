"""`densevision visualize filters`: the first convolution's filters, as the colours that they answer to.

A filter is drawn as it acts on pixels in [0, 1]: its weights times (high - low) / std of the preprocessing, with red
first. Mid-grey is 0, and every filter is drawn at its own scale, so that weak ones can be seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .asked import Network

if TYPE_CHECKING:
    import numpy as np

    from .subject import Subject

CELL = 44
"""Pixels of a drawn filter."""


def filters(subject: Subject) -> np.ndarray:
    """The weights of the first convolution, with respect to pixels.

    Args:
        subject: the network.

    Returns:
        (K, C, kh, kw) float32: K filters over the C channels of a picture, RGB.

    Raises:
        UserError: it has no convolution that reads the picture.
    """
    import torch
    from torch import nn

    from ...errors import UserError

    trunk = subject.trunk
    reader = subject.model if trunk is None else trunk
    first = next((layer for layer in reader.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or (trunk is not None and first.in_channels != trunk.in_channels):
        raise UserError(f"{subject.name} reads its picture with no convolution, hence it has no filters to draw.")
    weights = first.weight.detach().float().cpu()
    if trunk is not None:
        one = trunk.preprocessing
        weights = weights * (one.range[1] - one.range[0]) / torch.tensor(one.std).view(1, -1, 1, 1)
        weights = weights.flip(1) if one.order == "BGR" else weights
    return weights.numpy()


def draw_filters(weights: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: the filters of `filters` on one sheet. Of more than three channels the first three are drawn."""
    import math

    from .drawing import in_colour
    from .tiles import fitted, grid

    cells = [fitted(in_colour(each[:3]), (CELL, CELL)) for each in weights]
    return grid(cells, math.ceil(math.sqrt(1.5 * len(cells))))


def show_filters(network: Annotated[Network, Parameter(name="*")], *, out: Path) -> None:
    """Draw the first convolution's filters: grey is 0, every filter at its own scale.

    Args:
        out: Picture to write (.png); the raw array lies beside it (.npy).
    """
    from .drawing import checked_out, write_both

    checked_out(out)
    weights = filters(network.subject())
    dead = [str(number) for number, each in enumerate(weights) if not each.any()]
    print(f"{len(weights)} filters of {weights.shape[2]} x {weights.shape[3]}; all zero: {', '.join(dead) or 'none'}.")
    print(f"Wrote {' and '.join(map(str, write_both(out, draw_filters(weights), weights)))}.")
