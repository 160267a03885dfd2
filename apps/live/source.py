"""Where frames come from: the contract of a source, and a video's file as one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..sources import frames_of
from ..video import rate_of

if TYPE_CHECKING:
    import numpy as np


class Source(Protocol):
    """Something that gives frames.

    Attributes:
        name: for sentences ("camera 0").
    """

    name: str

    def frames(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 RGB one after the other, each as soon as it is there; called in a thread of its own.

        The iterator's end is the source's; when it is closed, it lets go of what it holds.

        Raises:
            UserError: the source broke, and how.
        """
        ...


class Clip:
    """A video's file.

    Attributes:
        name, path: which.
        rate: frames a second.
        paced: whether it plays in its own time, as a camera would; else it is read as fast as it is asked for.
    """

    def __init__(self, path: Path, paced: bool) -> None:
        """Raises UserError where there is no video."""
        self.path, self.paced = path, paced
        self.name, self.rate = f"the video '{path}'", rate_of(path)

    def frames(self) -> Iterator[np.ndarray]:
        """Its frames, upright."""
        started = time.perf_counter()
        for number, pixels in enumerate(frames_of(self.path)):
            if self.paced:
                time.sleep(max(0.0, started + number / self.rate - time.perf_counter()))
            yield pixels
