"""Threaded capture of the newest frames of a source.

There is no queue: a slow consumer drops frames instead of falling behind, so the latency does not grow. Where every
frame counts (a recorded file), the source waits instead.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from ...errors import UserError
from .source import Source

STALL_TIMEOUT = 10.0
"""Seconds without a frame after which a source counts as stalled."""
CLOSE_TIMEOUT = 1.0
"""Seconds that the thread gets to release its source."""


@dataclass(frozen=True)
class Frame:
    """A captured frame.

    Attributes:
        number: index in the source, from 1.
        time: time of capture in seconds, by time.perf_counter.
        pixels: (H, W, 3) uint8 RGB.
        source_time: time in the source in seconds; only differences matter.
        duration: seconds until the next frame of the source; 0 if unknown.
    """

    number: int
    time: float
    pixels: np.ndarray
    source_time: float = 0.0
    duration: float = 0.0


class Capture:
    """Buffer of the newest consecutive frames, as a context manager that starts and stops the reading thread.

    Attributes:
        source: source of the frames.
        ended: whether the source has ended and `next` has returned its last frame.
    """

    def __init__(
        self,
        source: Source,
        num_frames: int = 1,
        max_side: int = 0,
        every_frame: bool = False,
        timeout: float = STALL_TIMEOUT,
    ) -> None:
        """Keep the newest `num_frames` consecutive frames.

        Frames whose longer side has more than `max_side` pixels are resized (0: no limit). With `every_frame` the
        source waits until a frame was consumed, so that none is dropped. After `timeout` seconds without a frame `next`
        raises an error.
        """
        self.source, self.ended = source, False
        self._max_side, self._every_frame, self._timeout = max_side, every_frame, timeout
        self._frames: deque[Frame] = deque(maxlen=num_frames)
        self._consumed, self._last_time = 0, time.perf_counter()
        self._failure: BaseException | None = None
        self._finished = self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="capture", daemon=True)

    def __enter__(self) -> Capture:
        self._last_time = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Release the source. The thread of one that blocks forever ends with the process."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_TIMEOUT)

    @property
    def captured(self) -> int:
        """Number of frames captured so far."""
        return self._frames[-1].number if self._frames else 0

    def next(self, timeout: float) -> tuple[Frame, ...] | None:
        """Wait for a new frame.

        Args:
            timeout: seconds to wait.

        Returns:
            The newest `num_frames` frames, oldest first (fewer at the start); None if there is no new one within the
            timeout, or the source has `ended`.

        Raises:
            UserError: the source failed (after its last frame was returned) or stalled.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.captured > self._consumed or self._finished, timeout)
            if self.captured > self._consumed:
                self._consumed, self._last_time = self.captured, time.perf_counter()
                self._changed.notify_all()
                return tuple(self._frames)
            if self._failure is not None:
                raise self._failure
            self.ended = self._finished
            if not self._finished and time.perf_counter() - self._last_time > self._timeout:
                when = f"after frame {self._consumed}" if self._consumed else "since it was opened"
                raise UserError(f"No image came from {self.source.name} for {self._timeout:g} seconds, {when}.")
            return None

    def _read(self) -> None:
        frames = self.source.frames()
        try:
            for number, (pixels, source_time, duration) in enumerate(frames, 1):
                pixels = downscale(pixels, self._max_side)
                frame = Frame(number, time.perf_counter(), pixels, source_time, duration)
                with self._changed:
                    if self._every_frame:
                        self._changed.wait_for(lambda: self.captured == self._consumed or self._closing)
                    if self._closing:
                        return
                    if self._frames and self._frames[-1].pixels.shape != frame.pixels.shape:
                        # The frames of one input must have the same size.
                        self._frames.clear()
                    self._frames.append(frame)
                    self._changed.notify_all()
        except BaseException as failure:
            self._failure = failure
        finally:
            with self._changed:
                self._finished = True
                self._changed.notify_all()
            close = getattr(frames, "close", None)
            if close is not None:
                close()


def downscale(pixels: np.ndarray, max_side: int) -> np.ndarray:
    """Resize a frame (H, W, 3) so that its longer side has at most `max_side` pixels; 0: unchanged."""
    height, width = pixels.shape[:2]
    scale = max_side / max(height, width)
    if max_side == 0 or scale >= 1:
        return np.ascontiguousarray(pixels)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
