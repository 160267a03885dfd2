"""The answer of a flow network: where every pixel of the first picture goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...datasets.drawing import draw_arrows
from ...datasets.fields import Flow as FlowKind
from ...datasets.fields import Image
from ...datasets.formats.flo import write_flo
from ...datasets.formats.picture import write_picture
from ..task import Prediction

ARROWS = 20
"""How many arrows fit along the picture's shorter side."""

CLOSEST = 8
"""Pixels between arrows at the least, so that those of a small picture do not run into each other."""


@dataclass(frozen=True)
class FlowField(Prediction):
    """Motion of every pixel of a picture.

    Attributes:
        vectors: (H, W, 2) float32 pixels, x then y; nan where unknown (only in truths).
        first: (H, W, C) as in samples, the picture that moves; None where it is not known, which draws no arrows.
    """

    vectors: np.ndarray
    first: np.ndarray | None = None
    unit: ClassVar[str] = "pixels"

    def picture(self, like: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8: the colour wheel, full at the largest motion of `like`."""
        reference = like.vectors if isinstance(like, FlowField) else None
        return FlowKind().draw(self.vectors, reference)

    def brief(self) -> str:
        """The mean and the largest motion."""
        lengths = np.hypot(self.vectors[..., 0], self.vectors[..., 1])
        known = lengths[np.isfinite(lengths)]
        return f"mean {known.mean():.1f} px, largest {known.max():.1f} px" if known.size else "no known motion"

    def arrows(self) -> np.ndarray | None:
        """(H, W, 3) uint8: the motion as arrows over the first picture; None without that picture."""
        if self.first is None:
            return None
        return draw_arrows(Image().draw(self.first), self.vectors, max(CLOSEST, min(self.first.shape[:2]) // ARROWS))

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_flow.flo (pixels, Middlebury's format), STEM_flow.png (colours), STEM_flow_arrows.png.

        The arrows are left out where the first picture is not known.
        """
        folder = Path(folder)
        field, colours, over = (folder / f"{stem}_flow{end}" for end in (".flo", ".png", "_arrows.png"))
        write_flo(field, self.vectors.astype(np.float32))
        write_picture(colours, self.picture())
        arrows = self.arrows()
        if arrows is None:
            return [field, colours]
        write_picture(over, arrows)
        return [field, colours, over]
