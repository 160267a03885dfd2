"""Conversion of a network: traced by torch.export, and from there to ONNX."""

from __future__ import annotations

import io
import math
import operator
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from ...datasets.field_types import FieldType
from ...errors import UserError
from ...version import VERSION
from .export_module import DynamicAxes, ExportModule, example_inputs, first_line
from .metadata import KEY, OUTPUT_NAME

SYMBOL = r"\bs\d+\b"
"""Pattern of torch's symbols for dynamic lengths."""
DIVISOR = 6
"""Index of `divisor_override` in the arguments of aten's avg_pool2d."""


@dataclass(frozen=True)
class ConvertedModel:
    """A converted network.

    Attributes:
        program: program of torch.export.
        onnx: torch's `ONNXProgram`, None for other formats.
        dynamic_axes: axes that may vary in the converted network.
        reasons: why other requested axes may not, one sentence each.
    """

    program: ExportedProgram
    onnx: Any
    dynamic_axes: DynamicAxes
    reasons: tuple[str, ...]


def convert_model(
    module: ExportModule,
    field_types: dict[str, FieldType],
    format: str,
    dynamic_axes: DynamicAxes,
    progress: Callable[[str], None] = lambda stage: None,
) -> ConvertedModel:
    """Convert a network to a format, with as many of its dynamic axes as torch can convert.

    Raises:
        UserError: torch cannot convert the network at all.
    """
    candidates = (
        dynamic_axes,
        DynamicAxes(False, dynamic_axes.size),
        DynamicAxes(dynamic_axes.batch, False),
        DynamicAxes(False, False),
    )
    refusal: Exception | None = None
    for axes in dict.fromkeys(candidates):
        try:
            progress(f"tracing with {describe_axes(axes)}")
            program = trace(module, field_types, axes)
            progress(f"converting to {format}")
            onnx = to_onnx(program, field_types, axes) if format == "onnx" else None
            if onnx is None:
                torch.export.save(program, io.BytesIO())  # some programs can be traced, but not written
        except Exception as error:  # torch and onnxscript raise many types
            refusal = refusal or error
            continue
        return ConvertedModel(program, onnx, axes, lost_axes(dynamic_axes, axes, refusal))
    assert refusal is not None
    raise UserError(f"torch cannot convert this network to {format}: {first_line(refusal)}") from refusal


def describe_axes(axes: DynamicAxes) -> str:
    """The dynamic axes in a few words: "any batch size and a fixed image size"."""
    return f"{'any' if axes.batch else 'a fixed'} batch size and {'any' if axes.size else 'a fixed'} image size"


def lost_axes(requested: DynamicAxes, converted: DynamicAxes, refusal: Exception | None) -> tuple[str, ...]:
    """Reasons for axes that were requested as dynamic, but are fixed in the converted network."""
    why = f"torch cannot convert it otherwise ({first_line(refusal).rstrip('.')})." if refusal else ""
    reasons = []
    if requested.batch and not converted.batch:
        reasons.append(f"The batch size is 1: {why}")
    if requested.size and not converted.size:
        reasons.append(f"Height and width are fixed: {why}")
    return tuple(reasons)


def trace(module: ExportModule, field_types: dict[str, FieldType], dynamic_axes: DynamicAxes) -> ExportedProgram:
    """Trace with torch.export; dynamic height and width are multiples of `module.multiple`."""
    multiple = module.multiple
    shape = {
        axis: multiple * Dim(name) if axis > 0 and multiple > 1 else Dim(name)
        for axis, name in axis_names(dynamic_axes).items()
    }
    # A batch of two, because torch treats a batch of one as a constant.
    inputs = example_inputs(field_types, 2 if dynamic_axes.batch else 1, module.training_size)
    with torch.no_grad(), constant_same_padding() if dynamic_axes.size else nullcontext():
        program = torch.export.export(module, tuple(inputs), dynamic_shapes=(tuple(shape for _ in inputs),))
    return replace_ceil_division(replace_divisor_override(program))


@contextmanager
def constant_same_padding() -> Iterator[None]:
    """Make TensorFlow's SAME padding in timm's layers that of sizes which are multiples of the network's stride.

    It is a formula of the size, and those of one layer contain those of all layers before: tracing a network of five
    strides with them does not end. For multiples they are constants: the stride leaves no remainder in any layer.
    """
    from timm.layers import padding

    formula = padding.get_same_padding
    padding.get_same_padding = lambda x, kernel_size, stride, dilation: max(
        (kernel_size - 1) * dilation + 1 - stride, 0
    )
    try:
        yield
    finally:
        padding.get_same_padding = formula


def replace_divisor_override(program: ExportedProgram) -> ExportedProgram:
    """Replace avg_pool2d with `divisor_override` by a plain one times a factor.

    torch 2.15 silently drops `divisor_override` in the conversion to ONNX.
    """
    graph = program.graph
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.avg_pool2d.default):
        if len(node.args) <= DIVISOR or node.args[DIVISOR] is None:
            continue
        window, divisor = node.args[1], node.args[DIVISOR]
        node.args = node.args[:DIVISOR]
        with graph.inserting_after(node):
            scaled = graph.call_function(torch.ops.aten.mul.Tensor, (node, math.prod(window) / divisor))
        scaled.meta = dict(node.meta)
        node.replace_all_uses_with(scaled, delete_user_cb=lambda user, scaled=scaled: user is not scaled)
    program.graph_module.recompile()
    return program


def replace_ceil_division(program: ExportedProgram) -> ExportedProgram:
    """Replace `math.ceil(a / b)` of sizes by integer arithmetic: torch 2.15 cannot store `math.ceil` in a file."""
    graph = program.graph
    for node in graph.find_nodes(op="call_function", target=math.ceil):
        (quotient,) = node.args
        if quotient.op != "call_function" or quotient.target is not operator.truediv:
            continue
        length, divisor = quotient.args
        with graph.inserting_before(node):
            negative = graph.call_function(operator.neg, (length,))
            rounded = graph.call_function(operator.floordiv, (negative, divisor))
            ceiling = graph.call_function(operator.neg, (rounded,))
        negative.meta["val"] = -length.meta["val"]
        rounded.meta["val"] = negative.meta["val"] // divisor
        ceiling.meta["val"] = -rounded.meta["val"]
        node.replace_all_uses_with(ceiling)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def to_onnx(program: ExportedProgram, field_types: dict[str, FieldType], dynamic_axes: DynamicAxes) -> Any:
    """Convert to torch's `ONNXProgram`, with readable names of dynamic axes: "batch", "16*h", "16*w"."""
    onnx = torch.onnx.export(
        program, input_names=list(field_types), output_names=[OUTPUT_NAME], dynamo=True, verbose=False
    )
    assert onnx is not None
    model = onnx.model
    names = {axis_symbol(model.graph.inputs[0], axis): name for axis, name in axis_names(dynamic_axes).items()}
    values = *model.graph.inputs, *(output for node in model.graph for output in node.outputs)
    for shape in (value.shape for value in values if value.shape is not None):
        for axis, length in enumerate(shape):
            if not isinstance(length, int) and length.value is not None:
                shape[axis] = re.sub(SYMBOL, lambda match: names.get(match[0], match[0]), length.value)
    return onnx


def axis_names(dynamic_axes: DynamicAxes) -> dict[int, str]:
    """Names of the dynamic axes of (B, C, H, W), by index."""
    return ({0: "batch"} if dynamic_axes.batch else {}) | ({2: "h", 3: "w"} if dynamic_axes.size else {})


def axis_symbol(value: Any, axis: int) -> str:
    """Torch's symbol for an axis of a value: "s39" of "16*s39"."""
    match = re.search(SYMBOL, str(value.shape[axis]))
    assert match is not None
    return match[0]


def save(converted: ConvertedModel, path: Path, metadata: str) -> None:
    """Write the file with its metadata (JSON)."""
    if converted.onnx is None:
        # In memory: torch ends the process if the disk is full, or at a name that is not UTF-8.
        content = io.BytesIO()
        torch.export.save(converted.program, content, extra_files={f"{KEY}.json": metadata})
        path.write_bytes(content.getbuffer())
        return
    model = converted.onnx.model
    model.metadata_props[KEY] = metadata
    model.producer_name, model.producer_version = KEY, VERSION
    converted.onnx.save(path, external_data=False)


def save_openvino(source: Path, path: Path, metadata: str) -> None:
    """Convert an ONNX file to OpenVINO: a .xml file with the metadata, and beside it a .bin file with the weights."""
    import openvino  # pyright: ignore[reportMissingImports]

    model = openvino.Core().read_model(source)
    model.set_rt_info(metadata, [KEY])
    openvino.save_model(model, path, compress_to_fp16=False)


def weights_file(path: Path) -> Path:
    """The .bin file beside a .xml file of OpenVINO."""
    return path.with_suffix(".bin")
