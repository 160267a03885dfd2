"""Frame sources: the interface, video files, and cameras through OpenCV."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from ...datasets.formats.video import TimedFrame, open_video, read_video
from ...errors import UserError


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


DEVICES = Path("/dev")


class Camera:
    """A local camera. It is opened in the thread that reads its frames, since opening may block.

    Attributes:
        name: name for messages ("camera 0").
        number: index of the camera.
        width: requested width in pixels; cameras choose the nearest resolution that they support.
    """

    def __init__(self, number: int, width: int, open_device: Callable[[int], Any] | None = None) -> None:
        """`open_device` returns a cv2.VideoCapture, or an object with its interface.

        Raises:
            UserError: there is no such camera, as far as this is known without opening it.
        """
        self.name, self.number, self.width = f"camera {number}", number, width
        self._open_device = open_device or device
        if open_device is None and sys.platform == "linux" and not (DEVICES / f"video{number}").exists():
            numbers = sorted(
                int(match[1]) for path in DEVICES.glob("video*") if (match := re.search(r"(\d+)$", path.name))
            )
            available = f"available: {', '.join(map(str, numbers))}" if numbers else "none is connected"
            raise UserError(
                f"There is no camera {number} ({available}); choose another with --camera, or use --video FILE."
            )

    def frames(self) -> Iterator[TimedFrame]:
        """Its frames, without end.

        Raises:
            UserError: the camera cannot be opened, or stops.
        """
        import cv2

        camera = self._open_device(self.number)
        try:
            if not camera.isOpened():
                raise UserError(
                    f"Camera {self.number} cannot be opened: another program may be using it, or you lack permission."
                )
            camera.set(cv2.CAP_PROP_FRAME_WIDTH, self.width)
            camera.set(cv2.CAP_PROP_FRAME_HEIGHT, self.width * 3 // 4)
            # A larger buffer of the driver would add latency.
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            number = 0
            while True:
                ok, pixels = camera.read()
                if not ok or pixels is None:
                    raise UserError(
                        f"Camera {self.number} stopped after frame {number}: was it unplugged?"
                        if number
                        else f"Camera {self.number} gives no image: another program may be using it."
                    )
                number += 1
                rgb = pixels[..., ::-1] if pixels.ndim == 3 else pixels[..., None].repeat(3, axis=2)
                yield TimedFrame(rgb, time.perf_counter())
        finally:
            camera.release()


def device(number: int) -> Any:
    """Open a camera with OpenCV, whose warnings are silenced: `Camera.frames` raises errors instead."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2.VideoCapture(number, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
