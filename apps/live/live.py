"""Main loop of `densevision webcam`: capture, predict, display, record; its frame rate and latency."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .capture import Capture, Frame
from .layout import Cell, compose
from .live_predictor import LivePredictor
from .recorder import Recorder
from .viewer import HINT, State, Viewer

if TYPE_CHECKING:
    from ...tasks.prediction import Prediction

WAIT = 0.05
"""Seconds to wait for a frame before the keys are checked again."""
MESSAGE_SECONDS = 3.0
"""Seconds for which a message is displayed."""


class Live:
    """Live inference loop.

    Attributes:
        active_models: the models that currently run.
        paused: whether frames are ignored.
        timing: frame rate and latency of the display.
    """

    def __init__(
        self,
        capture: Capture,
        models: Sequence[LivePredictor],
        viewer: Viewer,
        recorder: Recorder,
        out: Path,
        offline: bool = False,
    ) -> None:
        """Of the models one is active at a time; the key n selects the next one, and all of them after the last.

        Snapshots are written to `out`. If `offline`, all models are active from the start, and captions have frame
        numbers instead of timings.
        """
        self._capture, self._viewer, self._recorder, self._out = capture, viewer, recorder, out
        self._choices = [[model] for model in models] + ([list(models)] if len(models) > 1 else [])
        self.active_models = self._choices[-1 if offline else 0]
        self._offline = offline
        self.paused = self._quit = False
        self.timing = LatencyMeter()
        self._frames: tuple[Frame, ...] = ()
        self._predictions: list[tuple[LivePredictor, Prediction | None]] = []
        self._cells: list[Cell] = []
        self._message, self._until = "", 0.0

    def run(self, stopped: Callable[[], bool] = lambda: False, frames: int | None = None) -> None:
        """Run until the source ends, the user quits, `stopped()` is true, or `frames` frames were displayed.

        Raises:
            UserError: the source failed or stalled; all frames before were displayed and recorded.
        """
        while not self._quit and not stopped() and self.timing.displayed != frames:
            for key in self._viewer.read_keys():
                self.press(key)
            if self._message and time.perf_counter() > self._until:
                self._message = ""
                self._redraw()
            newest = self._capture.next(WAIT)
            if newest is None and self._capture.ended:
                return
            if newest is not None and not self.paused:
                self._predict(newest)

    def press(self, key: str) -> None:
        """Handle a key of `KEYS`; other keys are ignored."""
        match key:
            case "n":
                self.active_models = self._choices[(self._choices.index(self.active_models) + 1) % len(self._choices)]
                self._log(f"task: {', '.join(model.name for model in self.active_models)}")
                if self.paused and self._frames:
                    self._run_models()
            case "p":
                self.paused = not self.paused
                self.timing.pause()
            case "s":
                self._snapshot()
            case "r":
                self._switch_recording()
            case "q":
                self._quit = True
            case _:
                return
        self._redraw()

    def _predict(self, frames: tuple[Frame, ...]) -> None:
        self._frames = frames
        self._run_models()
        if self._recorder.recording:
            self._recorder.write(self._image(), frames[-1].source_time, frames[-1].duration)
        self._redraw()
        self.timing.add(frames[-1].time, time.perf_counter())

    def _run_models(self) -> None:
        self._predictions = [(model, model.predict(self._frames)) for model in self.active_models]
        self._cells = [model.cell(self._frames, prediction) for model, prediction in self._predictions]

    def _image(self, hint: str = "") -> np.ndarray:
        """The newest frame and its predictions, with a line of text below if stated."""
        newest = self._frames[-1]
        caption = f"frame {newest.number}" if self._offline else self.timing.status()
        return compose((newest.pixels, caption), self._cells, hint)

    def _redraw(self) -> None:
        if self._frames:
            state = State(self.paused, self._recorder.recording, self._message)
            self._viewer.show(self._image(f"{HINT}. {state}") if self._viewer.needs_overlay else self._image(), state)

    def _log(self, message: str) -> None:
        self._message, self._until = message, time.perf_counter() + MESSAGE_SECONDS

    def _snapshot(self) -> None:
        """Write the frames, the displayed image, and the files of every prediction."""
        from ...datasets.formats.image import write_image

        if not self._frames:
            return
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{self._frames[-1].number:06d}"
        files = [self._out / f"{stem}_display.png"]
        write_image(files[0], self._image())
        inputs = self._frames[-max(model.num_frames for model in self.active_models) :]
        for number, frame in enumerate(inputs, 1):
            files.append(self._out / f"{stem}{f'_{number}' if len(inputs) > 1 else ''}.png")
            write_image(files[-1], frame.pixels)
        for model, prediction in self._predictions:
            if prediction is not None:
                only_one = model.name == model.predictor.task.name
                files += prediction.save(self._out, stem if only_one else f"{stem}-{model.name}")
        self._log(f"wrote {self._out / stem}* ({len(files)} files)")

    def _switch_recording(self) -> None:
        if not self._recorder.recording:
            self._recorder.start()
        elif (path := self._recorder.stop()) is not None:
            self._log(f"wrote {path}")


RECENT = 20
"""Number of frames over which the displayed figures are averaged."""
MAX_LATENCIES = 100_000
"""Number of frames for the final figures: hours of video in no more memory than an image."""


class LatencyMeter:
    """Meter of frame rate and latency.

    Attributes:
        displayed: number of frames displayed so far.
        latencies: seconds from capture to display of the latest frames, oldest first.
    """

    def __init__(self) -> None:
        self.displayed = 0
        self.latencies: deque[float] = deque(maxlen=MAX_LATENCIES)
        self._times: deque[float] = deque(maxlen=RECENT + 1)
        self._steps, self._seconds = 0, 0.0

    def add(self, captured: float, displayed: float) -> None:
        """Add a frame by its times of capture and display, in seconds."""
        if self._times:
            self._steps += 1
            self._seconds += displayed - self._times[-1]
        self.displayed += 1
        self.latencies.append(displayed - captured)
        self._times.append(displayed)

    def pause(self) -> None:
        """Exclude the time until the next frame from the frame rate."""
        self._times.clear()

    @property
    def fps(self) -> float:
        """Mean frames per second, without pauses; 0 before the second frame."""
        return self._steps / self._seconds if self._seconds else 0.0

    def status(self) -> str:
        """Frame rate and mean latency of the latest frames, as a caption."""
        if len(self._times) < 2:
            return "first frame"
        rate = (len(self._times) - 1) / (self._times[-1] - self._times[0])
        recent = [self.latencies[index] for index in range(-len(self._times), 0)]
        return f"{rate:.1f} frames/s, latency {1000 * statistics.mean(recent):.0f} ms"

    def summary(self, captured: int | None = None) -> str:
        """The final figures; `captured` frames, of which only the newest were displayed, or None: offline."""
        if not self.displayed:
            return "no frame was processed"
        if captured is None:
            return f"{self.displayed} frames processed, {self.fps:.1f} frames/s"
        median, slow = (1000 * np.quantile(self.latencies, q) for q in (0.5, 0.95))
        return (
            f"{self.displayed} of {captured} frames displayed, {self.fps:.1f} frames/s, latency {median:.0f} ms"
            f" (median), {slow:.0f} ms (95th percentile)"
        )
