"""Videos as files: exact counts, times, and what is kept when writing breaks off."""

from __future__ import annotations

import os
from fractions import Fraction

import av
import numpy as np
import pytest

from densevision.apps.video import VideoWriter, rate_of
from densevision.errors import UserError

from .clips import write_video
from .live.toys import frames_in, numbered, times_in


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25), Fraction(12), Fraction(90)])
def test_every_frame_is_there_at_the_rate_of_the_source(tmp_path, rate):
    with VideoWriter(tmp_path / "a.mp4", rate) as video:
        for number in range(40):
            video.write(numbered(6 * number, 64, 96))
    found = frames_in(tmp_path / "a.mp4")
    assert video.written == 40
    assert [int(frame.mean()) for frame in found] == pytest.approx([6 * number for number in range(40)], abs=4)
    assert rate_of(tmp_path / "a.mp4") == pytest.approx(rate, rel=1e-4)
    with av.open(str(tmp_path / "a.mp4")) as container:
        track = container.streams.video[0]
        # What browsers play.
        assert (track.codec_context.name, track.codec_context.pix_fmt, track.frames) == ("h264", "yuv420p", 40)


def test_odd_sides_lose_a_row_and_a_column(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as video:
        video.write(numbered(9, 21, 33))
    assert [frame.shape for frame in frames_in(tmp_path / "a.mp4")] == [(20, 32, 3)]


def test_frames_keep_their_own_times_and_none_is_lost_where_two_are_equal(tmp_path):
    with VideoWriter(tmp_path / "a.mp4") as video:
        for number, at in enumerate((0.0, 0.5, 0.5, 0.4, 2.0)):
            video.write(numbered(40 * number), at)
    times = times_in(tmp_path / "a.mp4")
    assert times == pytest.approx([0.0, 0.5, 0.5, 0.5, 2.0], abs=1e-3) and sorted(set(times)) == times


def test_what_was_written_before_an_error_plays_and_nothing_half_written_stays(tmp_path):
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "a.mp4") as video:
        for number in range(7):
            video.write(numbered(number))
        assert not (tmp_path / "a.mp4").exists(), "it is written aside"
        raise ZeroDivisionError
    assert len(frames_in(tmp_path / "a.mp4")) == 7
    assert os.listdir(tmp_path) == ["a.mp4"]
    video.close()


def test_no_frame_leaves_no_file(tmp_path):
    with VideoWriter(tmp_path / "a.mp4"):
        pass
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"a\.gif' cannot be written: give a name that ends in \.mp4"):
        VideoWriter(tmp_path / "a.gif")
    (tmp_path / "taken").touch()
    with (
        pytest.raises(UserError, match=r"taken/a\.mp4' cannot be written: "),
        VideoWriter(tmp_path / "taken" / "a.mp4") as video,
    ):
        video.write(numbered(1))
    monkeypatch.setattr("av.codecs_available", set())
    with pytest.raises(UserError, match=r"This PyAV cannot write H\.264 videos: pip install av"):
        VideoWriter(tmp_path / "a.mp4")


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource", reason="this system limits no file's size")
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 256, (20, 120, 120, 3), dtype=np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, usual[1]))
    try:
        with pytest.raises(UserError, match=r"a\.mp4' cannot be written: "), VideoWriter(tmp_path / "a.mp4") as video:
            for frame in noise:
                video.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert os.listdir(tmp_path) == []


def test_the_rate_of_what_is_no_video_is_a_sentence(tmp_path):
    write_video(tmp_path / "ten.avi", [numbered(1)] * 3)
    assert rate_of(tmp_path / "ten.avi") == 10
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UserError, match=r"text\.mp4' cannot be read: Invalid data"):
        rate_of(tmp_path / "text.mp4")
    with pytest.raises(UserError, match=r"There is no video '.*none\.mp4'"):
        rate_of(tmp_path / "none.mp4")
