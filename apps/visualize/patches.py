"""What a unit of a level sees of a picture: the window of its receptive field, at its true centre and size.

Windows are in pixels of the shown picture. A unit's field may leave the picture, into the padding.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from ...backbones.receptive_field import ReceptiveField, layer_fields, receptive_fields
from ...datasets.geometry import Size
from ...errors import UserError
from .nearest import no_such
from .subject import Subject


class Window(NamedTuple):
    """Pixels left ... right - 1 of the columns and top ... bottom - 1 of the rows; below 0 in the padding."""

    left: int
    top: int
    right: int
    bottom: int

    def clipped(self, size: Size) -> Window:
        """What of it lies in a picture of (height, width)."""
        height, width = size
        return Window(max(self.left, 0), max(self.top, 0), min(self.right, width), min(self.bottom, height))

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """What of it lies in a picture (H, W, ...)."""
        left, top, right, bottom = self.clipped((picture.shape[0], picture.shape[1]))
        return np.ascontiguousarray(picture[top:bottom, left:right])


class Fields(NamedTuple):
    """The receptive fields of a level's units, along height and width."""

    level: str
    rows: ReceptiveField
    columns: ReceptiveField

    def window(self, x: int, y: int) -> Window:
        """What the unit at x, y of the level sees."""
        left, top = (math.floor(axis.pixels(unit)[0]) for axis, unit in ((self.columns, x), (self.rows, y)))
        return Window(left, top, left + round(self.columns.size), top + round(self.rows.size))

    def whole(self, count: Size, size: Size) -> tuple[range, range]:
        """The rows and columns of units whose fields lie in the picture, all of them.

        Args:
            count: (h, w) units of the level.
            size: (height, width) of the picture, pixels.
        """
        found = []
        for axis, units, pixels in zip((self.rows, self.columns), count, size, strict=True):
            first = math.ceil(max(0.0, -axis.first) / axis.jump)
            last = math.floor((pixels - axis.size - axis.first) / axis.jump)
            found.append(range(first, max(first, min(last + 1, units))))
        return found[0], found[1]

    def unit_at(self, x: float, y: float, among: tuple[range, range]) -> tuple[int, int]:
        """The unit, as x, y of the level, whose field's centre is nearest to a pixel of the shown picture."""
        rows, columns = among
        row, column = (
            min(max(round((pixel - axis.centre) / axis.jump), units[0]), units[-1])
            for pixel, axis, units in ((y, self.rows, rows), (x, self.columns, columns))
        )
        return column, row


def fields_of(subject: Subject, level: str) -> Fields:
    """The receptive fields of a level, or of a layer that widens what its units see.

    Raises:
        UserError: no such level, one whose units see everything, or a network that cannot be followed.
    """
    if level not in subject.known_levels():
        raise no_such(f"level of {subject.name}", level, subject.known_levels())
    known: list[dict[str, ReceptiveField]] = []
    if subject.trunk is not None:
        with suppress(ValueError, RuntimeError):  # attention and the like: no field is known
            known = [
                {**layer_fields(subject.trunk, a), **receptive_fields(subject.trunk, a)} for a in ("height", "width")
            ]
    if not known or level not in known[0]:
        named = ", ".join(each.name for each in subject.trunk.levels) if subject.trunk is not None else "none is known"
        raise UserError(f"What a unit of '{level}' sees is not known; name a level of {subject.name}: {named}.")
    fields = Fields(level, known[0][level], known[1][level])
    if not math.isfinite(fields.rows.size + fields.columns.size):
        raise UserError(
            f"A unit of '{level}' sees the whole picture ({fields.rows.global_operation}); name an earlier level."
        )
    return fields
