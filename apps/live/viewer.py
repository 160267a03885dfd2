"""Viewers: the interface with its keys, none (offline), and an OpenCV window."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

KEYS = {"n": "next task", "p": "pause", "s": "snapshot", "r": "record", "q": "quit"}
"""Keys of the window and of the web page."""
HINT = ", ".join(f"{key}: {action}" for key, action in KEYS.items())


@dataclass(frozen=True)
class State:
    """State displayed beside an image.

    Attributes:
        paused, recording: current modes.
        message: message about the last action, or empty.
    """

    paused: bool = False
    recording: bool = False
    message: str = ""

    def __str__(self) -> str:
        parts = {"PAUSED": self.paused, "RECORDING": self.recording, self.message: self.message}
        return ", ".join(text for text, active in parts.items() if active)


class Viewer(Protocol):
    """Display of images, with keyboard input.

    Attributes:
        needs_overlay: whether the state and the keys must be drawn on the image.
    """

    needs_overlay: bool

    def show(self, image: np.ndarray, state: State) -> None:
        """Display an image, (H, W, 3) uint8 RGB, in place of the previous one."""
        ...

    def read_keys(self) -> str:
        """The keys pressed since the last call, one character each."""
        ...

    def close(self, message: str = "") -> None:
        """Close the display; the message gives the reason, if the viewer can display it."""
        ...


class HeadlessViewer:
    """Viewer without display and keys, for offline recording."""

    needs_overlay = False

    def show(self, image: np.ndarray, state: State) -> None:
        pass

    def read_keys(self) -> str:
        return ""

    def close(self, message: str = "") -> None:
        pass


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
