"""The loop: the newest frames, their answers, the picture of them, whoever looks, and the recording."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .answerer import Answerer
from .canvas import Cell, composed
from .capture import Capture, Frame
from .keys import HINT
from .recorder import Recorder
from .timing import Timing
from .viewer import State, Viewer

if TYPE_CHECKING:
    import numpy as np

    from ...tasks.task import Prediction

WAIT = 0.05
"""Seconds after which a key is answered even where no frame comes."""
MESSAGE_STAYS = 3.0
"""Seconds."""


class Live:
    """A run.

    Attributes:
        turn: the networks that are asked at present.
        paused: whether frames pass by unanswered.
        timing: of what was shown.
    """

    def __init__(
        self,
        capture: Capture,
        networks: Sequence[Answerer],
        viewer: Viewer,
        recorder: Recorder,
        out: Path,
        film: bool = False,
    ) -> None:
        """Nothing is read or shown yet.

        Args:
            capture: gives frames.
            networks: one is asked at a time, as the key n says, and all of them after the last.
            viewer: who looks.
            recorder: what is kept.
            out: folder of the snapshots.
            film: nobody looks: all networks are asked from the beginning.
        """
        self._capture, self._viewer, self._recorder, self._out = capture, viewer, recorder, out
        self._turns = [[network] for network in networks] + ([list(networks)] if len(networks) > 1 else [])
        self.turn = self._turns[-1 if film else 0]
        self._film = film
        self.paused = self._left = False
        self.timing = Timing()
        self._frames: tuple[Frame, ...] = ()
        self._answers: list[tuple[Answerer, Prediction | None]] = []
        self._cells: list[Cell] = []
        self._message, self._until = "", 0.0

    def run(self, stopped: Callable[[], bool] = lambda: False, frames: int | None = None) -> None:
        """Until the source ends, somebody quits, a stop is asked for, or so many frames were shown.

        Raises:
            UserError: the source failed or stalled; everything before was shown and recorded.
        """
        while not self._left and not stopped() and self.timing.shown != frames:
            for key in self._viewer.pressed():
                self.press(key)
            if self._message and time.perf_counter() > self._until:
                self._message = ""
                self._redraw()
            newest = self._capture.next(WAIT)
            if newest is None and self._capture.ended:
                return
            if newest is not None and not self.paused:
                self._answer(newest)

    def press(self, key: str) -> None:
        """Do what a key says; one that says nothing is ignored."""
        match key:
            case "n":
                self.turn = self._turns[(self._turns.index(self.turn) + 1) % len(self._turns)]
                self._say(f"task: {', '.join(network.name for network in self.turn)}")
                if self.paused and self._frames:
                    self._ask()
            case "p":
                self.paused = not self.paused
                self.timing.rest()
            case "s":
                self._snapshot()
            case "r":
                self._switch_recording()
            case "q":
                self._left = True
            case _:
                return
        self._redraw()

    def _answer(self, frames: tuple[Frame, ...]) -> None:
        self._frames = frames
        self._ask()
        if self._recorder.on:
            self._recorder.write(self._picture(), frames[-1].time)
        self._redraw()
        self.timing.count(frames[-1].time, time.perf_counter())

    def _ask(self) -> None:
        self._answers = [(network, network.answer(self._frames)) for network in self.turn]
        self._cells = [network.cell(self._frames, answer) for network, answer in self._answers]

    def _picture(self, said: str = "") -> np.ndarray:
        """The newest frame and its answers, with a line below where there is something to say."""
        newest = self._frames[-1]
        caption = f"frame {newest.number}" if self._film else self.timing.now()
        return composed((newest.pixels, caption), self._cells, said)

    def _redraw(self) -> None:
        """Show the picture, perhaps again, after something was said about it."""
        if self._frames:
            state = State(self.paused, self._recorder.on, self._message)
            self._viewer.show(self._picture(f"{HINT}. {state}") if self._viewer.plain else self._picture(), state)

    def _say(self, message: str) -> None:
        self._message, self._until = message, time.perf_counter() + MESSAGE_STAYS

    def _snapshot(self) -> None:
        """Write the frames, what is shown, and every answer's own files."""
        from ...datasets.formats.picture import write_picture

        if not self._frames:
            return
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{self._frames[-1].number:06d}"
        files = [self._out / f"{stem}_shown.png"]
        write_picture(files[0], self._picture())
        asked = self._frames[-max(network.together for network in self.turn) :]
        for number, frame in enumerate(asked, 1):
            files.append(self._out / f"{stem}{f'_{number}' if len(asked) > 1 else ''}.png")
            write_picture(files[-1], frame.pixels)
        for network, answer in self._answers:
            if answer is not None:
                one = network.name == network.predictor.task.name
                files += answer.save(self._out, stem if one else f"{stem}-{network.name}")
        self._say(f"wrote {self._out / stem}* ({len(files)} files)")

    def _switch_recording(self) -> None:
        if not self._recorder.on:
            self._recorder.start()
        elif (path := self._recorder.stop()) is not None:
            self._say(f"wrote {path}")
