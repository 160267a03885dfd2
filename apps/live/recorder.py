"""Video recording of the display, one file per start."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ...datasets.core.drawing import fit_to_cell
from ...datasets.formats.video import VideoWriter


class Recorder:
    """Recorder of the displayed images, as a context manager that closes the file in the end.

    Attributes:
        files: the files written, with their number of frames.
    """

    def __init__(self, path: Path | None, folder: Path) -> None:
        """The file is opened at the first image.

        Args:
            path: .mp4 file to record to from the start; None: recording begins with `start`.
            folder: folder of the recordings if there is no path.

        Raises:
            UserError: the path does not end in .mp4, or this machine cannot write such a file.
        """
        self.files: list[tuple[Path, int]] = []
        self._path, self._folder = path, folder
        self._writer: VideoWriter | None = None if path is None else VideoWriter(path)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.recording:
            self.stop()

    @property
    def recording(self) -> bool:
        """Whether a recording is active."""
        return self._writer is not None

    def start(self) -> None:
        """Start a new file: the stated path, numbered from the second recording on, or one named by the time."""
        number = len(self.files) + 1
        if self._path is None:
            path = self._folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{number}.mp4"
        else:
            path = self._path if number == 1 else self._path.with_stem(f"{self._path.stem}-{number}")
        self._writer = VideoWriter(path)

    def stop(self) -> Path | None:
        """Close the file and return its path; None if no image was written."""
        writer, self._writer = self._writer, None
        assert writer is not None
        writer.close()
        if not writer.written:
            return None
        self.files.append((writer.path, writer.written))
        return writer.path

    def write(self, image: np.ndarray, at: float, duration: float = 0.0) -> None:
        """Append an image, letterboxed to the size of the file's first image; does nothing if recording is off.

        The image, (H, W, 3) uint8 RGB of even height and width, is displayed from `at`, a time of its source in
        seconds; the last one for `duration` seconds, if that is known (not 0).
        """
        if self._writer is None:
            return
        if not self._writer.written:
            self._size, self._since = (image.shape[0], image.shape[1]), at
        self._writer.write(fit_to_cell(image, self._size, background=0), at - self._since, duration)
