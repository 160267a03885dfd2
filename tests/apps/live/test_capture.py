"""The newest frames of a source: what is missed, what never is, and how a source ends."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from densevision.apps.live.capture import Capture, Frame, reduced
from densevision.errors import UserError

from .toys import Toy


def numbers(frames: tuple[Frame, ...] | None) -> list[int]:
    return [int(frame.pixels[0, 0, 0]) for frame in frames or ()]


def everything(capture: Capture) -> list[list[int]]:
    found = []
    while not capture.ended:
        if (frames := capture.next(0.2)) is not None:
            found.append(numbers(frames))
    return found


def test_where_every_frame_counts_the_source_waits_and_none_is_missed():
    source = Toy(count=20)
    with Capture(source, every=True) as capture:
        capture.next(1)
        time.sleep(0.05)
        assert source.given <= 3, "one is taken, one is held, one is being read"
        assert everything(capture) == [[number] for number in range(2, 21)]
    assert source.closed


def test_whoever_comes_late_gets_the_newest_frame_and_no_other():
    with Capture(Toy(count=20)) as capture:
        while capture.captured < 20:
            time.sleep(0.001)
        assert numbers(capture.next(1)) == [20]
        assert capture.next(1) is None and capture.ended


def test_frames_given_together_follow_each_other_in_the_capture():
    """What flow is asked about: the motion from one frame of the camera to the next, however slow the network is."""
    with Capture(Toy(count=12, pause=0.002), together=2) as capture:
        runs = []
        while not capture.ended:
            time.sleep(0.008)
            if (frames := capture.next(0.2)) is not None and len(frames) == 2:
                runs.append(numbers(frames))
    assert runs and runs[-1] == [11, 12]
    assert all(second == first + 1 for first, second in runs)


def test_the_first_frame_stands_alone_where_two_are_taken():
    with Capture(Toy(count=3), together=2, every=True) as capture:
        assert everything(capture) == [[1], [1, 2], [2, 3]]


def test_frames_of_two_sizes_are_never_together():
    source = Toy(count=4, size=lambda number: (24, 32) if number < 3 else (32, 24))
    with Capture(source, together=2, every=True) as capture:
        assert everything(capture) == [[1], [1, 2], [3], [3, 4]]


def test_a_failure_comes_after_the_frames_before_it():
    with Capture(Toy(breaks=4), every=True) as capture:
        assert [numbers(capture.next(1)) for _ in range(3)] == [[1], [2], [3]]
        with pytest.raises(UserError, match="broke at frame 4"):
            capture.next(1)


def test_a_defect_of_the_package_is_not_swallowed():
    class Wrong(Toy):
        def frames(self):
            raise ZeroDivisionError
            yield

    with Capture(Wrong()) as capture, pytest.raises(ZeroDivisionError):
        capture.next(1)


@pytest.mark.parametrize(("hangs", "when"), [(1, "since it was opened"), (3, "after frame 2")])
def test_a_source_that_gives_nothing_any_more_is_a_sentence_and_no_hang(hangs, when):
    source = Toy(hangs=hangs)
    with (
        Capture(source, every=True, patience=0.5) as capture,
        pytest.raises(UserError, match=rf"No picture came from the toy for 0\.5 seconds, {when}\."),
    ):
        while not capture.ended:
            capture.next(0.02)
        raise AssertionError
    source.closed = True


def test_a_slow_network_does_not_make_a_source_stall():
    with Capture(Toy(count=3), every=True, patience=0.05) as capture:
        for _ in range(3):
            assert capture.next(1) is not None
            time.sleep(0.1)
        assert capture.next(1) is None and capture.ended


def test_leaving_early_lets_go_of_the_source():
    source, before = Toy(count=10**6), threading.active_count()
    with Capture(source, every=True) as capture:
        capture.next(1)
    assert source.closed and threading.active_count() == before


def test_large_frames_are_reduced_by_their_longer_side_and_small_ones_are_not_enlarged():
    assert reduced(np.zeros((480, 854, 3), np.uint8), 640).shape == (360, 640, 3)
    assert reduced(np.zeros((854, 480, 3), np.uint8), 640).shape == (640, 360, 3)
    assert reduced(np.zeros((24, 32, 3), np.uint8), 640).shape == (24, 32, 3)
    assert reduced(np.zeros((480, 854, 3), np.uint8), 0).shape == (480, 854, 3)
    assert reduced(np.zeros((2, 5000, 3), np.uint8), 100).shape == (1, 100, 3)
