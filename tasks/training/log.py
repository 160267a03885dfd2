"""Logging of a run: log.jsonl, TensorBoard events, curves.png, and the terminal."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from ...atomic_io import append, atomic_path, json_text, write_text
from ...errors import printable
from ...limits import read_file
from ...schema import Schema, Step, Text

QUIET_SECONDS = 25.0
"""Without a terminal, the status is printed after so many seconds without a line."""


class RunLog:
    """The log of one run. Only the main process writes, and nothing before `open`.

    Args:
        folder: the run folder.
        main: whether this is the main process.
    """

    def __init__(self, folder: Path, main: bool) -> None:
        self.folder, self.main, self.bar = folder, main, None
        self.events: EventFile | None = None
        self.path = folder / "log.jsonl"
        self.lines: list[dict[str, Any]] = []
        self.status, self._printed = "starting", time.monotonic()

    def open(self, step: int) -> None:
        """Open the log of a run that continues from a step; later lines of an interrupted run are removed."""
        if not self.main:
            return
        if self.path.exists():
            self.lines = [line for line in _read_lines(self.path) if line["step"] <= step]
            write_text(self.path, "".join(json_text(line) + "\n" for line in self.lines))
        self.events = EventFile(self.folder / "events", step)

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        """Write a line of log.jsonl, and a TensorBoard point for every number in it.

        Raises:
            OSError: the disk is full, for example.
        """
        if not self.main:
            return
        line = {"step": step, "kind": kind, **values}
        assert self.events is not None
        numbers = {name: value for name, value in values.items() if isinstance(value, (int, float))}
        self.events.write(step, {f"{kind}/{name}": value for name, value in numbers.items()})
        append(self.path, f"{json_text(line)}\n".encode())
        self.lines.append(line)

    def info(self, text: str) -> None:
        """Print a line to stderr, above the progress bar if there is one."""
        if not self.main:
            return
        text = printable(text)
        if self.bar is not None:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)
        self._printed = time.monotonic()

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Print the status whenever nothing has been printed for `QUIET_SECONDS`; only without a terminal."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(max(0.0, self._printed + QUIET_SECONDS - time.monotonic())):
                if time.monotonic() >= self._printed + QUIET_SECONDS:
                    self.info(f"... {self.status}")

        if self.main and not sys.stderr.isatty():
            threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def evaluation_progress(self, done: int, total: int) -> None:
        """Update the status during an evaluation."""
        self.status = f"evaluating, sample {done} of {total}"

    def progress(self, step: int, steps: int) -> None:
        """Update the status, and the progress bar on a terminal."""
        self.status = f"step {step} of {steps}"
        if not self.main or not sys.stderr.isatty():
            return
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            self.bar = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True))
            self.bar.add_task("steps", total=steps)
            self.bar.start()
        self.bar.update(self.bar.task_ids[0], completed=step)

    def draw_curves(self, metric: str, baseline: float | None) -> None:
        """Draw curves.png: the loss terms, and the monitored metric with that of the baseline."""
        if not self.main:
            return
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        training = [line for line in self.lines if line["kind"] == "train"]
        for name in training[-1] if training else ():
            if name not in ("step", "kind", "lr", "images_per_second"):
                lines = [line for line in training if name in line]
                left.plot([line["step"] for line in lines], [line[name] for line in lines], label=name, lw=1)
        left.set(xlabel="step", title="training loss")
        if training:
            left.legend()
        evaluations = [line for line in self.lines if line["kind"] == "eval" and metric in line]
        steps, values = [line["step"] for line in evaluations], [line[metric] for line in evaluations]
        right.plot(steps, values, "o-", ms=3, label="this run")
        if baseline is not None and baseline == baseline:
            right.axhline(baseline, color="gray", ls="--", lw=1, label="baseline")
        right.set(xlabel="step", title=f"{metric} on unseen data")
        right.set_ylim(bottom=0)
        right.legend()
        with atomic_path(self.folder / "curves.png") as aside:
            figure.savefig(aside, dpi=110)

    def close(self) -> None:
        """Stop the progress bar."""
        if self.bar is not None:
            self.bar.stop()


def format_seconds(seconds: float) -> str:
    """A duration as minutes and seconds, or hours and minutes: "0:07", "12:30", "3 h 05"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02}"


class Line(Schema):
    """A line of log.jsonl: the step, the kind, and numbers by name (null: not finite)."""

    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    step: Step
    kind: Text


def parse_line(text: str | bytes) -> dict[str, Any] | None:
    """A line of log.jsonl as plain data; None for one that a crash or a damaged disk tore."""
    try:
        return Line.model_validate_json(text).model_dump()
    except ValidationError:
        return None


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The valid lines of a log."""
    return [line for text in read_file(path).splitlines() if (line := parse_line(text)) is not None]


class EventFile:
    """TensorBoard's points of a run, each on the disk when `write` returns.

    The writer of torch has a thread, in which a full disk is a stack trace on the terminal.

    Args:
        folder: the folder of the event files; one is added.
        step: the step from which the run continues; TensorBoard ignores the later points of earlier files.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._write({"file_version": "brain.Event:2", "step": step + 1 if step else 0})
        if step:
            self._write({"step": step + 1, "session_log": {"status": "START"}})

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add one point per name."""
        points = [{"tag": name, "simple_value": value} for name, value in values.items()]
        self._write({"step": step, "summary": {"value": points}})

    def _write(self, event: dict[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined]
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **event).SerializeToString())
        append(self.path, record.getvalue())


class Meter:
    """Means of the loss terms and images per second since the last log line, and seconds of training in total.

    Evaluation, drawing and saving run under `paused` and do not count as training time. Sums since the last line are
    part of the training state, so that a resumed run writes the same lines as an uninterrupted one.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.steps = self.images = 0
        self.seconds = self.total = 0.0
        self._since = time.perf_counter()

    def add(self, terms: dict[str, float], images: int) -> None:
        """Count one optimizer step; one without terms counts for the rate alone."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps, self.images = self.steps + bool(terms), self.images + images
        self._tick()

    def flush(self) -> tuple[dict[str, float], float]:
        """Mean of every term and images per second since the last flush."""
        means = {name: value / max(1, self.steps) for name, value in self.sums.items()}
        rate = self.images / max(self.seconds, 1e-9)
        self.sums, self.steps, self.images, self.seconds = {}, 0, 0, 0.0
        return means, rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside this context."""
        self._tick()
        try:
            yield
        finally:
            self._since = time.perf_counter()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.seconds, self.total, self._since = self.seconds + now - self._since, self.total + now - self._since, now

    def state(self) -> dict[str, Any]:
        """Plain values for the training state."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a training state."""
        vars(self).update(state)
        self._since = time.perf_counter()
