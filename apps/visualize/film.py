"""Pictures one after the other as a video that browsers play."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError

if TYPE_CHECKING:
    import numpy as np

QUALITY = "18"
"""Of H.264 (crf): what it loses at 18 is hardly seen."""


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
    import av
    from av.error import FFmpegError

    written = 0
    try:
        with av.open(str(path), "w") as container:
            track = container.add_stream("libx264", rate=rate, options={"crf": QUALITY})
            track.pix_fmt = "yuv420p"
            for frame in frames:
                height, width = (side - side % 2 for side in frame.shape[:2])
                if not written:
                    track.height, track.width = height, width
                even = frame[:height, :width].copy()
                container.mux(track.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
                written += 1
            if written:
                container.mux(track.encode(None))
    except (FFmpegError, OSError) as error:
        raise UserError(f"The video '{path}' cannot be written: {error.strerror or error}.") from error
    if not written:
        raise UserError(f"The video '{path}' has no frame.")
    return path
