"""What a run counts between two lines of its log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Meter:
    """Means of the loss terms and pictures per second since the last line, and the seconds of the whole training.

    Evaluating, drawing and saving happen under `paused` and count as no training time. What is pending is part of the
    training state, so that a resumed run writes the very lines of an uninterrupted one.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.steps = self.pictures = 0
        self.seconds = self.total = 0.0
        self._since = time.perf_counter()

    def add(self, terms: dict[str, float], pictures: int) -> None:
        """Count one optimizer step."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps, self.pictures = self.steps + 1, self.pictures + pictures
        self._tick()

    def flush(self) -> tuple[dict[str, float], float]:
        """Mean of every term and pictures per second since the last flush."""
        means = {name: value / self.steps for name, value in self.sums.items()}
        rate = self.pictures / max(self.seconds, 1e-9)
        self.sums, self.steps, self.pictures, self.seconds = {}, 0, 0, 0.0
        return means, rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is not training."""
        self._tick()
        try:
            yield
        finally:
            self._since = time.perf_counter()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.seconds, self.total, self._since = self.seconds + now - self._since, self.total + now - self._since, now

    def state(self) -> dict[str, Any]:
        """For the training state."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def restore(self, state: dict[str, Any]) -> None:
        """From the training state."""
        vars(self).update(state)
        self._since = time.perf_counter()
