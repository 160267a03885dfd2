"""The newest frames of a source, read in a thread of their own.

Whoever is slow misses frames instead of seeing late ones: nothing waits in a queue, so that no latency can grow. Where
no frame may be missed (a file that is recorded), the source waits instead.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ...errors import UserError

if TYPE_CHECKING:
    from .source import Source

PATIENCE = 10.0
"""Seconds after which a source that gives nothing counts as stalled."""
GRACE = 1.0
"""Seconds that a thread gets to let go of its source."""


@dataclass(frozen=True)
class Frame:
    """What a source gave.

    Attributes:
        number: of the frame in its source, from 1.
        time: when it was captured, seconds of time.perf_counter.
        pixels: (H, W, 3) uint8 RGB.
    """

    number: int
    time: float
    pixels: np.ndarray


class Capture:
    """Keeps the newest run of consecutive frames. Use it in a with block, which starts and ends the reading.

    Attributes:
        source: what is read.
        ended: whether the source came to its end and every frame that counts was taken.
    """

    def __init__(
        self, source: Source, together: int = 1, longest: int = 0, every: bool = False, patience: float = PATIENCE
    ) -> None:
        """Nothing is read yet.

        Args:
            source: where frames come from.
            together: how many consecutive frames are kept.
            longest: pixels of the longer side to which larger frames are reduced; 0: none is.
            every: the source waits until a frame was taken, and none is missed.
            patience: seconds without a frame after which `next` gives up.
        """
        self.source, self.ended = source, False
        self._longest, self._every, self._patience = longest, every, patience
        self._held: deque[Frame] = deque(maxlen=together)
        self._taken, self._heard = 0, time.perf_counter()
        self._over, self._failure = False, None
        self._leaving = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="capture", daemon=True)

    _failure: BaseException | None

    def __enter__(self) -> Capture:
        self._heard = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the source. One that blocks for good is left to the end of the process."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        self._thread.join(GRACE)

    @property
    def captured(self) -> int:
        """Frames that the source gave so far."""
        return self._held[-1].number if self._held else 0

    def next(self, timeout: float) -> tuple[Frame, ...] | None:
        """The newest frames, oldest first, the last of which was not given before; fewer at a source's beginning.

        Args:
            timeout: seconds to wait for one.

        Returns:
            None: there is none yet, or the source `ended`.

        Raises:
            UserError: the source failed, once the frames before were taken, or stalled.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.captured > self._taken or self._over, timeout)
            if self.captured > self._taken:
                self._taken, self._heard = self.captured, time.perf_counter()
                self._changed.notify_all()
                return tuple(self._held)
            if self._failure is not None:
                raise self._failure
            self.ended = self._over
            if not self._over and time.perf_counter() - self._heard > self._patience:
                when = f"after frame {self._taken}" if self._taken else "since it was opened"
                raise UserError(f"No picture came from {self.source.name} for {self._patience:g} seconds, {when}.")
            return None

    def _read(self) -> None:
        frames = self.source.frames()
        try:
            for number, pixels in enumerate(frames, 1):
                frame = Frame(number, time.perf_counter(), reduced(pixels, self._longest))
                with self._changed:
                    if self._every:
                        self._changed.wait_for(lambda: self.captured == self._taken or self._leaving)
                    if self._leaving:
                        return
                    if self._held and self._held[-1].pixels.shape != frame.pixels.shape:
                        # Frames of two sizes are never asked about together.
                        self._held.clear()
                    self._held.append(frame)
                    self._changed.notify_all()
        except BaseException as failure:
            self._failure = failure
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            close = getattr(frames, "close", None)
            if close is not None:
                close()


def reduced(pixels: np.ndarray, longest: int) -> np.ndarray:
    """A frame whose longer side has at most so many pixels; 0: as it is."""
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if longest == 0 or scale >= 1:
        return np.ascontiguousarray(pixels)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
