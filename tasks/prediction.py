"""Predictions: the typed results of models, and what a network's raw output means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import cv2
import numpy as np

from ..datasets.core.geometry import Size
from ..datasets.dataset import Sample
from ..datasets.field_types import FieldType, Image
from ..datasets.formats.image import write_image


@dataclass(frozen=True)
class OutputSpec:
    """Meaning of a network's raw output, for visualization and for programs that read it without this package.

    Attributes:
        channels: name of each channel, along the second axis of (B, C, ...).
        unit: unit of the values, and their grid if it is not that of the input pixels.
        layout: "map": (B, C, H, W), one value per channel and pixel of the input; "class-map": the same, channels are
            classes; "classes": (B, C), one per class; "keypoints": joints as (B, C, 3) coordinates or (B, C, h, w) heat
            maps; "values": (B, C), other numbers.
    """

    channels: tuple[str, ...]
    unit: str
    layout: Literal["map", "class-map", "classes", "keypoints", "values"] = "map"


@dataclass(frozen=True)
class PredictionContext:
    """What `Task.decode` needs, besides the output, to make a prediction about the original image.

    Attributes:
        inputs: original inputs by field name, images as (H, W, C), and `InferencePolicy.context_fields`.
        fields: field types of the model's dataset, with their class names, skeletons and channels.
        size: (height, width) of the inputs.
        matrix: (3, 3), maps original pixels to pixels of the network's input, for the first geometry of the input
            mode.
        offset: (x, y) of the inputs in the image from which they were cropped; None if they are complete images.
        note: the task's reason for its default box ("largest person"), empty if the caller chose the box.
    """

    inputs: Sample
    fields: dict[str, FieldType]
    size: Size
    matrix: np.ndarray
    offset: tuple[int, int] | None = None
    note: str = ""


class Prediction(ABC):
    """The typed result of a model for one input, in the coordinates of the original image.

    Subclasses are frozen dataclasses with `repr=False`, so that the short `repr` below is kept.

    Attributes:
        unit: unit of the values, for example "meters" or "pixels".
    """

    unit: ClassVar[str]

    @abstractmethod
    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """Visualization as (H, W, 3) uint8 RGB.

        Args:
            reference: prediction whose value range is used for the colors, usually the ground truth; None: the range
                of this prediction.
        """

    def summary(self) -> str:
        """A few words for one line of output, for example the range of the values."""
        return f"in {self.unit}"

    def record(self) -> dict[str, Any]:
        """The prediction as plain data for `predict --format`: labels, joints, a score; empty where it is an image."""
        return {}

    @abstractmethod
    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write raw data and visualization to files that start with `stem`; return their paths."""

    def numpy(self) -> np.ndarray:
        """The predicted values in `unit`: the first array among the attributes, for example (H, W) meters.

        Raises:
            TypeError: there is none.
        """
        for name in getattr(self, "__dataclass_fields__", ()):
            if isinstance(value := getattr(self, name), np.ndarray):
                return value
        raise TypeError(f"{type(self).__name__} is no single array; its attributes are {', '.join(vars(self))}")

    def __repr__(self) -> str:
        """One line with class, shape, unit and range: `DepthMap(480x640, meters, 0.82 to 6.41)`."""
        return f"{type(self).__name__}({', '.join(self._repr_parts())})"

    def _repr_parts(self) -> tuple[str, ...]:
        """Shape, unit and range for `repr`; subclasses add what they have (`format_size`, `format_range`)."""
        return (self.unit,)

    def _repr_png_(self) -> bytes:
        """`to_image()` as PNG: notebooks display a prediction as its visualization."""
        return cv2.imencode(".png", self.to_image()[..., ::-1])[1].tobytes()


@dataclass(frozen=True, repr=False)
class ImagePrediction(Prediction):
    """An image, base of the image predictions of several tasks.

    Attributes:
        pixels: (H, W, 3) RGB or (H, W, 1) gray. Predictions are uint8, clipped and rounded as in a file, and are scored
            in this form; ground truth may have any type that a dataset stores.
        suffix: end of the file name, STEM_SUFFIX.png.
    """

    pixels: np.ndarray
    unit: ClassVar[str] = "image"
    suffix: ClassVar[str]

    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """The image itself as (H, W, 3) uint8; gray is repeated in three channels."""
        return Image().colorize(self.pixels)

    def summary(self) -> str:
        """Width and height of the image."""
        return f"an image of {self.pixels.shape[1]}x{self.pixels.shape[0]}"

    def _repr_parts(self) -> tuple[str, ...]:
        return format_size(self.pixels), self.unit, format_range(self.pixels)

    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write STEM_SUFFIX.png, with one channel if the image is gray."""
        path = Path(folder) / f"{stem}_{self.suffix}.png"
        image = self.to_image()
        write_image(path, image[..., 0] if self.pixels.shape[-1] == 1 else image)
        return [path]


def eight_bits(values: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as uint8 in 0..255; values outside are clipped."""
    return np.round(np.clip(values, 0, 1) * 255).astype(np.uint8)


def format_size(array: np.ndarray) -> str:
    """Height and width of an array (H, W, ...) for a `repr`: "480x640"."""
    return f"{array.shape[0]}x{array.shape[1]}"


def format_range(values: np.ndarray) -> str:
    """Minimum and maximum of the finite values for a `repr`: "0.82 to 6.41"; "no values" if there are none."""
    finite = values[np.isfinite(values)]
    return f"{finite.min():.3g} to {finite.max():.3g}" if finite.size else "no values"
