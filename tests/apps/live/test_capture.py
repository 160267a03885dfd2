"""Capture of the newest frames: dropped frames, sources that wait, fail or end."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from densevision.apps.live.capture import Capture, Frame, downscale
from densevision.errors import UserError

from .toys import Toy


def numbers(frames: tuple[Frame, ...] | None) -> list[int]:
    return [int(frame.pixels[0, 0, 0]) for frame in frames or ()]


def read_all(capture: Capture) -> list[list[int]]:
    results = []
    while not capture.ended:
        if (frames := capture.next(0.2)) is not None:
            results.append(numbers(frames))
    return results


def test_with_every_frame_the_source_waits_and_no_frame_is_dropped():
    source = Toy(count=20)
    with Capture(source, every_frame=True) as capture:
        capture.next(1)
        time.sleep(0.05)
        assert source.given <= 3, "one is consumed, one is buffered, one is being read"
        assert read_all(capture) == [[number] for number in range(2, 21)]
    assert source.closed


def test_a_slow_consumer_gets_only_the_newest_frame():
    with Capture(Toy(count=20)) as capture:
        while capture.captured < 20:
            time.sleep(0.001)
        assert numbers(capture.next(1)) == [20]
        assert capture.next(1) is None and capture.ended


def test_frames_of_one_result_are_consecutive():
    """The input of flow: consecutive frames of the camera, however slow the model is."""
    with Capture(Toy(count=12, pause=0.002), num_frames=2) as capture:
        pairs = []
        while not capture.ended:
            time.sleep(0.008)
            if (frames := capture.next(0.2)) is not None and len(frames) == 2:
                pairs.append(numbers(frames))
    assert pairs and pairs[-1] == [11, 12]
    assert all(second == first + 1 for first, second in pairs)


def test_the_first_result_has_one_frame_where_two_are_requested():
    with Capture(Toy(count=3), num_frames=2, every_frame=True) as capture:
        assert read_all(capture) == [[1], [1, 2], [2, 3]]


def test_frames_of_two_sizes_are_not_in_one_result():
    source = Toy(count=4, size=lambda number: (24, 32) if number < 3 else (32, 24))
    with Capture(source, num_frames=2, every_frame=True) as capture:
        assert read_all(capture) == [[1], [1, 2], [3], [3, 4]]


def test_a_failure_is_raised_after_the_frames_before_it():
    with Capture(Toy(breaks=4), every_frame=True) as capture:
        assert [numbers(capture.next(1)) for _ in range(3)] == [[1], [2], [3]]
        with pytest.raises(UserError, match="broke at frame 4"):
            capture.next(1)


def test_other_exceptions_are_raised():
    class Wrong(Toy):
        def frames(self):
            raise ZeroDivisionError
            yield

    with Capture(Wrong()) as capture, pytest.raises(ZeroDivisionError):
        capture.next(1)


@pytest.mark.parametrize(("hangs", "when"), [(1, "since it was opened"), (3, "after frame 2")])
def test_a_stalled_source_is_an_error(hangs, when):
    source = Toy(hangs=hangs)
    with (
        Capture(source, every_frame=True, timeout=0.5) as capture,
        pytest.raises(UserError, match=rf"No image came from the toy for 0\.5 seconds, {when}\."),
    ):
        while not capture.ended:
            capture.next(0.02)
        raise AssertionError
    source.closed = True


def test_a_slow_consumer_is_not_a_stalled_source():
    with Capture(Toy(count=3), every_frame=True, timeout=0.05) as capture:
        for _ in range(3):
            assert capture.next(1) is not None
            time.sleep(0.1)
        assert capture.next(1) is None and capture.ended


def test_leaving_early_releases_the_source():
    source, before = Toy(count=10**6), threading.active_count()
    with Capture(source, every_frame=True) as capture:
        capture.next(1)
    assert source.closed and threading.active_count() == before


def test_large_frames_are_downscaled_and_small_ones_are_not_enlarged():
    assert downscale(np.zeros((480, 854, 3), np.uint8), 640).shape == (360, 640, 3)
    assert downscale(np.zeros((854, 480, 3), np.uint8), 640).shape == (640, 360, 3)
    assert downscale(np.zeros((24, 32, 3), np.uint8), 640).shape == (24, 32, 3)
    assert downscale(np.zeros((480, 854, 3), np.uint8), 0).shape == (480, 854, 3)
    assert downscale(np.zeros((2, 5000, 3), np.uint8), 100).shape == (1, 100, 3)
