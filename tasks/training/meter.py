"""Running means of the loss terms and training time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Meter:
    """Means of the loss terms and images per second since the last log line, and seconds of training in total.

    Evaluation, drawing and saving run under `paused` and do not count as training time. Sums since the last line are
    part of the training state, so that a resumed run writes the same lines as an uninterrupted one.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.steps = self.images = 0
        self.seconds = self.total = 0.0
        self._since = time.perf_counter()

    def add(self, terms: dict[str, float], images: int) -> None:
        """Count one optimizer step."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps, self.images = self.steps + 1, self.images + images
        self._tick()

    def flush(self) -> tuple[dict[str, float], float]:
        """Mean of every term and images per second since the last flush."""
        means = {name: value / self.steps for name, value in self.sums.items()}
        rate = self.images / max(self.seconds, 1e-9)
        self.sums, self.steps, self.images, self.seconds = {}, 0, 0, 0.0
        return means, rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside this context."""
        self._tick()
        try:
            yield
        finally:
            self._since = time.perf_counter()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.seconds, self.total, self._since = self.seconds + now - self._since, self.total + now - self._since, now

    def state(self) -> dict[str, Any]:
        """Plain values for the training state."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a training state."""
        vars(self).update(state)
        self._since = time.perf_counter()
