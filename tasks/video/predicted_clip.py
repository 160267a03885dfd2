"""Predicted frames: a video with the given frames before them, the frames as images, and the mask as a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...datasets.core.drawing import hstack_images
from ...datasets.field_types import Image
from ...datasets.formats.image import write_image
from ...datasets.formats.video import write_video
from ..prediction import Prediction, format_size

VIDEO_RATE = 8
"""Frames per second of the videos."""
MIN_VIDEO_SIZE = 16
"""Least height and width of a video; smaller frames are enlarged."""
STRIP_FRAMES = 6
"""Frames of `to_image`, the last given one among them."""


@dataclass(frozen=True, repr=False)
class PredictedClip(Prediction):
    """The frames that follow the given ones, or a clip from noise.

    Attributes:
        frames: (T, H, W, 3) uint8.
        given: the given frames, (K, H, W, C) as in samples; empty for clips from noise.
        masks: (T, H, W) float32 in [0, 1], the share of what moves; None if unknown.
    """

    frames: np.ndarray
    given: Sequence[np.ndarray] = ()
    masks: np.ndarray | None = None
    unit: ClassVar[str] = "frames"

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """The last given frame and predicted ones side by side, at most six, evenly spread: (H, W, 3) uint8."""
        video = [*map(Image().colorize, self.given[-1:]), *self.frames]
        count = min(len(video), STRIP_FRAMES)
        return hstack_images([video[round(index)] for index in np.linspace(0, len(video) - 1, count)])

    def summary(self) -> str:
        height, width = self.frames.shape[1:3]
        moving = "" if self.masks is None else f", {100 * self.masks.mean():.0f} % moving"
        return f"{len(self.frames)} frames of {width}x{height}{moving}"

    def _repr_parts(self) -> tuple[str, ...]:
        return f"{len(self.frames)} {self.unit}", format_size(self.frames[0])

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """STEM_clip.mp4 (given frames, then predicted ones), STEM_clip.png (`to_image`), STEM_clip_01.png and so on
        (predicted frames), and STEM_mask.mp4 (white: moving)."""
        folder = Path(folder)
        given = list(map(Image().colorize, self.given))
        video, strip = (folder / f"{stem}_clip{suffix}" for suffix in (".mp4", ".png"))
        write_video(video, map(_enlarged, (*given, *self.frames)), VIDEO_RATE)
        write_image(strip, self.to_image())
        paths = [video, strip]
        for number, frame in enumerate(self.frames, 1):
            paths.append(folder / f"{stem}_clip_{number:02d}.png")
            write_image(paths[-1], frame)
        if self.masks is not None:
            gray = np.round(self.masks * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
            paths.append(write_video(folder / f"{stem}_mask.mp4", map(_enlarged, gray), VIDEO_RATE))
        return paths


def _enlarged(frame: np.ndarray) -> np.ndarray:
    """A frame with an even number of rows and columns, at least `MIN_VIDEO_SIZE`, by repeating the last ones."""
    below, right = (max(size + size % 2, MIN_VIDEO_SIZE) - size for size in frame.shape[:2])
    return np.pad(frame, ((0, below), (0, right), (0, 0)), mode="edge")
