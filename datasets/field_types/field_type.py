"""FieldType: how the values of a field are checked, transformed by a geometry, batched and visualized."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from ...schema import MAX_CLASSES, Text
from ..core.geometry import Geometry

if TYPE_CHECKING:
    from torch import Tensor

# The bounds hold for what a file states, see `fields_from_json`.
Names = Annotated[tuple[Text, ...], Field(max_length=MAX_CLASSES)]
FrameIndex = Annotated[int, Field(ge=0, lt=1000)]
Mismatch = tuple[str, str]
"""(expected, found), for a `Problem`."""


@dataclass(frozen=True)
class FieldType(ABC):
    """Base class of the field types.

    Attributes:
        rank: number of axes of the value of one sample, without a leading T or N.
        input_channels: channels C of the field as a network's input (B, C, H, W); 0 if it is not a map of pixels.
        frame: index of the frame that the field belongs to; it selects the matrix of a geometry.
    """

    rank: ClassVar[int]
    input_channels: ClassVar[int] = 0
    # Keyword-only, so that the parameters of the subclasses come first: Image(1) is a gray image.
    frame: FrameIndex = dataclasses.field(default=0, kw_only=True)

    def __str__(self) -> str:
        """Short description for messages; types with class or joint names state how many and the first three."""
        return type(self).__name__

    @abstractmethod
    def check(self, value: np.ndarray) -> Mismatch | None:
        """Compare a value with the contract of this type: (expected, found), or None if it is valid."""

    def transform(self, value: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Apply a geometry to a value, entry by entry if it has a leading axis."""
        if value.ndim > self.rank:
            return np.stack([self.transform(entry, geometry) for entry in value])
        return self._transform(value, geometry)

    @abstractmethod
    def _transform(self, value: np.ndarray, geometry: Geometry) -> np.ndarray:
        """`transform` of one entry, without a leading T or N."""

    def collate(self, name: str, values: list[np.ndarray]) -> dict[str, Tensor]:
        """Batch values as tensor `name`; types with invalid values add a bool tensor `name_mask`.

        Invalid values (nan) become 0, since 0 * nan is nan. Images and flow become (B, C, H, W).
        """
        import torch

        return {name: torch.from_numpy(np.stack(values))}

    def to_input(self, tensor: Tensor) -> Tensor:
        """Convert a batched tensor on its device to the input of a network, for example uint8 to float32 in [0, 1]."""
        return tensor

    def to_target(self, tensor: Tensor) -> Tensor:
        """Convert a batched tensor on its device to the target of a loss; as an input, if not stated otherwise."""
        return self.to_input(tensor)

    def colorize(self, value: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
        """Visualize a value as (H, W, 3) uint8 RGB, the entries of a leading axis side by side.

        Args:
            value: one sample's value.
            reference: a value whose range sets the color scale (the ground truth); `value` if None.

        Raises:
            TypeError: the type has no visualization (camera, box, class, scalar).
        """
        if value.ndim > self.rank:
            references = value if reference is None else reference
            return np.concatenate([self.colorize(*pair) for pair in zip(value, references, strict=True)], axis=1)
        return self._colorize(value, value if reference is None else reference)

    def _colorize(self, value: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """`colorize` of one entry, without a leading T or N."""
        raise TypeError(f"{type(self).__name__} has no visualization")


def describe_names(names: tuple[str, ...], what: str) -> str:
    """How many names there are of something, and the first three."""
    return f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def describe_shape(value: np.ndarray) -> str:
    """Shape and type of an array, for messages."""
    return "x".join(map(str, value.shape)) + f" {value.dtype}"
