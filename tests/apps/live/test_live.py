"""The loop: keys, figures, snapshots, recordings, and how a run ends."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from densevision.apps.live.answerer import Answerer
from densevision.apps.live.capture import Capture
from densevision.apps.live.keys import KEYS
from densevision.apps.live.live import Live
from densevision.apps.live.recorder import Recorder
from densevision.apps.live.viewer import Nobody, State, Viewer
from densevision.errors import UserError

from .toys import Toy, Watcher, frames_in, network, times_in


def followed(
    source: Toy,
    networks: list[Answerer],
    viewer: Viewer,
    out: Path,
    record: Path | None = None,
    film: bool = False,
    frames: int | None = None,
) -> tuple[Live, Recorder]:
    """A run to its end; every frame is answered, so that tests know which."""
    together = max(network.together for network in networks)
    recorder = Recorder(record, out, Fraction(10) if film else None)
    capture = Capture(source, together, every=True, patience=5)
    run = Live(capture, networks, viewer, recorder, out, film)
    with recorder, capture:
        run.run(frames=frames)
    return run, recorder


def test_a_recording_has_a_picture_for_every_frame_and_the_rate_of_its_source(tmp_path):
    film = tmp_path / "film.mp4"
    networks = [network("one"), network("two", together=2), network("three")]
    run, recorder = followed(Toy(count=12), networks, Nobody(), tmp_path, film, film=True)
    pictures = frames_in(film)
    assert len(pictures) == run.timing.shown == 12 and recorder.files == [(film, 12)]
    assert times_in(film) == pytest.approx([number / 10 for number in range(12)])
    # The frame and three answers, two in a row, cells of at least 320x180 with two lines of 18 below.
    assert pictures[0].shape == (2 * (180 + 36), 2 * 320, 3)


def test_a_task_of_two_frames_waits_for_the_second_and_then_follows_the_capture(tmp_path):
    asked: list[tuple[int, ...]] = []
    run, _ = followed(Toy(count=5), [network("flow", 2, asked=asked)], watcher := Watcher(), tmp_path)
    assert asked == [(1, 2), (2, 3), (3, 4), (4, 5)]
    assert run.timing.shown == len(watcher.seen) == 5, "beside the first frame stands that it waits"


def test_a_source_that_fails_at_frame_30_leaves_a_recording_that_plays(tmp_path):
    with pytest.raises(UserError, match=r"The toy broke at frame 30\."):
        followed(Toy(count=99, breaks=30), [network()], Watcher(), tmp_path, tmp_path / "cut.mp4")
    assert len(frames_in(tmp_path / "cut.mp4")) == 29
    assert [file.name for file in tmp_path.iterdir()] == ["cut.mp4"], "nothing is left half-written"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_whatever_ends_a_run_the_recording_plays(tmp_path, error):
    class Breaking(Watcher):
        def show(self, picture: np.ndarray, state: State) -> None:
            super().show(picture, state)
            if len(self.seen) == 5:
                raise error

    with pytest.raises(error):
        followed(Toy(count=99), [network()], Breaking(), tmp_path, tmp_path / "cut.mp4")
    assert len(frames_in(tmp_path / "cut.mp4")) == 5


def test_a_source_faster_than_the_network_never_makes_the_latency_grow(tmp_path):
    """300 frames of a network that takes 2 ms, from a source that gives several meanwhile."""
    source, behind = Toy(count=10**9, pause=0.0002), []

    class Behind(Watcher):
        def show(self, picture: np.ndarray, state: State) -> None:
            behind.append(source.given - run._frames[-1].number)

    with Capture(source) as capture:
        run = Live(capture, [network(seconds=0.002)], Behind(), Recorder(None, tmp_path), tmp_path)
        run.run(frames=300)
    late = 1000 * np.array(run.timing.latencies)
    print(f"latency: first 100 {np.median(late[:100]):.1f} ms, last 100 {np.median(late[-100:]):.1f} ms")
    assert len(late) == 300 and capture.captured > 600, "frames were missed"
    # A queue would be longer by every frame that is missed: hundreds at the end.
    assert np.median(behind[-100:]) < 50


def test_keys_turn_from_task_to_task_and_then_to_all_of_them(tmp_path):
    one, two = network("one"), network("two")
    turns = []

    class Turning(Watcher):
        def show(self, picture: np.ndarray, state: State) -> None:
            super().show(picture, state)
            turns.append(state.message)

    followed(Toy(count=8), [one, two], Turning({1: "n", 3: "n", 5: "n"}), tmp_path)
    said = list(dict.fromkeys(message for message in turns if message))
    assert said == ["task: two", "task: one, two", "task: one"]


def test_pause_holds_the_picture_and_quit_leaves(tmp_path):
    asked: list[tuple[int, ...]] = []
    watcher = Watcher({2: "p", 3: "q"})
    run, _ = followed(Toy(count=99), [network(asked=asked)], watcher, tmp_path)
    assert asked == [(1,), (2,)]
    assert [state.paused for state in watcher.states] == [False, False, True, True]
    assert run.timing.shown == 2
    np.testing.assert_array_equal(watcher.seen[1][:180], watcher.seen[2][:180])


def test_capital_and_unknown_keys_do_nothing(tmp_path):
    watcher = Watcher({1: "x", 2: "Q", 3: "\n"})
    assert followed(Toy(count=5), [network()], watcher, tmp_path)[0].timing.shown == len(watcher.seen) == 5


def test_a_snapshot_holds_the_frames_the_picture_and_the_data(tmp_path):
    out = tmp_path / "shots"
    watcher = Watcher({2: "s"})
    followed(Toy(count=3), [network("flow", together=2)], watcher, out)
    names = sorted(file.name.split("-", 2)[2] for file in out.iterdir())
    assert names == ["000002_1.png", "000002_2.png", "000002_numbers.txt", "000002_shown.png"]
    assert next(out.glob("*_numbers.txt")).read_text() == "1 and 2"
    assert any("(4 files)" in state.message for state in watcher.states)


def test_snapshots_of_two_networks_of_one_task_keep_apart(tmp_path):
    one, two = network("one"), network("two")
    two.predictor.task.name = one.predictor.task.name = "same"  # pyright: ignore[reportAttributeAccessIssue] - toys
    followed(Toy(count=3), [one, two], Watcher({1: "nn", 4: "s"}), tmp_path)
    assert sorted(file.stem.rpartition("-")[2] for file in tmp_path.glob("*.txt")) == ["one_numbers", "two_numbers"]


def test_the_key_r_records_to_a_new_file_each_time(tmp_path):
    watcher = Watcher({2: "r", 5: "r", 8: "r"})
    _, recorder = followed(Toy(count=10), [network()], watcher, tmp_path)
    assert [len(frames_in(path)) for path, _ in recorder.files] == [count for _, count in recorder.files]
    assert len(recorder.files) == len(set(recorder.files)) == 2
    _, named = followed(Toy(count=9), [network()], Watcher({3: "r", 6: "r"}), tmp_path, tmp_path / "a.mp4")
    assert [path.name for path, _ in named.files] == ["a.mp4", "a-2.mp4"]


def test_a_live_recording_plays_as_fast_as_it_was_seen(tmp_path):
    source = Toy(count=6, pause=0.05)
    followed(source, [network()], Watcher(), tmp_path, tmp_path / "a.mp4")
    times = times_in(tmp_path / "a.mp4")
    assert times[0] == 0 and min(np.diff(times)) > 0.03 and times[-1] >= 0.24


def test_a_recording_keeps_its_size_when_the_picture_changes_its_own(tmp_path):
    sizes = Toy(count=6, size=lambda number: (200, 400) if number < 4 else (400, 200))
    followed(sizes, [network("one"), network("two")], Watcher({2: "nn"}), tmp_path, tmp_path / "a.mp4")
    assert {picture.shape for picture in frames_in(tmp_path / "a.mp4")} == {(236, 800, 3)}


def test_nothing_recorded_leaves_no_file(tmp_path):
    followed(Toy(count=0), [network()], Watcher(), tmp_path, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_stop_that_is_asked_for_ends_the_run_though_no_frame_comes(tmp_path):
    source = Toy(hangs=1)
    asked = time.perf_counter()
    with Capture(source) as capture:
        Live(capture, [network()], Watcher(), Recorder(None, tmp_path), tmp_path).run(
            stopped=lambda: time.perf_counter() - asked > 0.1
        )
        source.closed = True
    assert time.perf_counter() - asked < 10


def test_where_there_is_no_page_the_keys_are_written_on_the_picture(tmp_path):
    followed(Toy(count=2), [network()], plain := Watcher(plain=True), tmp_path)
    followed(Toy(count=2), [network()], beside := Watcher(), tmp_path)
    assert plain.seen[0].shape[0] == beside.seen[0].shape[0] + 18
    assert set(KEYS) == set("npsrq")
