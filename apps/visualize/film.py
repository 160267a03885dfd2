"""Pictures one after the other as a video that browsers play."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError
from ..video import VideoWriter

if TYPE_CHECKING:
    import numpy as np


def write_film(path: Path, frames: Iterable[np.ndarray], rate: int) -> Path:
    """Write a video, frame by frame as they come.

    Args:
        path: an .mp4 file.
        frames: (H, W, 3) uint8 RGB, all of one size; an odd last row or column is left out, as H.264 has none.
        rate: frames a second.

    Returns:
        The path.

    Raises:
        UserError: the file cannot be written, or there is no frame.
    """
    with VideoWriter(path, rate) as film:
        for frame in frames:
            film.write(frame)
    if not film.written:
        raise UserError(f"The video '{path}' has no frame.")
    return path
