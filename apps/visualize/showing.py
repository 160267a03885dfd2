"""Pictures as they were given, and as a network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ...datasets.fields import Kind, Labels
from ...datasets.geometry import Size
from ...errors import UserError
from ...tasks.pictures import labels_of, picture_of
from ...tasks.task import Query


@dataclass(frozen=True)
class Shown:
    """Pictures as a network sees them, and how they became so.

    Attributes:
        pixels: (1, C, H, W) float32 in [0, 1] each; a channel per class where label maps go in.
        query: the original inputs, their size, and the matrix from original to shown pixels.
    """

    pixels: tuple[Tensor, ...]
    query: Query

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the original picture lies in the shown one, as x and y."""
        left, top = self.query.corner or (0, 0)
        moved = self.query.matrix @ np.array([x - left, y - top, 1.0])
        return float(moved[0] / moved[2]), float(moved[1] / moved[2])


def read_sources(name: str, kinds: dict[str, Kind], sources: Sequence[Any]) -> tuple[dict[str, np.ndarray], Size]:
    """The inputs of a network by field name, (H, W, C) each or (H, W) of labels, and their (height, width).

    Args:
        name: of the network, for sentences.
        kinds: what goes in.
        sources: paths, arrays, PIL images or tensors, one for each kind.

    Raises:
        UserError: too few or too many, no picture, or pictures of two sizes.
    """
    if len(sources) != len(kinds):
        raise UserError(f"{name} takes {len(kinds)} picture(s) ({', '.join(kinds)}), not {len(sources)}.")
    pictures = {
        field: labels_of(source, kind) if isinstance(kind, Labels) else picture_of(source, getattr(kind, "channels", 3))
        for (field, kind), source in zip(kinds.items(), sources, strict=True)
    }
    sizes = {(picture.shape[0], picture.shape[1]) for picture in pictures.values()}
    if len(sizes) > 1:
        raise UserError(f"The inputs differ in size: {', '.join(f'{h}x{w}' for h, w in sorted(sizes))}.")
    return pictures, sizes.pop()
