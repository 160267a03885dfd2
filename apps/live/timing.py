"""Frame rate and latency of the display."""

from __future__ import annotations

import statistics
from collections import deque

import numpy as np

RECENT = 20
"""Number of frames over which the displayed figures are averaged."""
MAX_LATENCIES = 100_000
"""Number of frames for the final figures: hours of video in no more memory than an image."""


class LatencyMeter:
    """Meter of frame rate and latency.

    Attributes:
        displayed: number of frames displayed so far.
        latencies: seconds from capture to display of the latest frames, oldest first.
    """

    def __init__(self) -> None:
        self.displayed = 0
        self.latencies: deque[float] = deque(maxlen=MAX_LATENCIES)
        self._times: deque[float] = deque(maxlen=RECENT + 1)
        self._steps, self._seconds = 0, 0.0

    def add(self, captured: float, displayed: float) -> None:
        """Add a frame by its times of capture and display, in seconds."""
        if self._times:
            self._steps += 1
            self._seconds += displayed - self._times[-1]
        self.displayed += 1
        self.latencies.append(displayed - captured)
        self._times.append(displayed)

    def pause(self) -> None:
        """Exclude the time until the next frame from the frame rate."""
        self._times.clear()

    @property
    def fps(self) -> float:
        """Mean frames per second, without pauses; 0 before the second frame."""
        return self._steps / self._seconds if self._seconds else 0.0

    def status(self) -> str:
        """Frame rate and mean latency of the latest frames, as a caption."""
        if len(self._times) < 2:
            return "first frame"
        rate = (len(self._times) - 1) / (self._times[-1] - self._times[0])
        recent = [self.latencies[index] for index in range(-len(self._times), 0)]
        return f"{rate:.1f} frames/s, latency {1000 * statistics.mean(recent):.0f} ms"

    def summary(self, captured: int | None = None) -> str:
        """The final figures.

        Args:
            captured: number of frames captured, of which only the newest were displayed; None: offline.
        """
        if not self.displayed:
            return "no frame was processed"
        if captured is None:
            return f"{self.displayed} frames processed, {self.fps:.1f} frames/s"
        median, slow = (1000 * np.quantile(self.latencies, q) for q in (0.5, 0.95))
        return (
            f"{self.displayed} of {captured} frames displayed, {self.fps:.1f} frames/s, latency {median:.0f} ms"
            f" (median), {slow:.0f} ms (95th percentile)"
        )
