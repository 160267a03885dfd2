"""H.264 video writing, and frame rates of video files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic_io import atomic_path
from ..errors import UserError

if TYPE_CHECKING:
    import numpy as np

ENCODER = "libx264"
ENCODER_OPTIONS = {"crf": "18", "preset": "veryfast"}
"""Options of the H.264 encoder: crf 18 is visually lossless, and slower presets than veryfast do not run live."""
CLOCK_RATE = 90_000
"""Ticks per second of the file's time base, a multiple of every common frame rate."""
DEFAULT_RATE = Fraction(30)
"""Frames per second of a video without a frame rate."""


class VideoWriter:
    """Writer of .mp4 files (H.264, yuv420p), as a context manager; an exception in the block still leaves a valid file.

    The video is written to a temporary file and renamed when it is closed. Without a frame, no file is written.

    Attributes:
        path: path of the .mp4 file.
        rate: frames per second.
        written: number of frames written so far.
    """

    def __init__(self, path: Path, rate: Fraction | int = DEFAULT_RATE) -> None:
        """The file is opened at the first frame.

        Raises:
            UserError: the path does not end in .mp4, or this PyAV cannot write H.264.
        """
        import av

        if path.suffix.lower() != ".mp4":
            raise UserError(f"The video '{path}' cannot be written: give a name that ends in .mp4.")
        if ENCODER not in av.codecs_available:
            raise UserError("This build of PyAV cannot write H.264 videos; install one that can: pip install av.")
        self.path, self.rate, self.written = path, Fraction(rate), 0
        self._last = -1
        self._open = ExitStack()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, frame: np.ndarray, at: float | None = None) -> None:
        """Append a frame.

        Args:
            frame: (H, W, 3) uint8 RGB, of the same size for all frames; an odd last row or column is cropped, since
                yuv420p needs even sizes.
            at: seconds since the first frame; None: by the frame rate.

        Raises:
            UserError: the file cannot be written.
        """
        import av
        from av.error import FFmpegError

        height, width = (size - size % 2 for size in frame.shape[:2])
        try:
            if not self.written:
                self._begin(height, width)
            image = av.VideoFrame.from_ndarray(frame[:height, :width].copy(), format="rgb24")
            due = round((self.written / self.rate if at is None else at) * CLOCK_RATE)
            # Timestamps must increase, or players drop frames.
            self._last = image.pts = max(due, self._last + 1)
            image.time_base = Fraction(1, CLOCK_RATE)
            self._container.mux(self._track.encode(image))
        except (FFmpegError, OSError) as error:
            raise self._write_error(error) from error
        self.written += 1

    def close(self) -> None:
        """Flush the encoder and rename the file; calling it again does nothing.

        Raises:
            UserError: the file cannot be written; an incomplete file is removed.
        """
        from av.error import FFmpegError

        stack, self._open = self._open, ExitStack()
        try:
            with stack:
                if self.written and not self._ended:
                    self._ended = True
                    self._container.mux(self._track.encode(None))
        except (FFmpegError, OSError) as error:
            raise self._write_error(error) from error

    def _begin(self, height: int, width: int) -> None:
        import av

        temporary = self._open.enter_context(atomic_path(self.path))
        self._container = self._open.enter_context(av.open(str(temporary), "w"))
        self._track = self._container.add_stream(ENCODER, rate=self.rate, options=ENCODER_OPTIONS)
        self._track.height, self._track.width, self._track.pix_fmt = height, width, "yuv420p"
        self._track.codec_context.time_base = Fraction(1, CLOCK_RATE)
        self._ended = False

    def _write_error(self, error: Exception) -> UserError:
        return UserError(f"The video '{self.path}' cannot be written: {getattr(error, 'strerror', None) or error}.")


def write_video(path: Path, frames: Iterable[np.ndarray], rate: Fraction | int = DEFAULT_RATE) -> Path:
    """Write frames to a video.

    Args:
        path: an .mp4 file.
        frames: (H, W, 3) uint8 RGB, all of one size; an odd last row or column is cropped, as H.264 needs even sizes.
        rate: frames per second.

    Returns:
        The path.

    Raises:
        UserError: the file cannot be written, or there are no frames.
    """
    with VideoWriter(path, rate) as writer:
        for frame in frames:
            writer.write(frame)
    if not writer.written:
        raise UserError(f"The video '{path}' has no frames.")
    return path


def frame_rate(path: Path) -> Fraction:
    """Frames per second of a video's first video stream; 30 if the file does not state it.

    Raises:
        UserError: not a video, or no video stream.
    """
    import av
    from av.error import FFmpegError

    if not path.is_file():
        raise UserError(f"There is no video '{path}'.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"The video '{path}' has no video stream.")
            rate = container.streams.video[0].average_rate
    except (FFmpegError, OSError) as error:
        raise UserError(f"The video '{path}' cannot be read: {error.strerror or error}.") from error
    return rate if rate else DEFAULT_RATE
