"""Viewer interface: display of images, and keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
