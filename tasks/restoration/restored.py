"""The answer of a restoration network: the picture as it was before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...datasets.formats.picture import write_picture
from ..task import Prediction


@dataclass(frozen=True)
class Restored(Prediction):
    """A picture.

    Attributes:
        pixels: (H, W, 3) uint8 RGB: clipped and rounded as a file would hold it, which is also what is scored.
    """

    pixels: np.ndarray
    unit: ClassVar[str] = "picture"

    @classmethod
    def of(cls, values: np.ndarray) -> Restored:
        """From (H, W, 3) floats, of which those outside [0, 1] are clipped."""
        return cls(np.round(np.clip(values, 0, 1) * 255).astype(np.uint8))

    def picture(self, like: Prediction | None = None) -> np.ndarray:
        """The picture itself."""
        return self.pixels

    def brief(self) -> str:
        """Its size."""
        return f"a picture of {self.pixels.shape[1]}x{self.pixels.shape[0]}"

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_restored.png."""
        path = Path(folder) / f"{stem}_restored.png"
        write_picture(path, self.pixels)
        return [path]
