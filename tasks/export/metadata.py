"""Metadata of exported files, for programs that run them without this package.

| key | value |
| --- | --- |
| version | version of densevision that wrote the file |
| task, title | "depth", "Monocular depth estimation" |
| model | backbone and head, or complete model; None in a run that has not saved them yet |
| inputs | in order: name, channels in order, type, range and content |
| output | name, channels in order, unit, and shape for one input of `size` |
| preprocessing | mean, std, range and channel order of the backbone's weights, with "where": "in the file"; or None |
| size | (height, width) of the training images, rounded up to multiples |
| multiple | height and width must be padded to multiples of it, to the right and below, and the output cropped |
| dynamic | whether batch size and image size may differ from 1 and `size` |
| example | how an image of size `image` is brought to the network: input mode, `size`, and `matrix` of the pixels |
| fields | field types of the dataset: names of joints and classes, edges of the skeleton |
| data, terms | training dataset, and the license terms for users |
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from ...datasets.core.geometry import Size
from ...datasets.field_types import FieldType, SegmentationMask, fields_to_json
from ...datasets.hand.hand_fields import CubeDepth
from ...version import VERSION
from ..inference import Predictor
from .export_module import DynamicAxes, ExportModule, example_inputs

KEY = "densevision"
"""Key of the metadata: a property of ONNX files; in .pt2 files it is the extra file "densevision.json"."""
OUTPUT_NAME = "output"
"""Name of the output in ONNX files."""
EXAMPLE_SIZE: Size = (480, 640)
"""(height, width) of the image of the key `example`."""
COLORS = {1: ("gray",), 3: ("red", "green", "blue")}


@torch.no_grad()
def build_metadata(
    predictor: Predictor,
    module: ExportModule,
    field_types: dict[str, FieldType],
    dynamic_axes: DynamicAxes,
    terms: list[str],
) -> dict[str, Any]:
    """Build the metadata as plain data; `terms` are the license terms of data and weights."""
    task, header, mode = predictor.task, predictor.header, predictor.task.inference.modes[0]
    backbone = predictor.model.backbone
    geometry = task.inference.geometries(mode, EXAMPLE_SIZE, predictor.size, predictor.model)[0]
    shape = list(module(*example_inputs(field_types, 1, module.training_size)).shape)
    return {
        "version": VERSION,
        "task": task.name,
        "title": task.title,
        "model": {part: header.get(part) for part in ("backbone", "head", "model")},
        "inputs": [{"name": name, **describe_input(field_type)} for name, field_type in field_types.items()],
        "output": {"name": OUTPUT_NAME, **asdict(task.output_spec(predictor.model, predictor.fields)), "shape": shape},
        "preprocessing": None if backbone is None else {"where": "in the file", **asdict(backbone.preprocessing)},
        "size": list(module.training_size),
        "multiple": module.multiple,
        "dynamic": asdict(dynamic_axes),
        "example": {
            "mode": mode,
            "image": list(EXAMPLE_SIZE),
            "size": list(geometry.size),
            "matrix": geometry.matrix().tolist(),
        },
        "fields": fields_to_json({**task.inputs(predictor.fields), **task.targets(predictor.fields)}),
        "data": header.get("data"),
        "terms": terms,
    }


def describe_input(field_type: FieldType) -> dict[str, Any]:
    """Channels, type, range and content of one input, (B, C, H, W) float32."""
    if isinstance(field_type, SegmentationMask):
        channels, content = (*field_type.names, "nothing"), "1 in the channel of the pixel's label, 0 in the others"
    elif isinstance(field_type, CubeDepth):
        channels, content = ("depth",), "depth within a cube, 0 at its front, 1 at its back and where it is empty"
    else:
        count = field_type.input_channels
        channels = COLORS.get(count, tuple(f"channel {index}" for index in range(count)))
        content = "an image, values of 8 bits divided by 255"
    return {"channels": channels, "type": "float32", "range": [0, 1], "content": content}
