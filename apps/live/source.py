"""Frame sources: the interface, and video files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..inputs import read_frames
from ..video import frame_rate

if TYPE_CHECKING:
    import numpy as np


class Source(Protocol):
    """Source of frames.

    Attributes:
        name: name for messages ("camera 0").
    """

    name: str

    def frames(self) -> Iterator[np.ndarray]:
        """Iterate over the frames, (H, W, 3) uint8 RGB, each as soon as it is available; runs in a separate thread.

        The iterator ends with the source; closing it releases the source.

        Raises:
            UserError: the source failed.
        """
        ...


class VideoFileSource:
    """Video file as a source.

    Attributes:
        name: name for messages.
        path: the file.
        rate: frames per second.
        realtime: whether frames come at the video's rate, as from a camera; else as fast as they are consumed.

    Raises:
        UserError: not a video.
    """

    def __init__(self, path: Path, realtime: bool) -> None:
        self.path, self.realtime = path, realtime
        self.name, self.rate = f"the video '{path}'", frame_rate(path)

    def frames(self) -> Iterator[np.ndarray]:
        """The frames, (H, W, 3) uint8 RGB, rotated upright."""
        started = time.perf_counter()
        for number, pixels in enumerate(read_frames(self.path)):
            if self.realtime:
                time.sleep(max(0.0, started + number / self.rate - time.perf_counter()))
            yield pixels
