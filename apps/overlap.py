"""Reading, network and writing side by side: helpers read ahead and write behind while the network answers.

Decoding, resizing, drawing and encoding release Python's lock, so that threads suffice. The network stays in the thread
of the caller. Whatever a helper makes waits in a bounded line, and results come out in the order of the items.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from ..errors import UserError

Item = TypeVar("Item")
Ready = TypeVar("Ready")
Output = TypeVar("Output")
Result = TypeVar("Result")

PIXELS_HELD = 60_000_000
"""So many pixels of items are under way at most, and one item at least: an answer about a pixel may take 40 bytes."""
PATIENCE = 3.0
"""Seconds that helpers get for ending what they do when the work is broken off."""
LOOK_UP = 0.2
"""Seconds after which a wait looks up, since not every system wakes a waiting thread when Ctrl-C is pressed."""


@dataclass(frozen=True)
class Steps(Generic[Item, Ready, Output, Result]):
    """What happens to an item.

    Attributes:
        prepare: before the network, by a helper.
        ask: the network, in the thread of the caller, one item after the other.
        finish: after it, by a helper: the item, what was prepared, and what the network said.
        pixels: how large an item is, asked before it is prepared.
    """

    prepare: Callable[[Item], Ready]
    ask: Callable[[Ready], Output]
    finish: Callable[[Item, Ready, Output], Result]
    pixels: Callable[[Item], int]


def overlapped(
    items: Iterable[Item], steps: Steps[Item, Ready, Output, Result], helpers: int | None = None
) -> Generator[tuple[Item, Result | UserError], None, None]:
    """Every item with what `finish` made of it, in order; a user's mistake in a step is the result of its item alone.

    Closing the iterator early lets what is being finished end, for `PATIENCE` seconds, and drops the rest.

    Args:
        items: taken as there is room for them, in the thread of the caller.
        steps: what happens to each.
        helpers: threads that prepare and finish; default: one for each core, two at least.

    Raises:
        Exception: whatever a step raised that is no UserError, in its turn.
    """
    count = helpers or max(2, cores())
    crew = Helpers(count)
    waiting, preparing, finishing = iter(items), deque[_Journey](), deque[_Journey]()
    following = next(waiting, None)
    try:
        while following is not None or preparing or finishing:
            while following is not None:
                pixels = steps.pixels(following)
                under_way = [*preparing, *finishing]
                if under_way and (
                    len(under_way) > 2 * count or sum(each.pixels for each in under_way) + pixels > PIXELS_HELD
                ):
                    break
                preparing.append(_Journey(following, pixels, crew.do(steps.prepare, following)))
                following = next(waiting, None)
            while finishing and finishing[0].future.done():
                done = finishing.popleft()
                yield done.item, _outcome(done.future)
            if preparing and preparing[0].future.done():
                ready = preparing.popleft()
                finishing.append(_Journey(ready.item, ready.pixels, _asked(ready, steps, crew)))
            elif preparing or finishing:
                heads = [line[0].future for line in (preparing, finishing) if line]
                wait(heads, LOOK_UP, FIRST_COMPLETED)
    finally:
        crew.stop(PATIENCE)


@dataclass(frozen=True)
class _Journey:
    """An item under way."""

    item: Any
    pixels: int
    future: Future[Any]


def _asked(ready: _Journey, steps: Steps[Any, Any, Any, Any], crew: Helpers) -> Future[Any]:
    """What will be made of an item that is prepared; at once what went wrong before."""
    try:
        made = ready.future.result()
        output = steps.ask(made)
    except (UserError, MemoryError) as mistake:
        failed: Future[Any] = Future()
        failed.set_exception(mistake)
        return failed
    return crew.do(steps.finish, ready.item, made, output)


def _outcome(future: Future[Any]) -> Any:
    try:
        return future.result()
    except UserError as mistake:
        return mistake
    except MemoryError:
        return UserError("It needs more memory than there is.")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Helpers:
    """Threads that do what they are given. They die with the process: no stuck disk holds it up."""

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def do(self, work: Callable[..., Any], *given: Any) -> Future[Any]:
        """What the work will return or raise, once a helper had time for it."""
        future: Future[Any] = Future()
        self._jobs.put((future, work, given))
        return future

    def stop(self, patience: float) -> None:
        """Drop what nobody has begun, and wait until the rest has ended, so many seconds at most."""
        try:
            while True:
                self._jobs.get_nowait()
        except Empty:
            pass
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(*job)
            # What was made is large, and belongs to whoever waits for it.
            del job

    @staticmethod
    def _do(future: Future[Any], work: Callable[..., Any], given: tuple[Any, ...]) -> None:
        try:
            future.set_result(work(*given))
        except BaseException as raised:
            future.set_exception(raised)
