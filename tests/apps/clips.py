"""Short videos without loss, for what is asked frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np


def write_video(path: Path, frames: Sequence[np.ndarray], turned: int = 0) -> Path:
    """Frames of (H, W, 3) uint8 RGB as a video of PNGs (.avi or .mov).

    Args:
        path: where to.
        frames: all of one size.
        turned: degrees counter-clockwise by which players are told to turn them (.mov).
    """
    with av.open(str(path), "w") as container:
        track = container.add_stream("png", rate=10)
        track.height, track.width = frames[0].shape[:2]
        track.pix_fmt = "rgb24"
        if turned:
            track.set_display_rotation(turned)
        for frame in frames:
            container.mux(track.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(track.encode(None))
    return path
