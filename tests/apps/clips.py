"""Short lossless videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np


def write_video(path: Path, frames: Sequence[np.ndarray], rotation: int = 0) -> Path:
    """Write frames (H, W, 3) uint8 RGB as a video of PNGs (.avi or .mov).

    Args:
        path: file to write.
        frames: frames of the same size.
        rotation: rotation by players in degrees counter-clockwise (.mov).
    """
    with av.open(str(path), "w") as container:
        track = container.add_stream("png", rate=10)
        track.height, track.width = frames[0].shape[:2]
        track.pix_fmt = "rgb24"
        if rotation:
            track.set_display_rotation(rotation)
        for frame in frames:
            container.mux(track.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(track.encode(None))
    return path
