"""ImagePrediction: predictions that are images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..datasets.field_types import Image
from ..datasets.formats.image import write_image
from .task import Prediction, format_range, format_size


@dataclass(frozen=True, repr=False)
class ImagePrediction(Prediction):
    """An image, base of the image predictions of several tasks.

    Attributes:
        pixels: (H, W, 3) RGB or (H, W, 1) gray. Predictions are uint8, clipped and rounded as in a file, and are scored
            in this form; ground truth may have any type that a dataset stores.
        suffix: end of the file name, STEM_SUFFIX.png.
    """

    pixels: np.ndarray
    unit: ClassVar[str] = "image"
    suffix: ClassVar[str]

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """The image itself as (H, W, 3) uint8; gray is repeated in three channels."""
        return Image().colorize(self.pixels)

    def summary(self) -> str:
        """Width and height of the image."""
        return f"an image of {self.pixels.shape[1]}x{self.pixels.shape[0]}"

    def _repr_parts(self) -> tuple[str, ...]:
        return format_size(self.pixels), self.unit, format_range(self.pixels)

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write STEM_SUFFIX.png, with one channel if the image is gray."""
        path = Path(folder) / f"{stem}_{self.suffix}.png"
        image = self.to_image()
        write_image(path, image[..., 0] if self.pixels.shape[-1] == 1 else image)
        return [path]


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as uint8 in 0..255; values outside are clipped."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)
