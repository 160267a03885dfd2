"""How many frames a second, and how late."""

from __future__ import annotations

import statistics
from collections import deque

import numpy as np

RECENT = 20
"""Frames over which the figures on the screen are taken."""
REMEMBERED = 100_000
"""Frames over which the closing figures are taken: hours, and no more memory than a picture."""


class Timing:
    """Counts what was shown.

    Attributes:
        shown: frames so far.
        latencies: seconds from capture to screen of the latest frames, oldest first.
    """

    def __init__(self) -> None:
        self.shown = 0
        self.latencies: deque[float] = deque(maxlen=REMEMBERED)
        self._times: deque[float] = deque(maxlen=RECENT + 1)
        self._steps, self._seconds = 0, 0.0

    def count(self, captured: float, shown: float) -> None:
        """A frame was captured at one time and shown at another, both in seconds."""
        if self._times:
            self._steps += 1
            self._seconds += shown - self._times[-1]
        self.shown += 1
        self.latencies.append(shown - captured)
        self._times.append(shown)

    def rest(self) -> None:
        """Nothing is shown for a while that counts for no rate."""
        self._times.clear()

    @property
    def rate(self) -> float:
        """Frames a second from one frame to the next; 0 before there are two."""
        return self._steps / self._seconds if self._seconds else 0.0

    def now(self) -> str:
        """Rate and latency of the latest frames, for the screen."""
        if len(self._times) < 2:
            return "first frame"
        rate = (len(self._times) - 1) / (self._times[-1] - self._times[0])
        recent = [self.latencies[place] for place in range(-len(self._times), 0)]
        return f"{rate:.1f} frames/s, latency {1000 * statistics.mean(recent):.0f} ms"

    def line(self, captured: int | None = None) -> str:
        """The closing figures.

        Args:
            captured: how many frames the source gave, of which the newest were shown; None: there was no screen.
        """
        if not self.shown:
            return "no frame was answered"
        if captured is None:
            return f"{self.shown} frames answered, {self.rate:.1f} frames/s"
        usual, late = (1000 * np.quantile(self.latencies, share) for share in (0.5, 0.95))
        return (
            f"{self.shown} of {captured} frames shown, {self.rate:.1f} frames/s, latency {usual:.0f} ms (median),"
            f" {late:.0f} ms (95 %)"
        )
