"""Model inputs: loading and preprocessing metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ...datasets.core.geometry import Size
from ...datasets.field_types import FieldType, SegmentationMask
from ...errors import UserError
from ...tasks.image_io import load_image_as, load_labels
from ...tasks.prediction import PredictionContext


@dataclass(frozen=True)
class ModelInput:
    """Preprocessed images.

    Attributes:
        pixels: (1, C, H, W) float32 in [0, 1] each; one channel per class for label maps.
        context: the original images or their crops, their size, and the matrix from original to preprocessed pixels.
        image_size: (height, width) of the complete original images.
    """

    pixels: tuple[Tensor, ...]
    context: PredictionContext
    image_size: Size

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3): maps pixels (x, y, 1) of the complete original image to pixels of the preprocessed one."""
        left, top = self.context.offset or (0, 0)
        return self.context.matrix @ np.array([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]])

    def to_input_pixel(self, x: float, y: float) -> tuple[float, float]:
        """Position (x, y) in the preprocessed image of a pixel of the original image."""
        transformed = self.matrix @ np.array([x, y, 1.0])
        return float(transformed[0] / transformed[2]), float(transformed[1] / transformed[2])


def load_inputs(
    name: str, field_types: dict[str, FieldType], sources: Sequence[Any]
) -> tuple[dict[str, np.ndarray], Size]:
    """Load the inputs of a model by field name, (H, W, C) each or (H, W) label maps, and their (height, width).

    Args:
        name: name of the model, for error messages.
        field_types: input fields.
        sources: paths, arrays, PIL images or tensors, one for each field.

    Raises:
        UserError: too few or too many sources, a source that is not an image, or images of two sizes.
    """
    if len(sources) != len(field_types):
        raise UserError(
            f"{name} takes {len(field_types)} image(s) ({', '.join(field_types)}), but {len(sources)} were given."
        )
    images = {
        field: load_labels(source, field_type)
        if isinstance(field_type, SegmentationMask)
        else load_image_as(source, getattr(field_type, "channels", 3))
        for (field, field_type), source in zip(field_types.items(), sources, strict=True)
    }
    sizes = {(image.shape[0], image.shape[1]) for image in images.values()}
    if len(sizes) > 1:
        raise UserError(f"The inputs differ in size: {', '.join(f'{h}x{w}' for h, w in sorted(sizes))}.")
    return images, sizes.pop()
