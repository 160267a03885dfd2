"""Who sees the pictures and presses the keys: a window, a page, or nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class State:
    """What is said beside a picture.

    Attributes:
        paused, recording: whether it is so.
        message: of what just happened; empty: nothing.
    """

    paused: bool = False
    recording: bool = False
    message: str = ""

    def __str__(self) -> str:
        """In a few words."""
        said = {"PAUSED": self.paused, "RECORDING": self.recording, self.message: self.message}
        return ", ".join(words for words, so in said.items() if so)


class Viewer(Protocol):
    """Where pictures are shown.

    Attributes:
        plain: whether it has no place for words, so that its state and its keys are written on the picture.
    """

    plain: bool

    def show(self, picture: np.ndarray, state: State) -> None:
        """Put a picture on the screen, (H, W, 3) uint8 RGB, in place of the one before."""
        ...

    def pressed(self) -> str:
        """What was pressed since it was last asked."""
        ...

    def close(self, last_words: str = "") -> None:
        """Take everything off the screen; the words say why, where there is a place for them."""
        ...


class Nobody:
    """No viewer: pictures are recorded only."""

    plain = False

    def show(self, picture: np.ndarray, state: State) -> None:
        """Nobody looks."""

    def pressed(self) -> str:
        """Nobody presses."""
        return ""

    def close(self, last_words: str = "") -> None:
        """Nobody leaves."""
