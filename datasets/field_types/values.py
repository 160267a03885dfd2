"""Field types without a place in the image: classes, numbers, noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .field_type import FieldType, Names, describe_names


@dataclass(frozen=True)
class ClassLabel(FieldType):
    """Class of an image: one integer, an index into `names`."""

    rank: ClassVar[int] = 0
    names: Names = ()

    def __str__(self) -> str:
        return describe_names(self.names, "classes")

    def check(self, value):
        if value.dtype.kind not in "iu":
            return "a class as an integer", str(value.dtype)
        valid = (value >= 0).all() and (value < len(self.names)).all()
        return None if valid else (f"a class from 0 to {len(self.names) - 1}", f"{value}")

    def _transform(self, value, geometry):
        return value

    def collate(self, name, values):
        import torch

        return {name: torch.from_numpy(np.asarray(values, np.int64))}


@dataclass(frozen=True)
class Scalar(FieldType):
    """One number, which no geometry changes: for example a score."""

    rank: ClassVar[int] = 0

    def check(self, value):
        return None if np.isfinite(value).all() else ("a finite number", f"{value}")

    def _transform(self, value, geometry):
        return value

    def collate(self, name, values):
        import torch

        # float32: a loss in float64 fails on some devices.
        return {name: torch.from_numpy(np.asarray(values, np.float32))}


@dataclass(frozen=True)
class Noise(FieldType):
    """A vector of normal noise, (length,) float32, from which a network generates; no geometry changes it.

    Attributes:
        length: number of values.
    """

    rank: ClassVar[int] = 1
    length: int = 100

    def check(self, value):
        return None if value.shape[-1:] == (self.length,) else (f"{self.length} numbers", str(value.shape))

    def _transform(self, value, geometry):
        return value
