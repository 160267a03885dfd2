"""Ctrl-C and termination stop a run after a whole step, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_politely() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether a stop was asked for. A second Ctrl-C stops at once.

    Outside the main thread signals cannot be caught; the function then never says yes.
    """
    asked = False

    def ask(number, frame):
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
