"""Field types: how the values of a field are checked, transformed by a geometry, batched and visualized.

A field type is a frozen dataclass; its attributes are its parameters. Shapes are those of one sample. A leading axis T
(clips) or N (views) is allowed everywhere; its entries are transformed one by one with the same matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.geometry import Geometry
from .bodies import NO_JOINTS, Box, Keypoints, Skeleton, ValidSkeleton
from .cameras import Camera, DepthRange, Extrinsics
from .field_type import FieldType, Mismatch, describe_names, describe_shape
from .maps import Depth, Flow, Image, Mask, SegmentationMask
from .stored_fields import FIELD_TYPES, fields_from_json, fields_to_json
from .values import ClassLabel, Noise, Scalar

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FIELD_TYPES",
    "NO_JOINTS",
    "Box",
    "Camera",
    "ClassLabel",
    "Depth",
    "DepthRange",
    "Extrinsics",
    "FieldType",
    "Flow",
    "Image",
    "Keypoints",
    "Mask",
    "Mismatch",
    "Noise",
    "Scalar",
    "SegmentationMask",
    "Skeleton",
    "ValidSkeleton",
    "collate",
    "describe_names",
    "describe_shape",
    "fields_from_json",
    "fields_to_json",
    "transform_sample",
]


def transform_sample(
    sample: dict[str, np.ndarray], fields: dict[str, FieldType], geometry: Geometry
) -> dict[str, np.ndarray]:
    """Apply one geometry to every field of a sample."""
    return {name: field_type.transform(sample[name], geometry) for name, field_type in fields.items() if name in sample}


def collate(samples: list[dict[str, np.ndarray]], fields: dict[str, FieldType]) -> dict[str, Tensor]:
    """Batch samples of equal size: the tensor of every field, and its mask where values may be invalid."""
    batch: dict[str, Tensor] = {}
    for name, field_type in fields.items():
        batch.update(field_type.collate(name, [sample[name] for sample in samples]))
    return batch
