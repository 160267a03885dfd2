"""Sources, networks and viewers whose behaviour can be written down. No picture is more than its number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import av
import numpy as np

from densevision.apps.live.answerer import Answerer
from densevision.apps.live.viewer import State
from densevision.datasets.fields import Image
from densevision.errors import UserError
from densevision.tasks.task import Prediction

HEIGHT, WIDTH = 24, 32


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A frame whose every pixel is its number."""
    return np.full((height, width, 3), number % 256, np.uint8)


@dataclass
class Toy:
    """A source.

    Attributes:
        count: frames that it gives.
        pause: seconds before each.
        breaks: number of the frame in whose place it fails; None: never.
        hangs: number of the frame in whose place it gives nothing any more; None: never.
        size: (height, width) by number.
        given, closed: what happened.
    """

    count: int = 10
    pause: float = 0.0
    breaks: int | None = None
    hangs: int | None = None
    size: Callable[[int], tuple[int, int]] = lambda number: (HEIGHT, WIDTH)
    name: str = "the toy"
    given: int = 0
    closed: bool = False

    def frames(self) -> Iterator[np.ndarray]:
        try:
            for number in range(1, self.count + 1):
                time.sleep(self.pause)
                if number == self.breaks:
                    raise UserError(f"The toy broke at frame {number}.")
                while number == self.hangs and not self.closed:
                    time.sleep(0.01)
                self.given = number
                yield numbered(number, *self.size(number))
        finally:
            self.closed = True


@dataclass(frozen=True)
class Numbers(Prediction):
    """An answer that knows which frames it is about."""

    about: tuple[int, ...]
    unit: ClassVar[str] = "frames"

    def picture(self, like: Prediction | None = None) -> np.ndarray:
        return numbered(self.about[0])

    def brief(self) -> str:
        return " and ".join(map(str, self.about))

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{stem}_numbers.txt").write_text(self.brief())
        return [Path(folder) / f"{stem}_numbers.txt"]


def network(name: str = "toy", together: int = 1, seconds: float = 0.0, asked: list[Any] | None = None) -> Answerer:
    """A network that takes so many frames and so many seconds; what it was asked about is appended to `asked`."""

    def predict(*pictures: np.ndarray, view: str | None = None) -> Numbers:
        time.sleep(seconds)
        about = Numbers(tuple(int(picture[0, 0, 0]) for picture in pictures))
        if asked is not None:
            asked.append(about.about)
        return about

    kinds = {f"picture{number}": Image(3) for number in range(together)}
    task = SimpleNamespace(name=name, inputs=lambda fields: fields)
    predictor: Any = SimpleNamespace(task=task, fields=kinds, predict=predict)
    return Answerer(name, predictor)


@dataclass
class Watcher:
    """A viewer that presses keys: by how many pictures were shown before."""

    presses: dict[int, str] = field(default_factory=dict)
    plain: bool = False
    seen: list[np.ndarray] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def show(self, picture: np.ndarray, state: State) -> None:
        self.seen.append(picture)
        self.states.append(state)

    def pressed(self) -> str:
        return self.presses.pop(len(self.seen), "")

    def close(self, last_words: str = "") -> None: ...


def frames_in(path: Path) -> list[np.ndarray]:
    """Every picture of a video."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def times_in(path: Path) -> list[float]:
    """The second at which every picture of a video is shown."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]
