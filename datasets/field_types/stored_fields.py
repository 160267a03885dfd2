"""Field types in the header of a checkpoint."""

from __future__ import annotations

import dataclasses
from typing import Any

from ...registry import lookup
from ...schema import Schema, create_dataclass, validate
from .bodies import Box, Keypoints
from .cameras import Camera, DepthRange, Extrinsics
from .field_type import FieldType
from .maps import Depth, Flow, Image, Mask, SegmentationMask
from .values import ClassLabel, Noise, Scalar

FIELD_TYPES: dict[str, Any] = {
    **{
        field_type.__name__: field_type
        for field_type in (
            *(Image, Depth, Flow, SegmentationMask, Mask, Keypoints, Box, Camera, Extrinsics, DepthRange, ClassLabel),
            *(Scalar, Noise),
        )
    },
    **{name: f"datasets.hand.hand_fields:{name}" for name in ("CubeDepth", "Cube", "Joints")},
}
"""Name to class, or to the "module:attribute" of one that is defined beside its datasets."""


def fields_to_json(fields: dict[str, FieldType]) -> dict[str, dict[str, Any]]:
    """Convert field types to plain values, for the header of a checkpoint."""
    return {
        name: {"kind": type(field_type).__name__, **dataclasses.asdict(field_type)}
        for name, field_type in fields.items()
    }


class StoredField(Schema):
    """A field type in the header of a checkpoint: the name of its class, and the attributes of that class."""

    kind: str


def fields_from_json(stored: dict[str, dict[str, Any]], source: str = "The header") -> dict[str, FieldType]:
    """Field types from what `fields_to_json` returned.

    Args:
        stored: `kind` and attributes by name of the field.
        source: what states them, to begin error messages.

    Raises:
        UserError: an unknown kind, or attributes that are not as its class says.
    """
    fields, remedy = {}, "copy the file again"
    for name, values in stored.items():
        where = f"{source}, in the field '{name}',"
        kind = validate(StoredField, values, where, remedy).kind
        attributes = {key: value for key, value in values.items() if key != "kind"}
        fields[name] = create_dataclass(lookup("field type", kind, FIELD_TYPES), attributes, where, remedy)
    return fields
