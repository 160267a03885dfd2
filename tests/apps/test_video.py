"""Video writing: frame counts, timestamps, and files after errors."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from densevision.apps.live.capture import Capture
from densevision.apps.live.live import Live
from densevision.apps.live.recorder import Recorder
from densevision.apps.live.source import VideoFileSource
from densevision.apps.live.viewer import HeadlessViewer
from densevision.datasets.formats.video import VideoWriter, open_video, read_video
from densevision.errors import UserError
from densevision.limits import LIMITS

from .clips import write_video
from .live.toys import frames_in, model, numbered, times_in


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25), Fraction(12), Fraction(90)])
def test_all_frames_are_written_at_the_frame_rate(tmp_path, rate):
    with VideoWriter(tmp_path / "a.mp4", rate) as video:
        for number in range(40):
            video.write(numbered(6 * number, 64, 96))
    frames = frames_in(tmp_path / "a.mp4")
    assert video.written == 40
    assert [int(frame.mean()) for frame in frames] == pytest.approx([6 * number for number in range(40)], abs=4)
    with av.open(str(tmp_path / "a.mp4")) as container:
        track = container.streams.video[0]
        assert track.average_rate == pytest.approx(rate, rel=1e-4)
        # The format that browsers play.
        assert (track.codec_context.name, track.codec_context.pix_fmt, track.frames) == ("h264", "yuv420p", 40)


@pytest.mark.parametrize("size", [(64, 96), (720, 1280)])
def test_a_video_states_the_color_space_of_its_pixels(tmp_path, size):
    colors = np.repeat(np.array([[230, 30, 30], [30, 230, 30], [30, 30, 230], [200, 200, 40]], np.uint8), 4, axis=0)
    frame = cv2.resize(colors[None], size[::-1], interpolation=cv2.INTER_NEAREST)
    with VideoWriter(tmp_path / "a.mp4") as video:
        video.write(frame)
    with av.open(str(tmp_path / "a.mp4")) as container:
        (stored,) = container.decode(video=0)
        assert (stored.colorspace, stored.color_primaries, stored.color_trc, stored.color_range) == (1, 1, 1, 1)
    (result,) = read_video(tmp_path / "a.mp4")
    columns = np.arange(4) * size[1] // 4 + size[1] // 8
    assert np.abs(result.pixels[9, columns].astype(int) - frame[9, columns]).max() < 9


def test_odd_sizes_are_cropped_by_a_row_and_a_column(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as video:
        video.write(numbered(9, 21, 33))
    assert [frame.shape for frame in frames_in(tmp_path / "a.mp4")] == [(20, 32, 3)]


def test_frames_keep_their_times_and_equal_times_lose_no_frame(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as video:
        for number, at in enumerate((0.0, 0.5, 0.5, 0.4, 2.0)):
            video.write(numbered(40 * number), at)
    times = times_in(tmp_path / "a.mp4")
    assert times == pytest.approx([0.0, 0.5, 0.5, 0.5, 2.0], abs=1e-3) and sorted(set(times)) == times


def test_an_error_leaves_a_valid_video_and_no_temporary_file(tmp_path):
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "a.mp4") as video:
        for number in range(7):
            video.write(numbered(number))
        assert not (tmp_path / "a.mp4").exists(), "a temporary file is written"
        raise ZeroDivisionError
    assert len(frames_in(tmp_path / "a.mp4")) == 7
    assert os.listdir(tmp_path) == ["a.mp4"]
    video.close()


def test_without_frames_no_file_is_written(tmp_path):
    with VideoWriter(tmp_path / "a.mp4"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written_is_a_user_error(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"a\.gif' cannot be written: give a name that ends in \.mp4"):
        VideoWriter(tmp_path / "a.gif")
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"file/a\.mp4' cannot be written: "),
        VideoWriter(tmp_path / "file" / "a.mp4") as video,
    ):
        video.write(numbered(1))
    monkeypatch.setattr("av.codecs_available", set())
    with pytest.raises(UserError, match=r"cannot write H\.264 videos; install one that can: pip install av"):
        VideoWriter(tmp_path / "a.mp4")


def test_a_full_disk_is_a_user_error_and_leaves_no_file(tmp_path):
    resource = pytest.importorskip("resource", reason="this system has no limit on file sizes")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 256, (20, 120, 120, 3), dtype=np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"a\.mp4' cannot be written: "), VideoWriter(tmp_path / "a.mp4") as video:
            for frame in noise:
                video.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_not_a_video_is_a_user_error(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"text\.mp4' cannot be read: Invalid data"), open_video(tmp_path / "text.mp4"):
        pass
    with pytest.raises(UserError, match=r"There is no video '.*none\.mp4'"):
        list(read_video(tmp_path / "none.mp4"))


def write_at(path: Path, milliseconds: Sequence[int], codec: str = "libx264") -> Path:
    """A video whose frames have these times."""
    with av.open(str(path), "w") as container:
        track: Any = container.add_stream(codec, rate=1000)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        track.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(numbered(8 * number, 48, 64), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


VARIABLE = {
    "pauses": [0, 50, 100, 150, 650, 1150, 1200],
    "late start": [700, 733, 767, 900],
    "one of 1000 frames/s": [0, 1, 2, 40, 41, 1041],
    "slideshow": [0, 5000, 65000],
}


@pytest.mark.parametrize("name", VARIABLE)
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "libx264"), (".webm", "libvpx")])
def test_every_frame_of_a_recorded_video_keeps_its_time(tmp_path, name, suffix, codec):
    source = write_at(tmp_path / f"source{suffix}", VARIABLE[name], codec)
    capture = Capture(VideoFileSource(source, realtime=False), every_frame=True)
    with Recorder(tmp_path / "out.mp4", tmp_path) as recorder, capture:
        Live(capture, [model()], HeadlessViewer(), recorder, tmp_path, offline=True).run()
    expected = (np.array(VARIABLE[name]) - VARIABLE[name][0]) / 1000
    assert times_in(tmp_path / "out.mp4") == pytest.approx(expected, abs=1e-3)


def length_of(path: Path) -> float:
    with av.open(str(path)) as container:
        return (container.duration or 0) / av.time_base


@pytest.mark.parametrize("seconds", [0.04, 0.5, 7.0])
def test_the_last_frame_keeps_its_duration(tmp_path, seconds):
    with VideoWriter(tmp_path / "a.mp4") as video:
        for number, at in enumerate((0.0, 0.1, 0.2, 0.7)):
            video.write(numbered(40 * number), at, seconds)
    assert length_of(tmp_path / "a.mp4") == pytest.approx(0.7 + seconds, abs=1e-3)
    *_, last = read_video(tmp_path / "a.mp4")
    assert last.duration == pytest.approx(seconds, abs=1e-3)


ONE = 1 << 16
MATRICES = {
    "upright": ((ONE, 0, 0, ONE), lambda frame: frame),
    "clockwise": ((0, ONE, -ONE, 0), lambda frame: np.rot90(frame, -1)),
    "counter-clockwise": ((0, -ONE, ONE, 0), lambda frame: np.rot90(frame)),
    "half a turn": ((-ONE, 0, 0, -ONE), lambda frame: frame[::-1, ::-1]),
    "mirrored": ((-ONE, 0, 0, ONE), lambda frame: frame[:, ::-1]),
    "upside down": ((ONE, 0, 0, -ONE), lambda frame: frame[::-1]),
    "transposed": ((0, ONE, ONE, 0), lambda frame: frame.swapaxes(0, 1)),
    "transversed": ((0, -ONE, -ONE, 0), lambda frame: frame[::-1, ::-1].swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_display_matrix_of_a_video_is_applied(tmp_path, name):
    (a, b, c, d), displayed = MATRICES[name]
    frame = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    content = bytearray(write_video(tmp_path / "a.mov", [frame]).read_bytes())
    # The matrix follows version, flags, times, id, duration, layer, group and volume of the track header.
    start = content.find(b"tkhd") + 4 + 24 + 16
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mov").write_bytes(content)
    (result,) = read_video(tmp_path / "a.mov")
    np.testing.assert_array_equal(result.pixels, displayed(frame))


def test_a_playlist_opens_no_other_file(tmp_path):
    write_video(tmp_path / "clip.avi", [np.zeros((16, 16, 3), np.uint8)] * 2)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile clip.avi\n")
    with av.open(str(tmp_path / "list.mp4")) as container:
        assert len(list(container.decode(video=0))) == 2
    with pytest.raises(UserError, match="it is not MP4"):
        list(read_video(tmp_path / "list.mp4"))


def test_frames_beyond_the_limit_and_pipes_are_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.avi", [np.zeros((16, 32, 3), np.uint8)])
    os.mkfifo(tmp_path / "pipe.avi")
    with pytest.raises(UserError, match="cannot be read: not a regular file"):
        list(read_video(tmp_path / "pipe.avi"))
    monkeypatch.setattr(LIMITS, "max_megapixels", 0.0005)
    with pytest.raises(UserError, match=r"frames of .*more than 0\.0005 megapixels"):
        list(read_video(path))


def test_a_video_may_have_any_name(tmp_path):
    path = write_video(tmp_path / "clip.avi", [np.zeros((16, 32, 3), np.uint8)])
    odd = path.rename(tmp_path / os.fsdecode(b"caf\xe9\n.avi"))
    assert len(list(read_video(odd))) == 1
