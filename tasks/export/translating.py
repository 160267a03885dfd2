"""A network as a program without Python: traced by torch.export, and from there to ONNX."""

from __future__ import annotations

import io
import math
import operator
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from ...datasets.fields import Kind
from ...errors import UserError
from ...version import VERSION
from .asking import Asked, Freedom, drawn, first_sentence
from .metadata import ANSWER, KEY

SYMBOL = r"\bs\d+\b"
"""What torch calls a length that is not fixed."""
DIVISOR = 6
"""Place of `divisor_override` among the arguments of aten's avg_pool2d."""


@dataclass(frozen=True)
class Translated:
    """A network in another form.

    Attributes:
        program: torch.export's.
        onnx: torch's `ONNXProgram`, None where it was not asked for.
        freedom: with which it could be translated.
        reasons: why it is less than was asked for.
    """

    program: ExportedProgram
    onnx: Any
    freedom: Freedom
    reasons: tuple[str, ...]


def translate(asked: Asked, kinds: dict[str, Kind], form: str, freedom: Freedom) -> Translated:
    """The network as a program, with as much of the freedom as torch can translate.

    Args:
        asked: the network.
        kinds: of its inputs.
        form: "onnx" or "torch-export".
        freedom: which the network itself has.

    Raises:
        UserError: torch cannot translate it at all.
    """
    less = freedom, Freedom(False, freedom.sides), Freedom(freedom.batch, False), Freedom(False, False)
    refusal: Exception | None = None
    for tried in dict.fromkeys(less):
        try:
            program = traced(asked, kinds, tried)
            onnx = to_onnx(program, kinds, tried) if form == "onnx" else None
            if onnx is None:
                torch.export.save(program, io.BytesIO())  # not everything that can be traced can be written
        except Exception as error:  # torch and onnxscript raise a dozen types here
            refusal = refusal or error
            continue
        return Translated(program, onnx, tried, lost(freedom, tried, refusal))
    assert refusal is not None
    raise UserError(f"torch cannot translate this network to {form}: {first_sentence(refusal)}") from refusal


def lost(wanted: Freedom, given: Freedom, refusal: Exception | None) -> tuple[str, ...]:
    """What could not be left free, and why."""
    why = f"torch cannot translate it otherwise ({first_sentence(refusal).rstrip('.')})." if refusal else ""
    reasons = []
    if wanted.batch and not given.batch:
        reasons.append(f"The batch is 1: {why}")
    if wanted.sides and not given.sides:
        reasons.append(f"Height and width are fixed: {why}")
    return tuple(reasons)


def traced(asked: Asked, kinds: dict[str, Kind], freedom: Freedom) -> ExportedProgram:
    """torch.export's program; free sides are multiples of what the network's are."""
    of = asked.multiple
    shape = {axis: of * Dim(name) if axis > 0 and of > 1 else Dim(name) for axis, name in free_axes(freedom).items()}
    # Two at a time, because torch takes a batch of one for a constant.
    inputs = drawn(kinds, 2 if freedom.batch else 1, asked.usual)
    with torch.no_grad():
        program = torch.export.export(asked, tuple(inputs), dynamic_shapes=(tuple(shape for _ in inputs),))
    return with_whole_ceilings(with_plain_averages(program))


def with_plain_averages(program: ExportedProgram) -> ExportedProgram:
    """Averages that divide by a number of their own, as plain ones times a factor.

    torch 2.15 forgets the `divisor_override` of avg_pool2d on the way to ONNX, and says nothing.
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


def with_whole_ceilings(program: ExportedProgram) -> ExportedProgram:
    """Sides that are divided and rounded up, in whole numbers: torch 2.15 cannot write `math.ceil` into a file."""
    graph = program.graph
    for node in graph.find_nodes(op="call_function", target=math.ceil):
        (quotient,) = node.args
        if quotient.op != "call_function" or quotient.target is not operator.truediv:
            continue
        side, divisor = quotient.args
        with graph.inserting_before(node):
            negative = graph.call_function(operator.neg, (side,))
            rounded = graph.call_function(operator.floordiv, (negative, divisor))
            whole = graph.call_function(operator.neg, (rounded,))
        negative.meta["val"] = -side.meta["val"]
        rounded.meta["val"] = negative.meta["val"] // divisor
        whole.meta["val"] = -rounded.meta["val"]
        node.replace_all_uses_with(whole)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def to_onnx(program: ExportedProgram, kinds: dict[str, Kind], freedom: Freedom) -> Any:
    """torch's `ONNXProgram`, whose free sides have names a reader knows: "batch", "16*h", "16*w"."""
    onnx = torch.onnx.export(program, input_names=list(kinds), output_names=[ANSWER], dynamo=True, verbose=False)
    assert onnx is not None
    model = onnx.model
    names = {symbol_of(model.graph.inputs[0], axis): name for axis, name in free_axes(freedom).items()}
    values = *model.graph.inputs, *(made for node in model.graph for made in node.outputs)
    for shape in (value.shape for value in values if value.shape is not None):
        for axis, side in enumerate(shape):
            if not isinstance(side, int) and side.value is not None:
                shape[axis] = re.sub(SYMBOL, lambda found: names.get(found[0], found[0]), side.value)
    return onnx


def free_axes(freedom: Freedom) -> dict[int, str]:
    """The axes of (B, C, H, W) that may vary, and what they are called."""
    return ({0: "batch"} if freedom.batch else {}) | ({2: "h", 3: "w"} if freedom.sides else {})


def symbol_of(value: Any, axis: int) -> str:
    """What torch calls a side of a value: "s39" of "16*s39"."""
    found = re.search(SYMBOL, str(value.shape[axis]))
    assert found is not None
    return found[0]


def save(translated: Translated, path: Path, metadata: str) -> None:
    """Write the file of either form with its metadata, JSON."""
    if translated.onnx is None:
        torch.export.save(translated.program, path, extra_files={f"{KEY}.json": metadata})
        return
    model = translated.onnx.model
    model.metadata_props[KEY] = metadata
    model.producer_name, model.producer_version = KEY, VERSION
    translated.onnx.save(path, external_data=False)
