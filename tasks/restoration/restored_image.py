"""RestoredImage: the prediction of a restoration model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..prediction import ImagePrediction, eight_bits


@dataclass(frozen=True, repr=False)
class RestoredImage(ImagePrediction):
    """A restored image, saved as STEM_restored.png."""

    suffix: ClassVar[str] = "restored"

    @classmethod
    def from_floats(cls, values: np.ndarray) -> RestoredImage:
        """Convert (H, W, 3) floats, clipped to [0, 1], to uint8."""
        return cls(eight_bits(values))
