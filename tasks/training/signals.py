"""Graceful interruption: Ctrl-C and SIGTERM stop a run after a complete step, or at once while it waits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interruption:
    """A request to stop; calling it returns whether there is one.

    Attributes:
        signal: the requested signal, or None.
        forced: whether a second request stopped the run at any place, so that its state may be incomplete.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.forced = self._at_once = False

    def __call__(self) -> bool:
        return self.signal is not None

    def request(self, number: int = signal.SIGINT) -> None:
        """Request to stop.

        Raises:
            KeyboardInterrupt: with the signal, if this is the second request or the run is inside `at_once`.
        """
        self.forced, self.signal = self.signal is not None, signal.Signals(number)
        if self.forced or self._at_once:
            raise KeyboardInterrupt(self.signal)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise KeyboardInterrupt as soon as a stop is requested inside this context, or if it was before."""
        self._at_once = True
        try:
            if self.signal is not None:
                raise KeyboardInterrupt(self.signal)
            yield
        finally:
            self._at_once = False


@contextmanager
def graceful_interrupt() -> Iterator[Interruption]:
    """Yield an `Interruption` that SIGINT and SIGTERM request. A second signal stops at once.

    Outside the main thread signals cannot be caught; nothing requests it then.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: interruption.request(number)) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
