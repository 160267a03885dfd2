"""Models that run on live frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError
from .capture import Frame
from .layout import Cell

if TYPE_CHECKING:
    from ...tasks.inference import Predictor
    from ...tasks.prediction import Prediction


@dataclass(frozen=True)
class LivePredictor:
    """A model with a unique name.

    Attributes:
        name: name of its task, or of its checkpoint if several models have the same task.
        predictor: the model.
        mode: input mode, see `Predictor.predict`.
    """

    name: str
    predictor: Predictor
    mode: str | None = None

    @property
    def num_frames(self) -> int:
        """Number of consecutive frames that the model takes as input."""
        task = self.predictor.task
        return task.inference.newest_frames(task.inputs(self.predictor.fields))

    def predict(self, frames: Sequence[Frame]) -> Prediction | None:
        """Prediction for the newest of consecutive frames, oldest first; None if there are fewer than `num_frames`."""
        if len(frames) < self.num_frames:
            return None
        return self.predictor.predict(*(frame.pixels for frame in frames[-self.num_frames :]), mode=self.mode)

    def cell(self, frames: Sequence[Frame], prediction: Prediction | None) -> Cell:
        """Visualization and summary of a prediction; the newest frame if there is none yet."""
        if prediction is None:
            return frames[-1].pixels, f"{self.name}: waiting for {self.num_frames} consecutive frames"
        return prediction.to_image(), f"{self.name}: {prediction.summary()}"


def live_predictors(names: str, device: str, amp: str, mode: str | None = None) -> list[LivePredictor]:
    """Load the models of comma-separated names of tasks or checkpoint files; see `tasks.inference.load`.

    Raises:
        UserError: no name, an unknown one, an unknown input mode, or a model whose inputs are not color or gray images.
    """
    from ...datasets.field_types import Image
    from ...tasks.inference import load

    sources = [source for source in (part.strip() for part in names.split(",")) if source]
    if not sources:
        raise UserError("No task is named; give one, or several separated by commas (depth,flow).")
    predictors = [load(source, device, amp) for source in dict.fromkeys(sources)]
    count = Counter(predictor.task.name for predictor in predictors)
    models: list[LivePredictor] = []
    for source, predictor in zip(dict.fromkeys(sources), predictors, strict=True):
        task = predictor.task
        if not task.inference.newest_frames(predictor.preprocessor.inputs):
            raise UserError(f"'{source}' does not predict from the newest frames; use densevision predict.")
        for name, field_type in predictor.preprocessor.inputs.items():
            if not isinstance(field_type, Image) or field_type.channels not in (1, 3):
                raise UserError(f"'{source}' needs {name} ({field_type}), which a camera or video does not provide.")
        if mode is not None and mode not in task.inference.modes:
            raise UserError(f"'{source}' has no input mode '{mode}'; it has {', '.join(task.inference.modes)}.")
        name = task.name if count[task.name] == 1 else _checkpoint_name(source)
        if name in {model.name for model in models}:
            raise UserError(f"Two of the models in '{names}' have the name '{name}'; rename one of the files.")
        models.append(LivePredictor(name, predictor, mode))
    return models


def _checkpoint_name(source: str) -> str:
    """Stem of a checkpoint file, or the name of its run folder: every run's checkpoint is named best."""
    path = Path(source)
    return path.parent.name if path.stem == "best" and path.parent.name else path.stem or source
