"""Videos: reading upright frames with their times, and writing H.264."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...atomic_io import atomic_path
from ...errors import UserError
from ...limits import LIMITS, LimitExceeded, check_pixels, open_file

if TYPE_CHECKING:
    from av import VideoFrame

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
"""Suffixes of videos in lower case."""
ENCODER = "libx264"
ENCODER_OPTIONS = {"crf": "18", "preset": "veryfast", "bf": "0"}
"""Options of the H.264 encoder: crf 18 is visually lossless, and slower presets than veryfast do not run live. Without
B-frames the last packet is the last frame, whose duration ends the file."""
CLOCK_RATE = 90_000
"""Ticks per second of the file's time base, a multiple of every common frame rate."""
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm"
"""Containers that are read, by FFmpeg's names. Others (concat scripts, HLS playlists) open further files and URLs."""
MAX_SECONDS = 10.0**7
"""Time or duration of a frame that is believed; files can state any."""
DEFAULT_RATE = Fraction(30)
"""Frames per second of a video without a frame rate."""


class TimedFrame(NamedTuple):
    """A frame of a video or a camera.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        time: seconds; only differences matter.
        duration: seconds until the next frame, by the file; 0 if unknown.
    """

    pixels: np.ndarray
    time: float
    duration: float = 0.0


@contextmanager
def _video_errors(path: Path, what: str) -> Iterator[None]:
    """Raise a `UserError` that the video `what`, for errors of FFmpeg and of the system inside."""
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, OSError) as error:
        raise UserError(f"The video '{path}' {what}: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    from av.error import ArgumentError

    if isinstance(error, ArgumentError):
        # FFmpeg says no more of what the options of `open_video` exclude.
        formats, limit = "MP4, MOV, AVI, Matroska or WebM", f"{LIMITS.max_megapixels:g} megapixels"
        return f"it is not {formats}, or has frames of more than {limit} (--max-megapixels allows more)"
    return getattr(error, "strerror", None) or str(error).rstrip(".") or type(error).__name__


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

    def write(self, frame: np.ndarray, at: float | None = None, duration: float = 0.0) -> None:
        """Append a frame.

        Args:
            frame: (H, W, 3) uint8 RGB, of the same size for all frames; an odd last row or column is cropped, since
                yuv420p needs even sizes.
            at: seconds since the first frame; None: by the frame rate.
            duration: seconds for which the frame is displayed if it is the last one; 0: by the frame rate.

        Raises:
            UserError: the file cannot be written.
        """
        import av
        from av.video.reformatter import Colorspace

        height, width = (size - size % 2 for size in frame.shape[:2])
        with _video_errors(self.path, "cannot be written"):
            if not self.written:
                self._begin(height, width)
            image = av.VideoFrame.from_ndarray(frame[:height, :width].copy(), format="rgb24")
            image = image.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            due = round((self.written / self.rate if at is None else at) * CLOCK_RATE)
            # Timestamps must increase, or players drop frames.
            self._last = image.pts = max(due, self._last + 1)
            image.time_base = Fraction(1, CLOCK_RATE)
            self._duration = max(1, round((duration or 1 / self.rate) * CLOCK_RATE))
            self._mux(self._track.encode(image))
        self.written += 1

    def close(self) -> None:
        """Flush the encoder and rename the file; calling it again does nothing.

        Raises:
            UserError: the file cannot be written; an incomplete file is removed.
        """
        stack, self._open = self._open, ExitStack()
        with _video_errors(self.path, "cannot be written"), stack:
            if self.written and not self._ended:
                self._ended = True
                self._mux(self._track.encode(None))

    def _begin(self, height: int, width: int) -> None:
        import av

        temporary = self._open.enter_context(atomic_path(self.path))
        self._container = self._open.enter_context(av.open(str(temporary), "w"))
        self._track = self._container.add_stream(ENCODER, rate=self.rate, options=ENCODER_OPTIONS)
        self._track.height, self._track.width, self._track.pix_fmt = height, width, "yuv420p"
        context = self._track.codec_context
        context.time_base = Fraction(1, CLOCK_RATE)
        # BT.709 with limited range; without a statement, players guess by the size of the frame.
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        self._ended = False

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            if packet.pts == self._last:
                packet.duration = self._duration
            self._container.mux(packet)


def write_video(path: Path, frames: Iterable[np.ndarray], rate: Fraction | int = DEFAULT_RATE) -> Path:
    """Write frames (see `VideoWriter.write`) to an .mp4 file, at `rate` frames per second; returns the path.

    Raises:
        UserError: the file cannot be written, or there are no frames.
    """
    with VideoWriter(path, rate) as writer:
        for frame in frames:
            writer.write(frame)
    if not writer.written:
        raise UserError(f"The video '{path}' has no frames.")
    return path


@contextmanager
def open_video(path: Path) -> Iterator[Any]:
    """Open a video file, as a container of PyAV. FFmpeg gets its bytes and can open nothing else.

    Raises:
        UserError: not a video in one of `DEMUXERS`, not a regular file, no video stream that can be decoded, or frames
            beyond `LIMITS`.
    """
    import av

    try:
        file = open_file(path)
    except FileNotFoundError:
        raise UserError(f"There is no video '{path}'.") from None
    except OSError as error:
        raise UserError(f"The video '{path}' cannot be read: {(error.strerror or str(error)).lower()}.") from None
    max_pixels = {"max_pixels": str(round(LIMITS.max_megapixels * 1e6))}
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "", **max_pixels}
    with ExitStack() as stack:
        stack.enter_context(file)
        with _video_errors(path, "cannot be read"):
            container = stack.enter_context(av.open(file, options=options, metadata_errors="replace"))
        if not container.streams.video:
            raise UserError(f"The video '{path}' has no video stream.")
        decoder = container.streams.video[0].codec_context
        if decoder is None:
            raise UserError(f"The video '{path}' cannot be read: there is no decoder for its codec.")
        try:
            check_pixels(decoder.width, decoder.height)
        except LimitExceeded as error:
            raise UserError(f"The video '{path}' cannot be read: it has frames of {error}.") from None
        decoder.options = max_pixels  # of later frames, whose size may differ
        yield container


def read_video(path: Path, start: int | None = None) -> Iterator[TimedFrame]:
    """Read the frames of a video's first video stream as players display them.

    The rotation and mirroring of the file's display matrix are applied. The first frame has the time 0; a frame without
    a time of its own follows its predecessor by the frame rate.

    Args:
        path: the video.
        start: one of `frame_ticks`: the first frame to read; None: the video's first.

    Raises:
        UserError: as `open_video`, or a damaged video (after the readable frames).
    """
    from av.error import FFmpegError

    number, first, previous = 0, None, None
    with open_video(path) as container:
        track = container.streams.video[0]
        interval = _seconds(1 / (track.average_rate or DEFAULT_RATE))
        try:
            if start is not None:
                # To the keyframe before it.
                container.seek(start, stream=track)
            for frame in container.decode(video=0):
                if start is not None and frame.pts is not None and frame.pts < start:
                    continue
                time = frame.time
                if time is None:
                    time = 0.0 if previous is None else previous + interval
                first, previous = time if first is None else first, time
                known = frame.duration and frame.time_base
                duration = _seconds(frame.duration * frame.time_base) if known else interval
                timed = TimedFrame(_displayed(frame), _seconds(time - first), duration)
                number += 1
                yield timed
        except (FFmpegError, OSError, ValueError) as error:
            what = f"breaks off after frame {number}" if number else "cannot be read"
            raise UserError(f"The video '{path}' {what}: {_reason(error)}.") from error


def frame_ticks(path: Path) -> list[int]:
    """Times of the frames in ticks of the file's clock, ascending, without decoding; empty if it does not state them.

    Raises:
        UserError: as `read_video`.
    """
    with open_video(path) as container, _video_errors(path, "cannot be read"):
        packets = [packet for packet in container.demux(video=0) if packet.size and not packet.is_discard]
    ticks = sorted({packet.pts for packet in packets if packet.pts is not None})
    return ticks if len(ticks) == len(packets) else []


def count_frames(path: Path) -> int:
    """Number of frames of a video, as its header states it; counted where the header does not.

    Raises:
        UserError: as `read_video`.
    """
    with open_video(path) as container:
        stated = container.streams.video[0].frames
    return stated if stated > 0 else sum(1 for _ in read_video(path))


def _seconds(stated: Fraction | float) -> float:
    return float(min(max(stated, -MAX_SECONDS), MAX_SECONDS))


def _displayed(frame: VideoFrame) -> np.ndarray:
    """The pixels of a frame, turned and mirrored by its display matrix."""
    from .rgb import orient

    pixels = frame.to_ndarray(format="rgb24")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return np.ascontiguousarray(pixels)
    # Column x and row y of the frame are displayed at x' = a x + c y and y' = b x + d y (ISO/IEC 14496-12, 8.3.2).
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    transposed = abs(b) + abs(c) > abs(a) + abs(d)
    to_column, to_row = (c, b) if transposed else (a, d)
    return np.ascontiguousarray(orient(pixels, transposed, to_row < 0, to_column < 0))
