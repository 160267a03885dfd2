"""Live loop: keys, timing, snapshots, recordings, shutdown."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from densevision.apps.live.capture import Capture
from densevision.apps.live.live import Live
from densevision.apps.live.live_predictor import LivePredictor
from densevision.apps.live.recorder import Recorder
from densevision.apps.live.viewer import KEYS, HeadlessViewer, State, Viewer
from densevision.errors import UserError

from .toys import Toy, Watcher, frames_in, model, times_in


def run_live(
    source: Toy,
    models: list[LivePredictor],
    viewer: Viewer,
    out: Path,
    record: Path | None = None,
    offline: bool = False,
    frames: int | None = None,
) -> tuple[Live, Recorder]:
    """Run the loop to its end, on every frame."""
    num_frames = max(model.num_frames for model in models)
    recorder = Recorder(record, out)
    capture = Capture(source, num_frames, every_frame=True, timeout=5)
    loop = Live(capture, models, viewer, recorder, out, offline)
    with recorder, capture:
        loop.run(frames=frames)
    return loop, recorder


def test_an_offline_recording_has_all_frames_at_their_times_in_the_source(tmp_path):
    path = tmp_path / "out.mp4"
    models = [model("one"), model("two", num_frames=2), model("three")]
    loop, recorder = run_live(Toy(count=12, rate=10), models, HeadlessViewer(), tmp_path, path, offline=True)
    images = frames_in(path)
    assert len(images) == loop.timing.displayed == 12 and recorder.files == [(path, 12)]
    assert times_in(path) == pytest.approx([number / 10 for number in range(12)])
    # The frame and three predictions in rows of two, with cells of at least 320x180 and two lines of 18 pixels below.
    assert images[0].shape == (2 * (180 + 36), 2 * 320, 3)


def test_a_model_with_two_inputs_gets_all_consecutive_frames(tmp_path):
    inputs: list[tuple[int, ...]] = []
    loop, _ = run_live(Toy(count=5), [model("flow", 2, inputs=inputs)], watcher := Watcher(), tmp_path)
    assert inputs == [(1, 2), (2, 3), (3, 4), (4, 5)]
    assert loop.timing.displayed == len(watcher.images) == 5, "the first frame is displayed too"


def test_a_source_that_fails_leaves_a_valid_recording(tmp_path):
    with pytest.raises(UserError, match=r"The toy broke at frame 30\."):
        run_live(Toy(count=99, breaks=30), [model()], Watcher(), tmp_path, tmp_path / "cut.mp4")
    assert len(frames_in(tmp_path / "cut.mp4")) == 29
    assert [file.name for file in tmp_path.iterdir()] == ["cut.mp4"], "no temporary file is left"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_any_exception_leaves_a_valid_recording(tmp_path, error):
    class Breaking(Watcher):
        def show(self, image: np.ndarray, state: State) -> None:
            super().show(image, state)
            if len(self.images) == 5:
                raise error

    with pytest.raises(error):
        run_live(Toy(count=99), [model()], Breaking(), tmp_path, tmp_path / "cut.mp4")
    assert len(frames_in(tmp_path / "cut.mp4")) == 5


def test_the_latency_does_not_grow_if_the_source_is_faster_than_the_model(tmp_path):
    """300 frames of a model that takes 2 ms, from a faster source."""
    source, behind = Toy(count=10**9, pause=0.0002), []

    class Behind(Watcher):
        def show(self, image: np.ndarray, state: State) -> None:
            behind.append(source.given - loop._frames[-1].number)

    with Capture(source) as capture:
        loop = Live(capture, [model(seconds=0.002)], Behind(), Recorder(None, tmp_path), tmp_path)
        loop.run(frames=300)
    late = 1000 * np.array(loop.timing.latencies)
    print(f"latency: first 100 {np.median(late[:100]):.1f} ms, last 100 {np.median(late[-100:]):.1f} ms")
    assert len(late) == 300 and capture.captured > 600, "frames were dropped"
    # A queue would grow by every dropped frame, to hundreds at the end.
    assert np.median(behind[-100:]) < 50


def test_the_key_n_selects_each_task_and_then_all_of_them(tmp_path):
    one, two = model("one"), model("two")
    recorded = []

    class Messages(Watcher):
        def show(self, image: np.ndarray, state: State) -> None:
            super().show(image, state)
            recorded.append(state.message)

    run_live(Toy(count=8), [one, two], Messages({1: "n", 3: "n", 5: "n"}), tmp_path)
    messages = list(dict.fromkeys(message for message in recorded if message))
    assert messages == ["task: two", "task: one, two", "task: one"]


def test_pause_keeps_the_image_and_quit_ends_the_loop(tmp_path):
    inputs: list[tuple[int, ...]] = []
    watcher = Watcher({2: "p", 3: "q"})
    loop, _ = run_live(Toy(count=99), [model(inputs=inputs)], watcher, tmp_path)
    assert inputs == [(1,), (2,)]
    assert [state.paused for state in watcher.states] == [False, False, True, True]
    assert loop.timing.displayed == 2
    np.testing.assert_array_equal(watcher.images[1][:180], watcher.images[2][:180])


def test_capital_and_unknown_keys_do_nothing(tmp_path):
    watcher = Watcher({1: "x", 2: "Q", 3: "\n"})
    assert run_live(Toy(count=5), [model()], watcher, tmp_path)[0].timing.displayed == len(watcher.images) == 5


def test_a_snapshot_consists_of_frames_display_and_data(tmp_path):
    out = tmp_path / "shots"
    watcher = Watcher({2: "s"})
    run_live(Toy(count=3), [model("flow", num_frames=2)], watcher, out)
    names = sorted(file.name.split("-", 2)[2] for file in out.iterdir())
    assert names == ["000002_1.png", "000002_2.png", "000002_display.png", "000002_numbers.txt"]
    assert next(out.glob("*_numbers.txt")).read_text() == "1 and 2"
    assert any("(4 files)" in state.message for state in watcher.states)


def test_snapshots_of_two_models_of_one_task_have_unique_names(tmp_path):
    one, two = model("one"), model("two")
    two.predictor.task.name = one.predictor.task.name = "same"  # pyright: ignore[reportAttributeAccessIssue] - toys
    run_live(Toy(count=3), [one, two], Watcher({1: "nn", 4: "s"}), tmp_path)
    assert sorted(file.stem.rpartition("-")[2] for file in tmp_path.glob("*.txt")) == ["one_numbers", "two_numbers"]


def test_the_key_r_records_to_a_new_file_each_time(tmp_path):
    watcher = Watcher({2: "r", 5: "r", 8: "r"})
    _, recorder = run_live(Toy(count=10), [model()], watcher, tmp_path)
    assert [len(frames_in(path)) for path, _ in recorder.files] == [count for _, count in recorder.files]
    assert len(recorder.files) == len(set(recorder.files)) == 2
    _, named = run_live(Toy(count=9), [model()], Watcher({3: "r", 6: "r"}), tmp_path, tmp_path / "a.mp4")
    assert [path.name for path, _ in named.files] == ["a.mp4", "a-2.mp4"]


def test_a_live_recording_has_the_capture_times(tmp_path):
    source = Toy(count=6, pause=0.05)
    run_live(source, [model()], Watcher(), tmp_path, tmp_path / "a.mp4")
    times = times_in(tmp_path / "a.mp4")
    assert times[0] == 0 and min(np.diff(times)) > 0.03 and times[-1] >= 0.24


def test_a_recording_keeps_its_size_if_the_display_changes(tmp_path):
    sizes = Toy(count=6, size=lambda number: (200, 400) if number < 4 else (400, 200))
    run_live(sizes, [model("one"), model("two")], Watcher({2: "nn"}), tmp_path, tmp_path / "a.mp4")
    assert {image.shape for image in frames_in(tmp_path / "a.mp4")} == {(236, 800, 3)}


def test_without_frames_no_recording_is_written(tmp_path):
    run_live(Toy(count=0), [model()], Watcher(), tmp_path, tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_stopped_ends_the_loop_without_a_frame(tmp_path):
    source = Toy(hangs=1)
    started = time.perf_counter()
    with Capture(source) as capture:
        Live(capture, [model()], Watcher(), Recorder(None, tmp_path), tmp_path).run(
            stopped=lambda: time.perf_counter() - started > 0.1
        )
        source.closed = True
    assert time.perf_counter() - started < 10


def test_the_keys_are_drawn_on_the_image_if_the_viewer_needs_an_overlay(tmp_path):
    run_live(Toy(count=2), [model()], overlay := Watcher(needs_overlay=True), tmp_path)
    run_live(Toy(count=2), [model()], plain := Watcher(), tmp_path)
    assert overlay.images[0].shape[0] == plain.images[0].shape[0] + 18
    assert set(KEYS) == set("npsrq")
