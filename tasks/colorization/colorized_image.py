"""Colorized image: predicted a and b with the lightness of the input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...atomic_io import atomic_path
from ...datasets.core.geometry import row_strips
from ...datasets.formats.image import write_image
from ..prediction import Prediction, format_range, format_size
from .lab import rgb_of

SURE = 0.9
"""Share of the pixels of an image that are less certain than those from which on colors are not faded."""


@dataclass(frozen=True, repr=False)
class ColorizedImage(Prediction):
    """A colorized image.

    Attributes:
        lightness: (H, W) float32 L in 0..100, from the input image.
        ab: (H, W, 2) float32 predicted a and b, possibly faded, possibly outside sRGB.
        confidence: (H, W) float32 from 0 (uniform over the bins) to 1 (a single bin); None for regression.
    """

    lightness: np.ndarray
    ab: np.ndarray
    confidence: np.ndarray | None = None
    unit: ClassVar[str] = "CIE Lab"

    @cached_property
    def _image_and_clipped(self) -> tuple[np.ndarray, np.ndarray]:
        size = self.lightness.shape
        image, clipped = np.empty((*size, 3), np.uint8), np.empty(size, bool)
        for rows in row_strips(clipped):
            rgb = rgb_of(np.concatenate([self.lightness[rows, :, None], self.ab[rows]], -1))
            # Half a gray level of 8 bits is rounding.
            clipped[rows] = np.any(np.abs(rgb - 0.5) > 0.5 + 0.5 / 255, axis=-1)
            image[rows] = np.round(rgb.clip(0, 1) * 255)
        return image, clipped

    @property
    def clipped(self) -> np.ndarray:
        """(H, W) bool: pixels outside the sRGB gamut, whose color (and lightness) is clipped."""
        return self._image_and_clipped[1]

    def numpy(self) -> np.ndarray:
        """(H, W, 3) float32: L, a and b."""
        return np.concatenate([self.lightness[..., None], self.ab], axis=-1)

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8: the RGB image, clipped to the sRGB gamut."""
        return self._image_and_clipped[0].copy()

    def summary(self) -> str:
        strips = row_strips(self.lightness)
        chroma = sum(float(np.linalg.norm(self.ab[rows], axis=-1).sum()) for rows in strips)
        parts = [f"mean chroma {chroma / self.lightness.size:.1f}"]
        if self.confidence is not None:
            parts.append(f"confidence {self.confidence.mean():.2f}")
        return ", ".join([*parts, f"{100 * self.clipped.mean():.1f} % of the pixels clipped to sRGB"])

    def _repr_parts(self) -> tuple[str, ...]:
        return format_size(self.ab), self.unit, f"a and b {format_range(self.ab)}"

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write STEM_colorized.png, STEM_ab.npy (H, W, 2 float32, not clipped) and, with bins, STEM_confidence.png.

        Confidence is stored in 8 bits: 0 to 1 as 0 to 255.
        """
        folder = Path(folder)
        image, array, confidence = (folder / f"{stem}_{end}" for end in ("colorized.png", "ab.npy", "confidence.png"))
        write_image(image, self._image_and_clipped[0])
        with atomic_path(array) as aside:
            np.save(aside, self.ab.astype(np.float32, copy=False))
        if self.confidence is None:
            return [image, array]
        stored = np.empty(self.confidence.shape, np.uint8)
        for rows in row_strips(stored):
            stored[rows] = np.round(self.confidence[rows].clip(0, 1) * 255)
        write_image(confidence, stored)
        return [image, array, confidence]


def fade_to_gray(ab: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Fade colors where the network is unsure: chroma times the confidence in units of its 90th percentile, at most 1.

    Where several colors are plausible, the one that is chosen changes from region to region: blotches.

    Args:
        ab: (H, W, 2) float32 predicted a and b.
        confidence: (H, W) float32 from 0 to 1.
    """
    sure = max(float(np.quantile(confidence, SURE)), np.finfo(np.float32).tiny)
    return ab * np.minimum(confidence / np.float32(sure), 1)[..., None]
