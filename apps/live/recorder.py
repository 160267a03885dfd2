"""The recording: switched on and off, one file for each time."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..video import USUAL_RATE, VideoWriter
from .canvas import fitted


class Recorder:
    """Writes what is shown. Use it in a with block, whose end closes the file, whatever ends it.

    Attributes:
        rate: frames a second; None: every frame has its own time.
        files: what was written, with the count of frames.
    """

    def __init__(self, path: Path | None, folder: Path, rate: Fraction | None = None) -> None:
        """Nothing is opened before the first picture.

        Args:
            path: an .mp4 file, which is recorded to from the beginning; None: nothing is, until somebody asks for it.
            folder: of the recordings for which no file was named.
            rate: frames a second; None: every frame has its own time.

        Raises:
            UserError: no .mp4, or this machine cannot write one.
        """
        self.rate = rate
        self.files: list[tuple[Path, int]] = []
        self._path, self._folder = path, folder
        self._writer = None if path is None else self._begun(path)

    _writer: VideoWriter | None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.on:
            self.stop()

    @property
    def on(self) -> bool:
        """Whether it records."""
        return self._writer is not None

    def start(self) -> None:
        """Record to a new file: that which was named, with a number from the second time on, or one after the time."""
        again = len(self.files) + 1
        if self._path is None:
            path = self._folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{again}.mp4"
        else:
            path = self._path if again == 1 else self._path.with_stem(f"{self._path.stem}-{again}")
        self._writer = self._begun(path)

    def stop(self) -> Path | None:
        """Close the file; None where it got no picture."""
        writer, self._writer = self._writer, None
        assert writer is not None
        writer.close()
        if not writer.written:
            return None
        self.files.append((writer.path, writer.written))
        return writer.path

    def write(self, picture: np.ndarray, at: float) -> None:
        """Append a picture, fitted into the size of the file's first; nothing where it does not record.

        Args:
            picture: (H, W, 3) uint8 RGB with even sides.
            at: when it was captured, seconds.
        """
        if self._writer is None:
            return
        if not self._writer.written:
            self._size, self._since = (picture.shape[0], picture.shape[1]), at
        self._writer.write(fitted(picture, self._size), None if self.rate else at - self._since)

    def _begun(self, path: Path) -> VideoWriter:
        return VideoWriter(path, self.rate or USUAL_RATE)
