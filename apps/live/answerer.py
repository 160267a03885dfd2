"""A network that is asked about frames as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError
from .canvas import Cell
from .capture import Frame

if TYPE_CHECKING:
    from ...tasks.inference import Predictor
    from ...tasks.task import Prediction


@dataclass(frozen=True)
class Answerer:
    """A network under a name that no other in the run has.

    Attributes:
        name: of its task, or of its file where a task is asked twice.
        predictor: the network.
        view: how it is shown a frame; None: as its task usually does.
    """

    name: str
    predictor: Predictor
    view: str | None = None

    @property
    def together(self) -> int:
        """How many consecutive frames it takes at a time."""
        return len(self.predictor.task.inputs(self.predictor.fields))

    def answer(self, frames: Sequence[Frame]) -> Prediction | None:
        """The answer about the newest frames; None while there are fewer than it takes.

        Args:
            frames: consecutive ones, oldest first.
        """
        if len(frames) < self.together:
            return None
        return self.predictor.predict(*(frame.pixels for frame in frames[-self.together :]), view=self.view)

    def cell(self, frames: Sequence[Frame], answer: Prediction | None) -> Cell:
        """The picture of an answer and what it says; the newest frame while there is none."""
        if answer is None:
            return frames[-1].pixels, f"{self.name}: waits for {self.together} consecutive frames"
        return answer.picture(), f"{self.name}: {answer.brief()}"


def answerers(asked: str, device: str, amp: str, view: str | None = None) -> list[Answerer]:
    """The networks that were named.

    Args:
        asked: tasks' names or checkpoints' files, with commas between them.
        device, amp: as `tasks.inference.load` takes them.
        view: how they are shown a frame.

    Raises:
        UserError: none was named, one does not exist, or one takes something that no camera gives.
    """
    from ...datasets.fields import Image
    from ...tasks.inference import load

    words = [word for word in (part.strip() for part in asked.split(",")) if word]
    if not words:
        raise UserError("No task is named: give one, or several with commas between them (depth,flow).")
    loaded = [load(word, device, amp) for word in dict.fromkeys(words)]
    count = Counter(predictor.task.name for predictor in loaded)
    found: list[Answerer] = []
    for word, predictor in zip(dict.fromkeys(words), loaded, strict=True):
        task = predictor.task
        for name, kind in task.inputs(predictor.fields).items():
            if not isinstance(kind, Image) or kind.channels not in (1, 3):
                raise UserError(
                    f"'{word}' takes {name} ({kind}), which no camera and no video gives: it wants pictures."
                )
        if view is not None and view not in task.views:
            raise UserError(f"'{word}' knows no view '{view}'; it knows {', '.join(task.views)}.")
        name = task.name if count[task.name] == 1 else _stem(word)
        if name in {one.name for one in found}:
            raise UserError(
                f"Two of the networks in '{asked}' are both called '{name}': give one of the files another name."
            )
        found.append(Answerer(name, predictor, view))
    return found


def _stem(word: str) -> str:
    """Of a run's folder, its name: every run calls its checkpoint best."""
    path = Path(word)
    return path.parent.name if path.stem == "best" and path.parent.name else path.stem or word
