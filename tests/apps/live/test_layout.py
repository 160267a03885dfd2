"""Layout of the display: sizes, margins, captions; latency meter; state."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.apps.live.layout import compose, render_caption, text_width, wrap_text
from densevision.apps.live.live import LatencyMeter
from densevision.apps.live.viewer import State


@pytest.mark.parametrize(
    ("predictions", "rows", "columns"), [(1, 1, 2), (2, 2, 2), (3, 2, 2), (4, 2, 3), (5, 2, 3), (6, 3, 3)]
)
def test_every_prediction_has_a_cell_of_the_frames_size(predictions, rows, columns):
    frame = np.full((241, 333, 3), 200, np.uint8), "12 frames/s"
    image = compose(frame, [(np.full((180, 300, 3), 9, np.uint8), "class")] * predictions)
    assert image.shape == (rows * (242 + 36), columns * 334, 3)
    assert image.shape[0] % 2 == image.shape[1] % 2 == 0, "H.264 needs even sizes"


@pytest.mark.parametrize("size", [(1, 1), (3, 640), (640, 3), (24, 32)])
def test_tiny_frames_are_enlarged_for_readable_captions(size):
    frame = np.full((*size, 3), 200, np.uint8)
    image = compose((frame, ""), [(frame, "")], "keys")
    assert image.shape[0] >= 180 + 36 + 18 and image.shape[1] >= 640
    assert (image[90, 160] == 200).all(), "the frame is at the center of its cell"


def test_a_long_caption_is_wrapped_between_words_and_truncated():
    text = "pose: 11 of 14 joints confident, mean confidence 0.39, in the whole image (not searched: no weights)"
    assert wrap_text("short", 300, 2) == ["short"]
    two = wrap_text(text, 200, 2)
    assert len(two) == 2 and all(text_width(line) <= 200 for line in two) and two[1].endswith("...")
    assert text.startswith(two[0])
    assert " ".join(wrap_text(text, 10_000, 2)) == text
    (word,) = wrap_text("x" * 400, 100, 1)
    assert text_width(word) <= 100 and word.endswith("...")
    assert wrap_text("", 100, 2) == []


def test_captions_accept_characters_that_opencv_cannot_draw():
    assert render_caption("Zürich ×½ 東京\n\t", 320, 2).shape == (36, 320, 3)


def test_frame_rate_and_latency_of_the_meter():
    timing = LatencyMeter()
    assert timing.summary(0) == "no frame was processed"
    for number in range(101):
        timing.add(0.1 * number - 0.04, 0.1 * number)
    assert timing.status() == "10.0 frames/s, latency 40 ms"
    assert timing.summary(400) == (
        "101 of 400 frames displayed, 10.0 frames/s, latency 40 ms (median), 40 ms (95th percentile)"
    )
    assert timing.summary() == "101 frames processed, 10.0 frames/s"


def test_a_pause_is_excluded_from_the_frame_rate():
    timing = LatencyMeter()
    for second in (0.0, 0.1, 0.2):
        timing.add(second, second)
    timing.pause()
    for second in (60.0, 60.1):
        timing.add(second, second)
    assert timing.fps == pytest.approx(10)
    assert timing.status().startswith("10.0 frames/s")


def test_the_state_as_text():
    assert str(State()) == ""
    assert str(State(paused=True, recording=True, message="wrote a.png")) == "PAUSED, RECORDING, wrote a.png"
