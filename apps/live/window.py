"""Viewer in an OpenCV window."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np

from .viewer import State

TITLE = "densevision"
WINDOW_TEST = "import cv2; cv2.namedWindow('densevision', cv2.WINDOW_AUTOSIZE); cv2.destroyAllWindows()"
TEST_TIMEOUT = 20
"""Timeout of the test in seconds, which includes the import of OpenCV."""
ESCAPE = 27


def window_available() -> bool:
    """Whether OpenCV can open a window.

    Tested in a subprocess: without a display, Qt aborts the process instead of raising, and a display that does not
    respond blocks it.
    """
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        result = subprocess.run(
            [sys.executable, "-c", WINDOW_TEST], capture_output=True, timeout=TEST_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.returncode == 0


class Window:
    """OpenCV window; closing it, or Escape, counts as the key q."""

    needs_overlay = True

    def __init__(self) -> None:
        self._open = False

    def show(self, image: np.ndarray, state: State) -> None:
        """Display an image; the state is already drawn on it."""
        if not self._open:
            # WINDOW_GUI_NORMAL is without Qt's toolbar, which has its own keys.
            cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
        cv2.imshow(TITLE, image[..., ::-1])
        self._open = True

    def read_keys(self) -> str:
        """The pressed key, if any; `waitKey` also redraws the window."""
        if not self._open:
            return ""
        key = cv2.waitKey(1)
        if (key >= 0 and key & 0xFF == ESCAPE) or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return "q"
        return chr(key & 0xFF).lower() if key >= 0 else ""

    def close(self, message: str = "") -> None:
        cv2.destroyAllWindows()
