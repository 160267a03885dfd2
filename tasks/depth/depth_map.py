"""The answer of a depth network: metres along the camera's axis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...datasets.fields import Depth as DepthKind
from ...datasets.formats.picture import write_picture
from ...datasets.formats.png16 import write_png16
from ...writing import written_aside
from ..task import Prediction

MILLIMETRES = 1000.0
FARTHEST = 65.535
"""Metres that still fit a 16-bit picture of millimetres."""


@dataclass(frozen=True)
class DepthMap(Prediction):
    """Depth of every pixel of a picture.

    Attributes:
        metres: (H, W) float32, along the camera's axis; nan where unknown (only in truths).
    """

    metres: np.ndarray
    unit: ClassVar[str] = "metres"

    def picture(self, like: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8: near is bright, in the range of `like`."""
        reference = like.metres if isinstance(like, DepthMap) else None
        return DepthKind().draw(self.metres, reference)

    def brief(self) -> str:
        """The range, and how the picture shows it."""
        # fmin and fmax take the number where the other is nan.
        near, far = np.fmin.reduce(self.metres, axis=None), np.fmax.reduce(self.metres, axis=None)
        return f"{near:.1f} to {far:.1f} m, near is bright" if near <= far else "no known depth"

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_depth.npy (float32 metres), STEM_depth_mm.png (16-bit millimetres, 0 unknown), STEM_depth.png (colours).

        Depths beyond 65.535 m do not fit the 16-bit picture and are stored there as its largest value.
        """
        folder = Path(folder)
        array, millimetres, colours = (folder / f"{stem}_depth{end}" for end in (".npy", "_mm.png", ".png"))
        with written_aside(array) as aside:
            np.save(aside, self.metres.astype(np.float32))
        known = self.metres.clip(0, FARTHEST)
        unknown = ~np.isfinite(self.metres)
        if unknown.any():
            known[unknown] = 0
        known *= MILLIMETRES
        write_png16(millimetres, np.rint(known, out=known).astype(np.uint16))
        write_picture(colours, self.picture())
        return [array, millimetres, colours]
