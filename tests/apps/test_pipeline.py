"""Inference pipeline: order of the results, bounded queues, errors and shutdown."""

from __future__ import annotations

import errno
import threading
import time
from contextlib import closing

import pytest

from densevision.apps import pipeline
from densevision.apps.pipeline import DaemonThreadPool, PipelineSteps, pipelined_map
from densevision.errors import UserError


def steps(prepare=lambda item: item, run=lambda ready: ready, finish=lambda item, ready, output: output, pixels=1):
    """Steps whose model runs for one item at a time."""
    return PipelineSteps(prepare, lambda batch: [run(ready) for ready in batch], finish, lambda item: pixels)


def test_results_come_in_the_order_of_the_items():
    def slow_at_first(item: int) -> int:
        time.sleep(0.03 if item % 3 == 0 else 0)
        return item

    finish = lambda item, ready, output: (time.sleep(0.02 if item % 4 == 0 else 0), output * 10)[1]  # noqa: E731
    results = list(pipelined_map(range(20), steps(slow_at_first, lambda ready: ready + 1, finish), workers=4))
    assert results == [(item, (item + 1) * 10) for item in range(20)]


def test_the_model_runs_in_the_callers_thread_and_reading_and_writing_in_others():
    threads: dict[str, set[int]] = {"prepare": set(), "run": set(), "finish": set()}

    def record(step: str, value: int) -> int:
        threads[step].add(threading.get_ident())
        return value

    list(
        pipelined_map(
            range(8),
            steps(lambda i: record("prepare", i), lambda i: record("run", i), lambda i, r, o: record("finish", i)),
        )
    )
    caller = threading.get_ident()
    assert threads["run"] == {caller} and caller not in threads["prepare"] | threads["finish"]


def test_the_next_item_is_prepared_while_the_model_runs():
    second_ready = threading.Event()

    def prepare(item: int) -> int:
        if item == 1:
            second_ready.set()
        return item

    def run(ready: int) -> bool:
        return second_ready.wait(10)

    assert [result for _, result in pipelined_map(range(2), steps(prepare, run), workers=2)] == [True, True]


@pytest.mark.parametrize(("pixels", "limit"), [(1, 5), (pipeline.MAX_PIXELS // 2, 2), (pipeline.MAX_PIXELS * 9, 1)])
def test_the_number_of_items_in_flight_is_limited_by_their_pixels(pixels, limit):
    in_flight, largest, lock = 0, 0, threading.Lock()

    def prepare(item: int) -> int:
        nonlocal in_flight, largest
        with lock:
            in_flight += 1
            largest = max(largest, in_flight)
        return item

    def finish(item: int, ready: int, output: int) -> int:
        nonlocal in_flight
        time.sleep(0.002)
        with lock:
            in_flight -= 1
        return item

    # Two workers: at most 2 x 2 + 1 items.
    assert [item for item, _ in pipelined_map(range(30), steps(prepare, finish=finish, pixels=pixels), 2)] == [
        *range(30)
    ]
    assert largest <= limit


def test_items_are_consumed_only_as_there_is_room_for_them():
    consumed = []

    def endless():
        for item in range(10**9):
            consumed.append(item)
            yield item

    with closing(pipelined_map(endless(), steps(), workers=2)) as results:
        next(results)
    assert len(consumed) < 20


@pytest.mark.parametrize("step", ["prepare", "run", "finish"])
def test_a_user_error_in_any_step_is_the_result_of_its_item(step):
    def fail(item: int) -> int:
        if item == 2:
            raise UserError("no image")
        return item

    steps_ = {
        "prepare": steps(prepare=fail),
        "run": steps(run=fail),
        "finish": steps(finish=lambda item, ready, output: fail(item)),
    }
    results = dict(pipelined_map(range(5), steps_[step]))
    assert str(results.pop(2)) == "no image" and results == {0: 0, 1: 1, 3: 3, 4: 4}


@pytest.mark.parametrize("step", ["prepare", "finish"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "a.png"), "File name too long: a.png."),
        (PermissionError(errno.EACCES, "Permission denied", "b.png"), "Permission denied: b.png."),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "c.png"), "No such file or directory: c.png."),
        (OSError("decoder error -2"), "decoder error -2."),
    ],
)
def test_an_error_of_one_file_is_the_result_of_its_item(step, error, message):
    def fail(item: int) -> int:
        if item == 1:
            raise error
        return item

    steps_ = {"prepare": steps(prepare=fail), "finish": steps(finish=lambda item, ready, output: fail(item))}
    results = dict(pipelined_map(range(3), steps_[step]))
    assert str(results.pop(1)) == message and results == {0: 0, 2: 2}


def test_a_full_disk_ends_the_run():
    def finish(item: int, ready: int, output: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        list(pipelined_map(range(3), steps(finish=finish)))


def test_a_memory_error_becomes_a_user_error():
    def large(item: int) -> int:
        raise MemoryError

    ((_, result),) = pipelined_map([0], steps(prepare=large))
    assert isinstance(result, UserError) and "more memory" in str(result)


def test_any_other_error_is_raised_and_the_workers_end():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(pipelined_map(range(5), steps(finish=lambda item, ready, output: 1 // (item - 1))))
    assert threading.active_count() == before


def test_closing_early_finishes_running_jobs_and_drops_the_others():
    finished = []

    def finish(item: int, ready: int, output: int) -> int:
        time.sleep(0.05)
        finished.append(item)
        return item

    before = threading.active_count()
    with closing(pipelined_map(range(100), steps(finish=finish), workers=2)) as results:
        next(results)
    count = len(finished)
    assert 1 <= count < 10 and threading.active_count() == before
    time.sleep(0.1)
    assert len(finished) == count


def test_stopping_does_not_wait_for_a_blocked_worker():
    released, started = threading.Event(), time.monotonic()
    pool = DaemonThreadPool(1)
    pool.submit(released.wait)
    pool.stop(0.05)
    assert time.monotonic() - started < 5
    released.set()


def test_prepared_items_run_in_batches_of_at_most_the_batch_size():
    batches: list[list[int]] = []
    all_prepared = threading.Event()

    def prepare(item: int) -> int:
        if item == 6:
            all_prepared.set()
        return item

    def run(batch: list[int]) -> list[int]:
        all_prepared.wait(5)
        time.sleep(0.05)
        batches.append(batch)
        return [ready * 10 for ready in batch]

    several = PipelineSteps(prepare, run, lambda item, ready, output: output, lambda item: 1)
    results = list(pipelined_map(range(7), several, workers=2, batch_size=3))
    assert results == [(item, item * 10) for item in range(7)]
    assert [item for batch in batches for item in batch] == list(range(7))
    assert max(map(len, batches)) == 3


def test_one_item_that_fails_in_a_batch_is_the_only_one():
    def run(batch: list[int]) -> list[int]:
        time.sleep(0.05)
        if 4 in batch:
            raise UserError("4 cannot be run.")
        return batch

    several = PipelineSteps(lambda item: item, run, lambda item, ready, output: output, lambda item: 1)
    results = dict(pipelined_map(range(8), several, workers=2, batch_size=4))
    assert str(results.pop(4)) == "4 cannot be run."
    assert results == {item: item for item in (0, 1, 2, 3, 5, 6, 7)}
