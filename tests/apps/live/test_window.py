"""Whether a window is possible is known without a crash; the window itself needs a display."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from densevision.apps.live import window
from densevision.apps.live.viewer import State
from densevision.apps.live.window import Window, windows_work


def test_without_a_display_there_is_no_window_and_nothing_is_started(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert not windows_work()


@pytest.mark.skipif(sys.platform != "linux", reason="displays have names on Linux alone")
def test_a_display_that_does_not_answer_is_no_crash(monkeypatch):
    """Qt ends the process that finds none; this one goes on."""
    monkeypatch.setenv("DISPLAY", ":123")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not windows_work()


@pytest.mark.parametrize(
    ("probe", "works"),
    [
        ("pass", True),
        ("raise SystemExit(1)", False),
        ("import os; os.abort()", False),
        ("import time; time.sleep(99)", False),
    ],
)
def test_the_probe_decides_whatever_becomes_of_it(monkeypatch, probe, works):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(window, "PROBE", probe)
    monkeypatch.setattr(window, "PATIENCE", 1 if "sleep" in probe else 60)
    assert windows_work() == works


class Screen:
    """What the window calls of OpenCV."""

    def __init__(self, keys: list[int]) -> None:
        self.keys, self.visible, self.shown = keys, 1.0, []

    def on(self, patch: pytest.MonkeyPatch) -> Screen:
        patch.setattr(cv2, "namedWindow", lambda title, flags: None)
        patch.setattr(cv2, "imshow", lambda title, picture: self.shown.append(picture))
        patch.setattr(cv2, "waitKey", lambda wait: self.keys.pop(0) if self.keys else -1)
        patch.setattr(cv2, "getWindowProperty", lambda title, what: self.visible)
        return self


def test_keys_of_the_window_escape_and_its_closing(monkeypatch):
    screen = Screen([-1, ord("n"), ord("P"), 27, -1]).on(monkeypatch)
    shown = Window()
    assert shown.pressed() == "", "nothing can be pressed before there is a window"
    shown.show(np.full((2, 2, 3), (1, 2, 3), np.uint8), State())
    assert screen.shown[0][0, 0].tolist() == [3, 2, 1], "OpenCV's order is blue, green, red"
    assert [shown.pressed() for _ in range(5)] == ["", "n", "p", "q", ""]
    screen.visible = 0.0
    assert shown.pressed() == "q"
