"""Detection of a window without a crash, and keys of the window with a fake OpenCV."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from densevision.apps.live import viewer
from densevision.apps.live.viewer import State, Window, window_available


def test_without_a_display_no_process_is_started(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert not window_available()


@pytest.mark.skipif(sys.platform != "linux", reason="displays have names on Linux only")
def test_a_missing_display_is_not_a_crash(monkeypatch):
    """Qt aborts a process without a display; this one must survive."""
    monkeypatch.setenv("DISPLAY", ":123")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not window_available()


@pytest.mark.parametrize(
    ("script", "available"),
    [
        ("pass", True),
        ("raise SystemExit(1)", False),
        ("import os; os.abort()", False),
        ("import time; time.sleep(99)", False),
    ],
)
def test_the_result_of_the_test_script_decides(monkeypatch, script, available):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(viewer, "WINDOW_TEST", script)
    monkeypatch.setattr(viewer, "TEST_TIMEOUT", 1 if "sleep" in script else 60)
    assert window_available() == available


class Screen:
    """Fake of the OpenCV functions that the window calls."""

    def __init__(self, keys: list[int]) -> None:
        self.keys, self.visible, self.images = keys, 1.0, []

    def install(self, patch: pytest.MonkeyPatch) -> Screen:
        patch.setattr(cv2, "namedWindow", lambda title, flags: None)
        patch.setattr(cv2, "imshow", lambda title, image: self.images.append(image))
        patch.setattr(cv2, "waitKey", lambda wait: self.keys.pop(0) if self.keys else -1)
        patch.setattr(cv2, "getWindowProperty", lambda title, property_: self.visible)
        return self


def test_keys_of_the_window_escape_and_closing(monkeypatch):
    screen = Screen([-1, ord("n"), ord("P"), 27, -1]).install(monkeypatch)
    window_ = Window()
    assert window_.read_keys() == "", "there are no keys before the first image"
    window_.show(np.full((2, 2, 3), (1, 2, 3), np.uint8), State())
    assert screen.images[0][0, 0].tolist() == [3, 2, 1], "OpenCV uses BGR"
    assert [window_.read_keys() for _ in range(5)] == ["", "n", "p", "q", ""]
    screen.visible = 0.0
    assert window_.read_keys() == "q"
