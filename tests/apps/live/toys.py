"""Fake sources, models and viewers with a known behavior; the pixels of a frame are its number."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import av
import numpy as np

from densevision.apps.live.live_predictor import LivePredictor
from densevision.apps.live.viewer import State
from densevision.datasets.field_types import Image
from densevision.datasets.formats.video import TimedFrame
from densevision.errors import UserError
from densevision.tasks.policies import InferencePolicy
from densevision.tasks.prediction import Prediction

HEIGHT, WIDTH = 24, 32


def numbered(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A frame whose pixels are all `number`."""
    return np.full((height, width, 3), number % 256, np.uint8)


@dataclass
class Toy:
    """A source.

    Attributes:
        count: number of frames.
        pause: seconds before each frame.
        breaks: number of the frame at which it fails; None: never.
        hangs: number of the frame at which it blocks; None: never.
        size: (height, width) by frame number.
        rate: frames per second, as of a video file; None: the times of a camera.
        given: number of frames read so far.
        closed: whether the iterator was closed.
    """

    count: int = 10
    pause: float = 0.0
    breaks: int | None = None
    hangs: int | None = None
    size: Callable[[int], tuple[int, int]] = lambda number: (HEIGHT, WIDTH)
    rate: int | None = None
    name: str = "the toy"
    given: int = 0
    closed: bool = False

    def frames(self) -> Iterator[TimedFrame]:
        try:
            for number in range(1, self.count + 1):
                time.sleep(self.pause)
                if number == self.breaks:
                    raise UserError(f"The toy broke at frame {number}.")
                while number == self.hangs and not self.closed:
                    time.sleep(0.01)
                self.given = number
                seconds = number / self.rate if self.rate else time.perf_counter()
                yield TimedFrame(numbered(number, *self.size(number)), seconds)
        finally:
            self.closed = True


@dataclass(frozen=True)
class Numbers(Prediction):
    """A prediction that stores the numbers of its frames."""

    frames: tuple[int, ...]
    unit: ClassVar[str] = "frames"

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        return numbered(self.frames[0])

    def summary(self) -> str:
        return " and ".join(map(str, self.frames))

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{stem}_numbers.txt").write_text(self.summary())
        return [Path(folder) / f"{stem}_numbers.txt"]


def model(
    name: str = "toy", num_frames: int = 1, seconds: float = 0.0, inputs: list[Any] | None = None
) -> LivePredictor:
    """A model with `num_frames` inputs that takes `seconds`; it appends the numbers of its input frames to `inputs`."""

    def predict(*images: np.ndarray, mode: str | None = None) -> Numbers:
        time.sleep(seconds)
        prediction = Numbers(tuple(int(image[0, 0, 0]) for image in images))
        if inputs is not None:
            inputs.append(prediction.frames)
        return prediction

    fields = {f"image{number}": Image(3) for number in range(num_frames)}
    task = SimpleNamespace(name=name, inputs=lambda fields: fields, inference=InferencePolicy())
    predictor: Any = SimpleNamespace(task=task, fields=fields, predict=predict)
    return LivePredictor(name, predictor)


@dataclass
class Watcher:
    """A viewer that presses keys, by the number of images displayed before."""

    presses: dict[int, str] = field(default_factory=dict)
    needs_overlay: bool = False
    images: list[np.ndarray] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def show(self, image: np.ndarray, state: State) -> None:
        self.images.append(image)
        self.states.append(state)

    def read_keys(self) -> str:
        return self.presses.pop(len(self.images), "")

    def close(self, message: str = "") -> None: ...


def frames_in(path: Path) -> list[np.ndarray]:
    """All frames of a video."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def times_in(path: Path) -> list[float]:
    """Timestamps of the frames of a video, in seconds."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]
