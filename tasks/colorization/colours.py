"""The answer of a colorization network: a and b beside the lightness that was given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...datasets.formats.picture import write_picture
from ...writing import written_aside
from ..task import Prediction
from .lab import rgb_of


@dataclass(frozen=True)
class Colours(Prediction):
    """The colours of a picture.

    Attributes:
        lightness: (H, W) float32 L in 0..100, the picture's own.
        ab: (H, W, 2) float32 a and b as answered, within sRGB or not.
        sureness: (H, W) float32 from 0 (any colour would do) to 1 (one bin and no other); None where none is stated.
    """

    lightness: np.ndarray
    ab: np.ndarray
    sureness: np.ndarray | None = None
    unit: ClassVar[str] = "CIE Lab"

    @cached_property
    def _rgb(self) -> np.ndarray:
        return rgb_of(np.concatenate([self.lightness[..., None], self.ab], -1))

    @property
    def clipped(self) -> np.ndarray:
        """(H, W) bool: pixels whose colour no screen shows, so that it is clipped, and their lightness with it."""
        # Half a grey level of 8 bits is rounding.
        return np.any(np.abs(self._rgb - 0.5) > 0.5 + 0.5 / 255, axis=-1)

    def picture(self, like: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8: lightness and colours, clipped to what a screen shows."""
        return np.round(self._rgb.clip(0, 1) * 255).astype(np.uint8)

    def brief(self) -> str:
        """Mean chroma, sureness, and the share of clipped pixels."""
        parts = [f"mean chroma {np.linalg.norm(self.ab, axis=-1).mean():.1f}"]
        if self.sureness is not None:
            parts.append(f"sureness {self.sureness.mean():.2f}")
        return ", ".join([*parts, f"{100 * self.clipped.mean():.1f} % of the pixels clipped to sRGB"])

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_colours.png, STEM_ab.npy (H, W, 2 float32, not clipped), and STEM_sureness.png where it is stated.

        Sureness is stored in 8 bits: 0 is 0, 1 is 255.
        """
        folder = Path(folder)
        drawn, array, sure = (folder / f"{stem}_{end}" for end in ("colours.png", "ab.npy", "sureness.png"))
        write_picture(drawn, self.picture())
        with written_aside(array) as aside:
            np.save(aside, self.ab.astype(np.float32))
        if self.sureness is None:
            return [drawn, array]
        write_picture(sure, np.round(self.sureness.clip(0, 1) * 255).astype(np.uint8))
        return [drawn, array, sure]
