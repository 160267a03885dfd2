"""Flow prediction: a motion vector for every pixel, with `.flo`, color wheel and arrows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...datasets.core.drawing import draw_arrows
from ...datasets.field_types import Flow as FlowType
from ...datasets.field_types import Image
from ...datasets.formats.flow import write_flo
from ...datasets.formats.image import write_image
from ..prediction import Prediction, format_range, format_size

ARROWS_PER_SHORT_SIDE = 20
"""Number of arrows along the shorter side of the image."""

MIN_ARROW_STEP = 8
"""Minimum distance between arrows in pixels, so that they do not overlap in small images."""


@dataclass(frozen=True, repr=False)
class FlowField(Prediction):
    """Motion of every pixel from the first image to the second.

    Attributes:
        vectors: (H, W, 2) float32 pixels, x then y; nan where unknown (only in ground truth).
        first: (H, W, C), the first image as in samples, on which arrows are drawn; None if it is not available.
    """

    vectors: np.ndarray
    first: np.ndarray | None = None
    unit: ClassVar[str] = "pixels"

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """Color wheel, (H, W, 3) uint8; full saturation at the maximum motion of `reference` (None: of this flow)."""
        scale = reference.vectors if isinstance(reference, FlowField) else None
        return FlowType().colorize(self.vectors, scale)

    def summary(self) -> str:
        lengths = np.hypot(self.vectors[..., 0], self.vectors[..., 1])
        known = lengths[np.isfinite(lengths)]
        return f"mean {known.mean():.1f} px, max {known.max():.1f} px" if known.size else "no known motion"

    def arrows(self) -> np.ndarray | None:
        """Arrows over the first image, (H, W, 3) uint8; None without that image."""
        if self.first is None:
            return None
        step = max(MIN_ARROW_STEP, min(self.first.shape[:2]) // ARROWS_PER_SHORT_SIDE)
        return draw_arrows(Image().colorize(self.first), self.vectors, step)

    def _repr_parts(self) -> tuple[str, ...]:
        return format_size(self.vectors), self.unit, format_range(self.vectors)

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_flow.flo (pixels, Middlebury's format), STEM_flow.png (color wheel), STEM_flow_arrows.png.

        The arrows are omitted if the first image is not available.
        """
        folder = Path(folder)
        flow_path, color_path, arrows_path = (folder / f"{stem}_flow{end}" for end in (".flo", ".png", "_arrows.png"))
        write_flo(flow_path, self.vectors.astype(np.float32))
        write_image(color_path, self.to_image())
        arrows = self.arrows()
        if arrows is None:
            return [flow_path, color_path]
        write_image(arrows_path, arrows)
        return [flow_path, color_path, arrows_path]
