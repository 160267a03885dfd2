"""Frame sources: the interface, and video files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ...datasets.formats.video import TimedFrame, open_video, read_video


class Source(Protocol):
    """Source of frames.

    Attributes:
        name: name for messages ("camera 0").
    """

    name: str

    def frames(self) -> Iterator[TimedFrame]:
        """Iterate over the frames, each as soon as it is available; runs in a separate thread.

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
        realtime: whether frames come at their times, as from a camera; else as fast as they are consumed.

    Raises:
        UserError: not a video.
    """

    def __init__(self, path: Path, realtime: bool) -> None:
        self.path, self.realtime, self.name = path, realtime, f"the video '{path}'"
        with open_video(path):
            pass

    def frames(self) -> Iterator[TimedFrame]:
        """The frames, turned and mirrored for display."""
        started = time.perf_counter()
        for frame in read_video(self.path):
            if self.realtime:
                time.sleep(max(0.0, started + frame.time - time.perf_counter()))
            yield frame
