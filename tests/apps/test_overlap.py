"""Reading ahead and writing behind: the order stays, lines are bounded, and nothing hangs."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from densevision.apps import overlap
from densevision.apps.overlap import Helpers, Steps, overlapped
from densevision.errors import UserError


def steps(prepare=lambda item: item, ask=lambda ready: ready, finish=lambda item, ready, output: output, pixels=1):
    return Steps(prepare, ask, finish, lambda item: pixels)


def test_results_come_in_the_order_of_the_items_however_long_each_takes():
    def slow_at_first(item: int) -> int:
        time.sleep(0.03 if item % 3 == 0 else 0)
        return item

    finish = lambda item, ready, output: (time.sleep(0.02 if item % 4 == 0 else 0), output * 10)[1]  # noqa: E731
    found = list(overlapped(range(20), steps(slow_at_first, lambda ready: ready + 1, finish), helpers=4))
    assert found == [(item, (item + 1) * 10) for item in range(20)]


def test_the_network_stays_in_the_thread_of_the_caller_and_reading_and_writing_leave_it():
    threads: dict[str, set[int]] = {"prepare": set(), "ask": set(), "finish": set()}

    def seen(step: str, value: int) -> int:
        threads[step].add(threading.get_ident())
        return value

    list(
        overlapped(
            range(8),
            steps(lambda i: seen("prepare", i), lambda i: seen("ask", i), lambda i, r, o: seen("finish", i)),
        )
    )
    here = threading.get_ident()
    assert threads["ask"] == {here} and here not in threads["prepare"] | threads["finish"]


def test_while_one_item_is_asked_about_the_next_is_prepared():
    second_ready = threading.Event()

    def prepare(item: int) -> int:
        if item == 1:
            second_ready.set()
        return item

    def ask(ready: int) -> bool:
        return second_ready.wait(10)

    assert [said for _, said in overlapped(range(2), steps(prepare, ask), helpers=2)] == [True, True]


@pytest.mark.parametrize(("pixels", "most"), [(1, 5), (overlap.PIXELS_HELD // 2, 2), (overlap.PIXELS_HELD * 9, 1)])
def test_no_more_items_are_under_way_than_fit_and_one_always_is(pixels, most):
    under_way, largest, lock = 0, 0, threading.Lock()

    def prepare(item: int) -> int:
        nonlocal under_way, largest
        with lock:
            under_way += 1
            largest = max(largest, under_way)
        return item

    def finish(item: int, ready: int, output: int) -> int:
        nonlocal under_way
        time.sleep(0.002)
        with lock:
            under_way -= 1
        return item

    # Two helpers: at most 2 x 2 + 1 items.
    assert [item for item, _ in overlapped(range(30), steps(prepare, finish=finish, pixels=pixels), 2)] == [*range(30)]
    assert largest <= most


def test_items_are_taken_only_as_there_is_room_for_them():
    taken = []

    def endless():
        for item in range(10**9):
            taken.append(item)
            yield item

    with closing(overlapped(endless(), steps(), helpers=2)) as answers:
        next(answers)
    assert len(taken) < 20


@pytest.mark.parametrize("step", ["prepare", "ask", "finish"])
def test_a_users_mistake_in_any_step_costs_its_own_item_alone(step):
    def refuse(item: int) -> int:
        if item == 2:
            raise UserError("no picture")
        return item

    steps_ = {
        "prepare": steps(prepare=refuse),
        "ask": steps(ask=refuse),
        "finish": steps(finish=lambda item, ready, output: refuse(item)),
    }
    found = dict(overlapped(range(5), steps_[step]))
    assert str(found.pop(2)) == "no picture" and found == {0: 0, 1: 1, 3: 3, 4: 4}


def test_what_needs_too_much_memory_is_said_in_a_sentence():
    def large(item: int) -> int:
        raise MemoryError

    ((_, said),) = overlapped([0], steps(prepare=large))
    assert isinstance(said, UserError) and "more memory" in str(said)


def test_any_other_error_is_raised_and_the_helpers_end():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(overlapped(range(5), steps(finish=lambda item, ready, output: 1 // (item - 1))))
    assert threading.active_count() == before


def test_closing_early_ends_what_was_begun_drops_the_rest_and_leaves_no_thread():
    finished = []

    def finish(item: int, ready: int, output: int) -> int:
        time.sleep(0.05)
        finished.append(item)
        return item

    before = threading.active_count()
    with closing(overlapped(range(100), steps(finish=finish), helpers=2)) as answers:
        next(answers)
    made = len(finished)
    assert 1 <= made < 10 and threading.active_count() == before
    time.sleep(0.1)
    assert len(finished) == made


def test_a_helper_that_is_stuck_holds_nobody_up():
    released, begun = threading.Event(), time.monotonic()
    crew = Helpers(1)
    crew.do(released.wait)
    crew.stop(0.05)
    assert time.monotonic() - begun < 5
    released.set()
