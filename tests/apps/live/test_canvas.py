"""What one sees: sizes, margins, and captions that fit."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.apps.live.canvas import across, broken, captioned, composed, fitted
from densevision.apps.live.timing import Timing
from densevision.apps.live.viewer import State


@pytest.mark.parametrize(
    ("answers", "rows", "columns"), [(1, 1, 2), (2, 2, 2), (3, 2, 2), (4, 2, 3), (5, 2, 3), (6, 3, 3)]
)
def test_every_answer_has_a_cell_of_the_frames_size(answers, rows, columns):
    frame = np.full((241, 333, 3), 200, np.uint8), "12 frames/s"
    drawn = composed(frame, [(np.full((180, 300, 3), 9, np.uint8), "class")] * answers)
    assert drawn.shape == (rows * (242 + 36), columns * 334, 3)
    assert drawn.shape[0] % 2 == drawn.shape[1] % 2 == 0, "H.264 has no odd sides"


@pytest.mark.parametrize("size", [(1, 1), (3, 640), (640, 3), (24, 32)])
def test_tiny_frames_are_enlarged_so_that_captions_can_be_read(size):
    frame = np.full((*size, 3), 200, np.uint8)
    drawn = composed((frame, ""), [(frame, "")], "keys")
    assert drawn.shape[0] >= 180 + 36 + 18 and drawn.shape[1] >= 640
    assert (drawn[90, 160] == 200).all(), "it stands in the middle of its cell"


def test_a_picture_is_fitted_without_changing_its_shape():
    page = fitted(np.full((50, 100, 3), 255, np.uint8), (200, 200))
    assert page.shape == (200, 200, 3)
    assert page[50:150].min() == 255 and page[:50].max() == page[150:].max() == 0


def test_a_long_caption_is_broken_between_words_and_cut_at_its_last_line():
    said = "pose: 11 of 14 joints confident, mean confidence 0.39, in the whole picture (not searched: no weights)"
    assert broken("short", 300, 2) == ["short"]
    two = broken(said, 200, 2)
    assert len(two) == 2 and all(across(line) <= 200 for line in two) and two[1].endswith("...")
    assert said.startswith(two[0])
    assert " ".join(broken(said, 10_000, 2)) == said
    (word,) = broken("x" * 400, 100, 1)
    assert across(word) <= 100 and word.endswith("...")
    assert broken("", 100, 2) == []


def test_captions_take_what_no_letter_of_opencv_stands_for():
    assert captioned("Zürich ×½ 東京\n\t", 320, 2).shape == (36, 320, 3)


def test_the_figures_are_those_of_what_was_shown():
    timing = Timing()
    assert timing.line(0) == "no frame was answered"
    for number in range(101):
        timing.count(0.1 * number - 0.04, 0.1 * number)
    assert timing.now() == "10.0 frames/s, latency 40 ms"
    assert timing.line(400) == "101 of 400 frames shown, 10.0 frames/s, latency 40 ms (median), 40 ms (95 %)"
    assert timing.line() == "101 frames answered, 10.0 frames/s"


def test_a_rest_counts_for_no_rate():
    timing = Timing()
    for second in (0.0, 0.1, 0.2):
        timing.count(second, second)
    timing.rest()
    for second in (60.0, 60.1):
        timing.count(second, second)
    assert timing.rate == pytest.approx(10)
    assert timing.now().startswith("10.0 frames/s")


def test_the_state_is_said_in_a_few_words():
    assert str(State()) == ""
    assert str(State(paused=True, recording=True, message="wrote a.png")) == "PAUSED, RECORDING, wrote a.png"
