"""NewView: an image of a scene from where no camera was, with its depth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...atomic_io import write_json
from ...datasets.core.drawing import draw_depth
from ...datasets.field_types import Image
from ...datasets.formats.arrays import write_npy
from ...datasets.formats.image import write_image
from ..image_quality import psnr, ssim
from ..prediction import Prediction, format_range, format_size


@dataclass(frozen=True, repr=False)
class NewView(Prediction):
    """A synthesized image.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 of the most probable plane, in the unit of the camera poses; None if there are no planes.
        photo: the photo of the same camera, (H, W, 3) uint8, if it is known; no network has seen it.
    """

    pixels: np.ndarray
    depth: np.ndarray | None = None
    photo: np.ndarray | None = None
    unit: ClassVar[str] = "image"

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """The image itself."""
        return Image().colorize(self.pixels)

    def scores(self, border: int = 8) -> dict[str, float]:
        """PSNR in dB, SSIM, and mean absolute error in gray levels against the photo, without a border; {} without."""
        if self.photo is None or self.photo.shape != self.pixels.shape or min(self.photo.shape[:2]) <= 2 * border:
            return {}
        return compare(self.pixels, self.photo, border)

    def summary(self) -> str:
        """Size, depths, and the scores if the photo is known."""
        height, width = self.pixels.shape[:2]
        depth = "" if self.depth is None else f", depth {format_range(self.depth)}"
        scores = self.scores()
        scored = f", PSNR {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.3f}" if scores else ""
        return f"a view of {width}x{height}{depth}{scored}"

    def _repr_parts(self) -> tuple[str, ...]:
        return format_size(self.pixels), self.unit

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_view.png; STEM_view_depth.npy and .png (colors); STEM_view.json with `psnr`, `ssim`, `error` and
        `border` if the photo is known."""
        folder = Path(folder)
        view, depth, colors, scores = (
            folder / f"{stem}_view{end}" for end in (".png", "_depth.npy", "_depth.png", ".json")
        )
        write_image(view, self.to_image())
        paths = [view]
        if self.depth is not None:
            write_npy(depth, self.depth)
            write_image(colors, draw_depth(self.depth, self.depth))
            paths += [depth, colors]
        if self.scores():
            write_json(scores, {"border": 8, **self.scores()})
            paths.append(scores)
        return paths


def compare(pixels: np.ndarray, photo: np.ndarray, border: int, mask: np.ndarray | None = None) -> dict[str, float]:
    """`psnr` (dB), `ssim` and `error` (mean absolute, gray levels) of two uint8 images without a border.

    Args:
        pixels, photo: (H, W, 3).
        border: pixels on every side that do not count.
        mask: (H, W) bool of the pixels that count; ssim then compares images that are black elsewhere.
    """
    inside = (slice(border, photo.shape[0] - border), slice(border, photo.shape[1] - border))
    first, second = (image[inside].astype(np.float64) for image in (pixels, photo))
    counted = np.ones(first.shape[:2], bool) if mask is None else mask[inside]
    if not counted.any():
        return dict.fromkeys(("psnr", "ssim", "error"), float("nan"))
    return {
        "psnr": psnr(first[counted], second[counted]),
        "ssim": ssim(first * counted[..., None], second * counted[..., None]),
        "error": float(np.abs(first - second)[counted].mean()),
    }
