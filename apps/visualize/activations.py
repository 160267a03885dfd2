"""`densevision visualize activations`: what the channels of a level make of a picture, as a grid of maps.

Every map is drawn at its own scale; below it stand the channel's number, as probes name it, and its largest activation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from .asked import Network

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .subject import Subject

CELL = 112
"""Pixels of a drawn map's longer side."""
Order = Literal["strongest", "number"]


def activations(subject: Subject, pixels: tuple[Tensor, ...], level: str) -> np.ndarray:
    """The activations of a level.

    Args:
        subject: the network.
        pixels: (1, C, H, W) in [0, 1] each. Of two pictures the first one's maps are returned.
        level: a level of the trunk or any submodule that makes maps.

    Returns:
        (K, h, w) float32, a map a channel.

    Raises:
        UserError: no such level, or one without places.
    """
    import torch

    from ...errors import UserError

    with torch.no_grad():
        made = subject.look(pixels, (level,), answer=False).levels[level]
    if made.ndim != 4:
        raise UserError(f"'{level}' of {subject.name} has no places; name a level that makes maps.")
    return made[0].detach().float().cpu().numpy()


def chosen_channels(maps: np.ndarray, count: int, order: Order = "strongest") -> list[int]:
    """The channels to draw: those of the largest means of absolute activations, or simply the first."""
    import numpy as np

    if order == "number":
        return list(range(min(count, len(maps))))
    return np.argsort(-np.abs(maps).mean((1, 2)), kind="stable")[:count].tolist()


def draw_activations(maps: np.ndarray, channels: list[int]) -> np.ndarray:
    """(H, W, 3) uint8: white is most where nothing is below 0, else red is above and blue below."""
    import math

    import numpy as np

    from .drawing import brightness, signed
    from .tiles import captioned, fitted, grid

    draw = brightness if maps.min() >= 0 else signed
    height, width = maps.shape[1:]
    cell = (max(1, round(CELL * height / max(height, width))), max(1, round(CELL * width / max(height, width))))
    cells = [captioned(fitted(draw(maps[k]), cell), f"{k}: {np.abs(maps[k]).max():.2g}") for k in channels]
    return grid(cells, math.ceil(math.sqrt(1.5 * len(cells))))


def show_activations(
    network: Annotated[Network, Parameter(name="*")],
    *,
    image: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    level: str,
    out: Path,
    count: int = 48,
    order: Order = "strongest",
) -> None:
    """Draw what the channels of a level make of a picture, each at its own scale.

    Args:
        image: Photograph; two for a network that takes two.
        level: Level of the trunk, or any layer that makes maps.
        out: Picture to write (.png); the raw array of all channels lies beside it (.npy).
        count: At most so many channels are drawn; default: 48.
        order: Which ones: strongest (largest mean) or number (the first); default: strongest.
    """
    from ...errors import UserError
    from .drawing import checked_out, write_both

    if count < 1:
        raise UserError(f"--count is {count}; it must be at least 1.")
    checked_out(out)
    subject = network.subject()
    maps = activations(subject, subject.pixels(*image), level)
    drawn = draw_activations(maps, chosen_channels(maps, count, order))
    dead = int((~maps.any((1, 2))).sum())
    print(f"{level}: {maps.shape[0]} channels of {maps.shape[1]} x {maps.shape[2]}, {dead} of them 0 everywhere.")
    print(f"Wrote {' and '.join(map(str, write_both(out, drawn, maps)))}.")
