"""Inference pipeline: worker threads read ahead and write behind while the model runs in the caller's thread.

Decoding, resizing, drawing and encoding release the GIL, so threads suffice. The queues between the steps are bounded,
and results come out in the order of the items.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from ..errors import DISK_ERRORS, UserError, os_error_message
from ..tasks.distributed import available_cores

Item = TypeVar("Item")
Ready = TypeVar("Ready")
Output = TypeVar("Output")
Result = TypeVar("Result")

MAX_PIXELS = 60_000_000
"""Limit on the pixels of all items in flight (one item is always allowed): a prediction may take 40 bytes a pixel."""
STOP_TIMEOUT = 3.0
"""Seconds that workers get to finish their current job when the work is cancelled."""
NO_FILE_ERRORS = {*DISK_ERRORS, errno.EMFILE, errno.ENFILE} - {errno.EIO}
"""OS errors that the next item would have, too; all others concern a file, so that only its item fails."""
POLL_INTERVAL = 0.2
"""Timeout of a wait in seconds, since not every system wakes a waiting thread when Ctrl-C is pressed."""


@dataclass(frozen=True)
class PipelineSteps(Generic[Item, Ready, Output, Result]):
    """Steps of the pipeline for one item.

    Attributes:
        prepare: reading and preprocessing, in a worker thread.
        run: the forward pass for one or more prepared items, in the caller's thread; returns an output for each.
        finish: postprocessing and writing, in a worker thread; gets the item, the prepared input and the output.
        pixels: size of an item, needed before it is prepared.
    """

    prepare: Callable[[Item], Ready]
    run: Callable[[list[Ready]], Sequence[Output]]
    finish: Callable[[Item, Ready, Output], Result]
    pixels: Callable[[Item], int]


def pipelined_map(
    items: Iterable[Item],
    steps: PipelineSteps[Item, Ready, Output, Result],
    workers: int | None = None,
    batch_size: int = 1,
) -> Generator[tuple[Item, Result | UserError], None, None]:
    """Yield every item with the result of `finish`, in order; a UserError in a step is the result of that item.

    An OS error that concerns the item's files, and a lack of memory, become a UserError.

    Closing the iterator early waits up to `STOP_TIMEOUT` seconds for running jobs and drops the others.

    Args:
        items: consumed as there is room for them, in the caller's thread.
        steps: functions to apply to each item.
        workers: threads that prepare and finish; None: one per core, and two for those that wait for the disk.
        batch_size: maximum number of items in one `run`; it does not wait for more than are ready.

    Raises:
        Exception: any other exception of a step, when the item's turn comes.
    """
    count = workers or available_cores() + 2
    pool = DaemonThreadPool(count)
    waiting, preparing, finishing = iter(items), deque[_InFlight](), deque[_InFlight]()
    following = next(waiting, None)
    try:
        while following is not None or preparing or finishing:
            while following is not None:
                pixels = steps.pixels(following)
                in_flight = [*preparing, *finishing]
                if in_flight and (
                    len(in_flight) > 2 * max(count, batch_size)
                    or sum(each.pixels for each in in_flight) + pixels > MAX_PIXELS
                ):
                    break
                preparing.append(_InFlight(following, pixels, pool.submit(steps.prepare, following)))
                following = next(waiting, None)
            while finishing and finishing[0].future.done():
                done = finishing.popleft()
                yield done.item, _outcome(done.future)
            if preparing and preparing[0].future.done():
                ready = [preparing.popleft()]
                while len(ready) < batch_size and preparing and preparing[0].future.done():
                    ready.append(preparing.popleft())
                finishing += _run_model(ready, steps, pool)
            elif preparing or finishing:
                heads = [queue[0].future for queue in (preparing, finishing) if queue]
                wait(heads, POLL_INTERVAL, FIRST_COMPLETED)
    finally:
        pool.stop(STOP_TIMEOUT)


@dataclass(frozen=True)
class _InFlight:
    item: Any
    pixels: int
    future: Future[Any]


def _run_model(
    ready: list[_InFlight], steps: PipelineSteps[Any, Any, Any, Any], pool: DaemonThreadPool
) -> list[_InFlight]:
    """Run the model on prepared items and submit their `finish`; failed futures for those that fail."""
    prepared = [one for one in ready if one.future.exception() is None]
    inputs = [one.future.result() for one in prepared]
    try:
        outputs = list(steps.run(inputs)) if prepared else []
    except Exception as error:
        if len(prepared) > 1:
            # Which of them failed shows one by one.
            return [result for one in ready for result in _run_model([one], steps, pool)]
        return [one if one.future.exception() is not None else replace(one, future=_failed(error)) for one in ready]
    finished = {
        id(one): replace(one, future=pool.submit(steps.finish, one.item, ready_input, output))
        for one, ready_input, output in zip(prepared, inputs, outputs, strict=True)
    }
    return [finished.get(id(one), one) for one in ready]


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _outcome(future: Future[Any]) -> Any:
    try:
        return future.result()
    except UserError as error:
        return error
    except MemoryError:
        return UserError("It needs more memory than is available.")
    except OSError as error:
        if error.errno in NO_FILE_ERRORS:
            raise
        return UserError(os_error_message(error))


class DaemonThreadPool:
    """Pool of daemon threads: unlike `ThreadPoolExecutor`, a worker that hangs does not keep the process alive."""

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Schedule `function(*args)`; the future gets its result or exception."""
        future: Future[Any] = Future()
        self._jobs.put((future, function, args))
        return future

    def stop(self, timeout: float) -> None:
        """Drop the jobs that have not started, and wait up to `timeout` seconds for the others."""
        try:
            while True:
                self._jobs.get_nowait()
        except Empty:
            pass
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._do(*job)
            # The result is large; only the receiver of the future should keep it alive.
            del job

    @staticmethod
    def _do(future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
