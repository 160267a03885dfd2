"""A window of OpenCV, where OpenCV has windows and a display exists."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np

from .viewer import State

TITLE = "densevision"
PROBE = "import cv2; cv2.namedWindow('densevision', cv2.WINDOW_AUTOSIZE); cv2.destroyAllWindows()"
PATIENCE = 20
"""Seconds for the probe, in which OpenCV is imported."""
ESCAPE = 27


def windows_work() -> bool:
    """Whether OpenCV can open a window here.

    Tried in a process of its own: a Qt that finds no display does not raise, it ends the process, and a display that
    does not answer makes it wait.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        tried = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


class Window:
    """The window; closing it, or Escape, is the key q."""

    plain = True

    def __init__(self) -> None:
        self._shown = False

    def show(self, picture: np.ndarray, state: State) -> None:
        """Draw a picture; its state is written on it."""
        if not self._shown:
            # Without the toolbar of Qt, whose keys are others.
            cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
        cv2.imshow(TITLE, picture[..., ::-1])
        self._shown = True

    def pressed(self) -> str:
        """At most one; the window is painted meanwhile."""
        if not self._shown:
            return ""
        key = cv2.waitKey(1)
        if (key >= 0 and key & 0xFF == ESCAPE) or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return "q"
        return chr(key & 0xFF).lower() if key >= 0 else ""

    def close(self, last_words: str = "") -> None:
        """Close the window."""
        cv2.destroyAllWindows()
