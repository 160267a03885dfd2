"""Image crops at the receptive field of a unit, with its exact center and size.

Windows are in pixels of the model input. Near the border, a receptive field includes padding.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from ...backbones.receptive_field import ReceptiveField, layer_fields, receptive_fields
from ...datasets.core.geometry import Size
from ...errors import UserError, unknown_name_with_suggestions
from ..core.model import InspectedModel


class Window(NamedTuple):
    """Pixel columns left ... right - 1 and rows top ... bottom - 1; negative in the padding."""

    left: int
    top: int
    right: int
    bottom: int

    def clip(self, size: Size) -> Window:
        """Intersection with an image of (height, width)."""
        height, width = size
        return Window(max(self.left, 0), max(self.top, 0), min(self.right, width), min(self.bottom, height))

    def crop(self, image: np.ndarray) -> np.ndarray:
        """Crop an image (H, W, ...) to the window, without padding."""
        left, top, right, bottom = self.clip((image.shape[0], image.shape[1]))
        return np.ascontiguousarray(image[top:bottom, left:right])


class Fields(NamedTuple):
    """Receptive fields of a level, along height and width."""

    level: str
    rows: ReceptiveField
    columns: ReceptiveField

    def window(self, x: int, y: int) -> Window:
        """Receptive field of the unit at x, y of the level."""
        left, top = (math.floor(axis.pixels(unit)[0]) for axis, unit in ((self.columns, x), (self.rows, y)))
        return Window(left, top, left + round(self.columns.size), top + round(self.rows.size))

    def units_inside(self, count: Size, size: Size) -> tuple[range, range]:
        """Rows and columns of the units whose receptive fields are entirely inside the image.

        Args:
            count: (h, w) units of the level.
            size: (height, width) of the image in pixels.
        """
        ranges = []
        for axis, units, pixels in zip((self.rows, self.columns), count, size, strict=True):
            first = math.ceil(max(0.0, -axis.first) / axis.jump)
            last = math.floor((pixels - axis.size - axis.first) / axis.jump)
            ranges.append(range(first, max(first, min(last + 1, units))))
        return ranges[0], ranges[1]

    def nearest_unit(self, x: float, y: float, candidates: tuple[range, range]) -> tuple[int, int]:
        """Unit (x, y), among the candidate rows and columns, whose center is nearest to a pixel of the model input."""
        rows, columns = candidates
        row, column = (
            min(max(round((pixel - axis.center) / axis.jump), units[0]), units[-1])
            for pixel, axis, units in ((y, self.rows, rows), (x, self.columns, columns))
        )
        return column, row


def unit_fields(model: InspectedModel, level: str) -> Fields:
    """Receptive fields of a level, or of a convolution or pooling layer.

    Raises:
        UserError: an unknown level, one with a global receptive field, or a model that cannot be traced.
    """
    if level not in model.level_names():
        raise unknown_name_with_suggestions(f"level of {model.name}", level, model.level_names())
    fields_by_axis: list[dict[str, ReceptiveField]] = []
    if model.backbone is not None:
        with suppress(ValueError, RuntimeError):  # not traceable, for example attention
            fields_by_axis = [
                {**layer_fields(model.backbone, a), **receptive_fields(model.backbone, a)} for a in ("height", "width")
            ]
    if not fields_by_axis or level not in fields_by_axis[0]:
        level_names = (
            ", ".join(each.name for each in model.backbone.levels) if model.backbone is not None else "none has one"
        )
        raise UserError(
            f"The receptive field of '{level}' is not known; choose a level of {model.name}: {level_names}."
        )
    fields = Fields(level, fields_by_axis[0][level], fields_by_axis[1][level])
    if not math.isfinite(fields.rows.size + fields.columns.size):
        raise UserError(
            f"The receptive field of '{level}' is the entire image ({fields.rows.global_operation}); "
            "choose an earlier level."
        )
    return fields
