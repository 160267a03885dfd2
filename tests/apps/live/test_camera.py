"""Cameras that are missing, taken, or pulled out; fakes stand where OpenCV's would."""

from __future__ import annotations

import sys
import threading

import cv2
import numpy as np
import pytest

from densevision.apps.live import camera as module
from densevision.apps.live.camera import Camera
from densevision.apps.live.capture import Capture
from densevision.errors import UserError


class Fake:
    """What cv2.VideoCapture gives: BGR, and False when there is nothing more."""

    def __init__(self, count: int, opens: bool = True, grey: bool = False) -> None:
        self.left, self.opens, self.grey, self.asked, self.released = count, opens, grey, {}, False

    def isOpened(self) -> bool:
        return self.opens

    def set(self, what: int, value: float) -> bool:
        self.asked[what] = value
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        if self.left < 0:
            return False, None
        if self.grey:
            return True, np.full((6, 8), 7, np.uint8)
        return True, np.broadcast_to(np.array([1, 2, 3], np.uint8), (6, 8, 3))

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize(
    ("fake", "sentence"),
    [
        (Fake(0, opens=False), r"Camera 2 cannot be opened: another program may be using it, or you may not\."),
        (Fake(0), r"Camera 2 gives no picture: another program may be using it\."),
        (Fake(3), r"Camera 2 stopped after frame 3: was it unplugged\?"),
    ],
)
def test_a_camera_that_fails_says_how_and_is_let_go(fake, sentence):
    with Capture(Camera(2, 640, lambda number: fake), every=True) as capture, pytest.raises(UserError, match=sentence):
        while not capture.ended:
            capture.next(0.2)
        raise AssertionError
    assert fake.released


def test_frames_are_red_green_blue_and_grey_cameras_have_three_channels():
    colour, grey = (next(Camera(0, 640, lambda _, fake=fake: fake).frames()) for fake in (Fake(1), Fake(1, grey=True)))
    assert colour[0, 0].tolist() == [3, 2, 1] and grey.shape == (6, 8, 3)


def test_a_camera_is_asked_for_the_width_and_for_no_frames_in_stock():
    fake = Fake(5)
    running = iter(Camera(0, 320, lambda _: fake).frames())
    next(running)
    assert fake.asked == {cv2.CAP_PROP_FRAME_WIDTH: 320, cv2.CAP_PROP_FRAME_HEIGHT: 240, cv2.CAP_PROP_BUFFERSIZE: 1}
    running.close()  # pyright: ignore[reportAttributeAccessIssue] - a generator
    assert fake.released


def test_a_camera_that_is_not_there_is_known_before_anything_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "DEVICES", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(UserError, match=r"There is no camera 0 \(none is connected\); name another with --camera"):
        Camera(0, 640)
    for name in ("video2", "video10", "video-of-a-cat"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"There is no camera 1 \(there are 2, 10\)"):
        Camera(1, 640)
    assert Camera(10, 640).name == "camera 10"


def test_opening_that_blocks_ends_in_a_sentence():
    release = threading.Event()

    def blocking(number: int) -> Fake:
        release.wait(5)
        return Fake(0)

    with (
        Capture(Camera(0, 640, blocking), patience=0.1) as capture,
        pytest.raises(UserError, match=r"No picture came from camera 0 for 0\.1 seconds, since it was opened"),
    ):
        try:
            while not capture.ended:
                capture.next(0.05)
        finally:
            release.set()
