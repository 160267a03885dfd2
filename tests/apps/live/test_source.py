"""Camera capture with a fake OpenCV: missing, busy and unplugged cameras."""

from __future__ import annotations

import sys
import threading

import cv2
import numpy as np
import pytest

from densevision.apps.live import source as module
from densevision.apps.live.capture import Capture
from densevision.apps.live.source import Camera
from densevision.errors import UserError


class Fake:
    """Fake cv2.VideoCapture: BGR frames, and False after the last one."""

    def __init__(self, count: int, opens: bool = True, gray: bool = False) -> None:
        self.left, self.opens, self.gray, self.settings, self.released = count, opens, gray, {}, False

    def isOpened(self) -> bool:
        return self.opens

    def set(self, setting: int, value: float) -> bool:
        self.settings[setting] = value
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        if self.left < 0:
            return False, None
        if self.gray:
            return True, np.full((6, 8), 7, np.uint8)
        return True, np.broadcast_to(np.array([1, 2, 3], np.uint8), (6, 8, 3))

    def release(self) -> None:
        self.released = True


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        (Fake(0, opens=False), r"Camera 2 cannot be opened: another program may be using it, or you lack permission\."),
        (Fake(0), r"Camera 2 gives no image: another program may be using it\."),
        (Fake(3), r"Camera 2 stopped after frame 3: was it unplugged\?"),
    ],
)
def test_a_failing_camera_is_an_error_and_is_released(fake, message):
    with (
        Capture(Camera(2, 640, lambda number: fake), every_frame=True) as capture,
        pytest.raises(UserError, match=message),
    ):
        while not capture.ended:
            capture.next(0.2)
        raise AssertionError
    assert fake.released


def test_frames_are_rgb_even_of_gray_cameras():
    color, gray = (next(Camera(0, 640, lambda _, fake=fake: fake).frames()) for fake in (Fake(1), Fake(1, gray=True)))
    assert color.pixels[0, 0].tolist() == [3, 2, 1] and gray.pixels.shape == (6, 8, 3)


def test_width_and_buffer_size_are_set():
    fake = Fake(5)
    running = iter(Camera(0, 320, lambda _: fake).frames())
    next(running)
    assert fake.settings == {cv2.CAP_PROP_FRAME_WIDTH: 320, cv2.CAP_PROP_FRAME_HEIGHT: 240, cv2.CAP_PROP_BUFFERSIZE: 1}
    running.close()  # pyright: ignore[reportAttributeAccessIssue] - a generator
    assert fake.released


def test_a_missing_camera_is_an_error_before_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "DEVICES", tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(UserError, match=r"There is no camera 0 \(none is connected\); choose another with --camera"):
        Camera(0, 640)
    for name in ("video2", "video10", "video-of-a-cat"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"There is no camera 1 \(available: 2, 10\)"):
        Camera(1, 640)
    assert Camera(10, 640).name == "camera 10"


def test_a_camera_that_blocks_when_opened_is_an_error():
    release = threading.Event()

    def blocking(number: int) -> Fake:
        release.wait(5)
        return Fake(0)

    with (
        Capture(Camera(0, 640, blocking), timeout=0.1) as capture,
        pytest.raises(UserError, match=r"No image came from camera 0 for 0\.1 seconds, since it was opened"),
    ):
        try:
            while not capture.ended:
                capture.next(0.05)
        finally:
            release.set()
