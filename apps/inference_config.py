"""Model and options of a prediction run, and the steps of the inference pipeline for a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..version import VERSION
from .inputs import InferenceRequest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..tasks.inference import Predictor
    from ..tasks.policies import ObjectBoxes, SceneChoice
    from ..tasks.preprocessing import ModelInput

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PreparedRequest:
    """Inputs of the predictions of a request.

    Attributes:
        inputs: one, or with a file of boxes one per box.
        image: with a file of boxes: the complete image, (H, W, 3) uint8.
    """

    inputs: list[ModelInput]
    image: np.ndarray | None = None


@dataclass(frozen=True)
class InferenceConfig:
    """Model and options of a run, with the steps of the inference pipeline.

    Attributes:
        predictor: the model.
        out: output folder.
        mode, tta_flip, box: see `Predictor.predict`.
        boxes: boxes per image, instead of `box`.
        scene: views of scenes; the pose is in its file, which is not an image.
    """

    predictor: Predictor
    out: Path
    mode: str | None
    tta_flip: bool
    box: Box | None
    boxes: ObjectBoxes | None = None
    scene: SceneChoice | None = None

    def digest(self) -> dict[str, Any]:
        """Everything that a prediction depends on besides its images, JSON-serializable."""
        predictor = self.predictor
        return {
            "densevision": VERSION,
            "task": repr(predictor.task),
            "weights": predictor.weights_hash,
            "size": list(predictor.size),
            "input_mode": self.mode or predictor.task.inference.modes[0],
            "tta_flip": self.tta_flip,
            "box": self.box if self.boxes is None else self.boxes.digest,
            "seed": predictor.seed,
            **({} if self.scene is None or not predictor.task.inference.reads_scenes else {"scene": repr(self.scene)}),
            "precision": predictor.precision,
        }

    def prepare(self, request: InferenceRequest) -> PreparedRequest:
        """Read and preprocess the images of a request."""
        from ..tasks.image_io import load_image

        load = partial(self.predictor.load_inputs, mode=self.mode, flip=self.tta_flip)
        if self.boxes is None:
            return PreparedRequest([load(*request.images(), box=self.box)])
        boxes = self.boxes.boxes_of(request.files[0])
        image = load_image(*request.images())
        return PreparedRequest([load(image, box=box) for box in boxes], image)

    def run(self, batch: Sequence[PreparedRequest], batch_size: int) -> list[list[Tensor]]:
        """Raw outputs for all inputs of some requests."""
        outputs = iter(self.predictor.forward([each for one in batch for each in one.inputs], batch_size))
        return [list(islice(outputs, len(one.inputs))) for one in batch]

    def finish(
        self, request: InferenceRequest, prepared: PreparedRequest, outputs: list[Tensor]
    ) -> tuple[list[Path], dict[str, Any], str]:
        """Decode and save a prediction; returns the files written, its values, and a summary for the log."""
        predictions = list(map(self.predictor.decode, prepared.inputs, outputs))
        if self.boxes is None or prepared.image is None:
            (prediction,) = predictions
        else:
            prediction = self.boxes.merge(request.files[0], prepared.image, predictions)
        remark = prepared.inputs[0].remark if prepared.inputs else ""
        files = prediction.save(self.out, request.stem.as_posix())
        return files, prediction.record(), ", of ".join(filter(None, (prediction.summary(), remark)))

    @staticmethod
    def pixels(request: InferenceRequest) -> int:
        """Number of pixels in a request, by the headers of its files; 0 if they cannot be read."""
        from ..tasks.image_io import count_pixels

        try:
            return sum(map(count_pixels, request.images()))
        except UserError:
            return 0
