"""Videos as files that browsers play: how they are written, and how fast they are."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..writing import written_aside

if TYPE_CHECKING:
    import numpy as np

ENCODER = "libx264"
OPTIONS = {"crf": "18", "preset": "veryfast"}
"""Of H.264: what it loses at 18 is hardly seen, and a live picture leaves little time for more than veryfast."""
TICKS = 90_000
"""A second in the file's clock, in which every usual frame rate is a whole number of ticks."""
USUAL_RATE = Fraction(30)
"""Frames a second of a video that does not say."""


class VideoWriter:
    """An .mp4 (H.264, yuv420p), frame by frame; what was written is kept and plays, whatever ends the block.

    It is written aside and takes its name when it is closed. A writer that was given no frame leaves no file.

    Attributes:
        path: an .mp4 file.
        rate: frames a second.
        written: frames so far.
    """

    def __init__(self, path: Path, rate: Fraction | int = USUAL_RATE) -> None:
        """Nothing is opened before the first frame.

        Raises:
            UserError: no .mp4, or this PyAV cannot write H.264.
        """
        import av

        if path.suffix.lower() != ".mp4":
            raise UserError(f"The video '{path}' cannot be written: give a name that ends in .mp4.")
        if ENCODER not in av.codecs_available:
            raise UserError("This PyAV cannot write H.264 videos: pip install av brings one that can.")
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
            frame: (H, W, 3) uint8 RGB, all of one size; an odd last row or column is left out, as H.264 has none.
            at: seconds after the first frame; None: as the rate says.

        Raises:
            UserError: the file cannot be written.
        """
        import av
        from av.error import FFmpegError

        height, width = (side - side % 2 for side in frame.shape[:2])
        try:
            if not self.written:
                self._begin(height, width)
            picture = av.VideoFrame.from_ndarray(frame[:height, :width].copy(), format="rgb24")
            due = round((self.written / self.rate if at is None else at) * TICKS)
            # Two frames never share a time, or players drop one of them.
            self._last = picture.pts = max(due, self._last + 1)
            picture.time_base = Fraction(1, TICKS)
            self._container.mux(self._track.encode(picture))
        except (FFmpegError, OSError) as error:
            raise self._refused(error) from error
        self.written += 1

    def close(self) -> None:
        """Write what the encoder still holds and give the file its name; a second time does nothing.

        Raises:
            UserError: the file cannot be written; what is broken is removed.
        """
        from av.error import FFmpegError

        ending, self._open = self._open, ExitStack()
        try:
            with ending:
                if self.written and not self._ended:
                    self._ended = True
                    self._container.mux(self._track.encode(None))
        except (FFmpegError, OSError) as error:
            raise self._refused(error) from error

    def _begin(self, height: int, width: int) -> None:
        import av

        aside = self._open.enter_context(written_aside(self.path))
        self._container = self._open.enter_context(av.open(str(aside), "w"))
        self._track = self._container.add_stream(ENCODER, rate=self.rate, options=OPTIONS)
        self._track.height, self._track.width, self._track.pix_fmt = height, width, "yuv420p"
        self._track.codec_context.time_base = Fraction(1, TICKS)
        self._ended = False

    def _refused(self, error: Exception) -> UserError:
        return UserError(f"The video '{self.path}' cannot be written: {getattr(error, 'strerror', None) or error}.")


def rate_of(path: Path) -> Fraction:
    """Frames a second of a video's first picture track; 30 where it does not say.

    Raises:
        UserError: no video, or no picture track.
    """
    import av
    from av.error import FFmpegError

    if not path.is_file():
        raise UserError(f"There is no video '{path}'.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"The video '{path}' holds no pictures.")
            rate = container.streams.video[0].average_rate
    except (FFmpegError, OSError) as error:
        raise UserError(f"The video '{path}' cannot be read: {error.strerror or error}.") from error
    return rate if rate else USUAL_RATE
