"""The answer of a restoration network: the picture as it was before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..picture_answer import PictureAnswer, eight_bits


@dataclass(frozen=True)
class Restored(PictureAnswer):
    """The clean picture, saved as STEM_restored.png."""

    suffix: ClassVar[str] = "restored"

    @classmethod
    def of(cls, values: np.ndarray) -> Restored:
        """From (H, W, 3) floats, of which those outside [0, 1] are clipped."""
        return cls(eight_bits(values))
