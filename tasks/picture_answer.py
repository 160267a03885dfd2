"""The answer of a network that paints: a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..datasets.fields import Image
from ..datasets.formats.picture import write_picture
from .task import Prediction


@dataclass(frozen=True)
class PictureAnswer(Prediction):
    """A picture; tasks say in a subclass what it is called.

    Attributes:
        pixels: (H, W, 3) RGB or (H, W, 1) grey. Answers are uint8, clipped and rounded as a file would hold them, which
            is also what is scored; truths may be of any type that a set stores.
        suffix: what a file's name ends in.
    """

    pixels: np.ndarray
    unit: ClassVar[str] = "picture"
    suffix: ClassVar[str]

    def picture(self, like: Prediction | None = None) -> np.ndarray:
        """The picture itself, grey as RGB."""
        return Image().draw(self.pixels)

    def brief(self) -> str:
        """Its size."""
        return f"a picture of {self.pixels.shape[1]}x{self.pixels.shape[0]}"

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_SUFFIX.png, of one channel where the picture is grey."""
        path = Path(folder) / f"{stem}_{self.suffix}.png"
        drawn = self.picture()
        write_picture(path, drawn[..., 0] if self.pixels.shape[-1] == 1 else drawn)
        return [path]


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Floats as uint8; those outside [0, 1] are clipped."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
