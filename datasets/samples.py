"""Samples of any source as a dataset: lists of dictionaries, datasets of PyTorch, objects with `read`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..errors import UserError
from .core.problems import sample_errors
from .dataset import Dataset, Sample
from .field_types import ClassLabel, Depth, FieldType, Flow, Image, SegmentationMask


class Samples(Dataset):
    """Samples of any source as a dataset.

    >>> Samples([{"image": image, "depth": depth}], {"image": Image(), "depth": Depth()})  # doctest: +SKIP

    A sample is a dictionary, or a tuple in the order of `fields`. Its values may be arrays, tensors, PIL images and
    numbers, and become what the field types demand: an image as (H, W, C) or PIL, or as a tensor (C, H, W); maps as
    (H, W) or a tensor (1, H, W); flow as (H, W, 2) or a tensor (2, H, W); a class as a number or one of the names.

    Args:
        source: has `__len__`, and `read` or `__getitem__`.
        fields: field types by name; others of a sample are not used.
        split: for messages.
    """

    terms: ClassVar[str] = "not stated"

    def __init__(self, source: Any, fields: Mapping[str, FieldType], split: str = "train") -> None:
        super().__init__(split=split)
        self.source: Any = source
        self.fields: dict[str, FieldType] = dict(fields)
        self.title: str = type(source).__name__  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> Sample:
        values = read_values(self.source, index)
        if isinstance(values, (tuple, list)) and len(values) == len(self.fields):
            values = dict(zip(self.fields, values, strict=True))
        if not isinstance(values, Mapping):
            raise UserError(
                f"{self.sample_name(index)} of {self.title} is a {describe(values)}; it must be a dictionary with "
                f"{', '.join(self.fields)}, or a tuple of these {len(self.fields)}."
            )
        return {name: to_array(values[name], kind) for name, kind in self.fields.items() if name in values}

    def sample_name(self, index: int) -> str:
        own = getattr(self.source, "sample_name", None)
        return str(own(index)) if callable(own) else super().sample_name(index)


def read_values(source: Any, index: int) -> Any:
    """What a source has at an index, as it is."""
    return source.read(index) if callable(getattr(source, "read", None)) else source[index]


def first_values(source: Any, name: str) -> Any:
    """The first sample of a source, as it is; errors of its code name it."""
    with sample_errors(f"{name}[0]"):
        return read_values(source, 0)


def describe(value: Any) -> str:
    """Type of a value for a message; of a tuple with its length."""
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, (tuple, list)) else type(value).__name__


def to_array(value: Any, kind: FieldType) -> np.ndarray:
    """A value of a sample as the array that its field type demands, as far as that is certain; else as it is."""
    channels_first = False
    if callable(getattr(value, "detach", None)):
        value, channels_first = value.detach().cpu().numpy(), True
    elif callable(getattr(value, "getbands", None)):
        value = (
            np.asarray(value.convert({1: "L", 3: "RGB", 4: "RGBA"}.get(kind.input_channels, value.mode)))
            if (isinstance(kind, Image))
            else np.asarray(value)
        )
    if isinstance(kind, ClassLabel) and isinstance(value, str):
        if value not in kind.names:
            raise UserError(f"The class '{value}' is none of {kind}.")
        value = kind.names.index(value)
    array = np.asarray(value)
    # Torch takes the byte order of the machine only.
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if isinstance(kind, (Image, Flow)):
        if channels_first and array.ndim == 3 and array.shape[0] == kind.input_channels:
            array = np.ascontiguousarray(np.moveaxis(array, 0, -1))
        elif array.ndim == 2 and kind.input_channels == 1:
            array = array[..., None]
    elif isinstance(kind, (Depth, SegmentationMask)) and channels_first and array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    return array
