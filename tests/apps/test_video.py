"""Video writing: frame counts, timestamps, and files after errors."""

from __future__ import annotations

import os
from fractions import Fraction

import av
import numpy as np
import pytest

from densevision.apps.video import VideoWriter, frame_rate
from densevision.errors import UserError

from .clips import write_video
from .live.toys import frames_in, numbered, times_in


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25), Fraction(12), Fraction(90)])
def test_all_frames_are_written_at_the_frame_rate(tmp_path, rate):
    with VideoWriter(tmp_path / "a.mp4", rate) as video:
        for number in range(40):
            video.write(numbered(6 * number, 64, 96))
    frames = frames_in(tmp_path / "a.mp4")
    assert video.written == 40
    assert [int(frame.mean()) for frame in frames] == pytest.approx([6 * number for number in range(40)], abs=4)
    assert frame_rate(tmp_path / "a.mp4") == pytest.approx(rate, rel=1e-4)
    with av.open(str(tmp_path / "a.mp4")) as container:
        track = container.streams.video[0]
        # The format that browsers play.
        assert (track.codec_context.name, track.codec_context.pix_fmt, track.frames) == ("h264", "yuv420p", 40)


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


def test_frame_rate_of_a_file_that_is_not_a_video_is_a_user_error(tmp_path):
    write_video(tmp_path / "ten.avi", [numbered(1)] * 3)
    assert frame_rate(tmp_path / "ten.avi") == 10
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"text\.mp4' cannot be read: Invalid data"):
        frame_rate(tmp_path / "text.mp4")
    with pytest.raises(UserError, match=r"There is no video '.*none\.mp4'"):
        frame_rate(tmp_path / "none.mp4")
