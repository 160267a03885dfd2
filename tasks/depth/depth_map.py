"""DepthMap: the prediction of a depth model, in meters along the optical axis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...atomic_io import atomic_path
from ...datasets.core.drawing import DEPTH_COLORS, depth_levels
from ...datasets.core.geometry import row_strips
from ...datasets.field_types import Depth as DepthKind
from ...datasets.formats.image import write_image
from ...datasets.formats.png import write_indexed_png, write_png16
from ..prediction import Prediction, format_range, format_size

MILLIMETERS = 1000.0
MAX_DEPTH = 65.535
"""Maximum depth in meters that fits into 16 bits as millimeters."""


@dataclass(frozen=True, repr=False)
class DepthMap(Prediction):
    """Depth of every pixel of an image.

    Attributes:
        meters: (H, W) float32, along the optical axis; nan where unknown (only in ground truth).
    """

    meters: np.ndarray
    unit: ClassVar[str] = "meters"

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """Visualize depth as (H, W, 3) uint8: near is bright, with the color scale of `reference` if stated."""
        reference_meters = reference.meters if isinstance(reference, DepthMap) else None
        return DepthKind().colorize(self.meters, reference_meters)

    def summary(self) -> str:
        # fmin and fmax return the number if the other operand is nan.
        near, far = np.fmin.reduce(self.meters, axis=None), np.fmax.reduce(self.meters, axis=None)
        return f"{near:.1f} to {far:.1f} m, near is bright" if near <= far else "no known depth"

    def _repr_parts(self) -> tuple[str, ...]:
        return format_size(self.meters), self.unit, format_range(self.meters)

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write the depth map; returns the files.

        STEM_depth.npy (float32 meters), STEM_depth_mm.png (16-bit millimeters, 0 unknown), STEM_depth.png (colors).
        The last one has a palette, if every depth is known: few colors are written three times as fast as RGB.
        Depths beyond 65.535 m do not fit into 16 bits and are clipped to it.
        """
        folder = Path(folder)
        array, millimeters, colors = (folder / f"{stem}_depth{end}" for end in (".npy", "_mm.png", ".png"))
        with atomic_path(array) as temporary:
            np.save(temporary, self.meters.astype(np.float32, copy=False))
        stored, complete = np.empty(self.meters.shape, np.uint16), bool(np.isfinite(self.meters).all())
        for rows in row_strips(stored):
            meters = self.meters[rows] if complete else np.nan_to_num(self.meters[rows], posinf=0, neginf=0)
            stored[rows] = np.rint(meters.clip(0, MAX_DEPTH) * MILLIMETERS)
        write_png16(millimeters, stored)
        del stored
        if complete:
            write_indexed_png(colors, depth_levels(self.meters, self.meters), DEPTH_COLORS)
        else:
            write_image(colors, self.to_image())  # black is a color more
        return [array, millimeters, colors]
