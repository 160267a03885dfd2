"""Verification of exports: dynamic axes of a network, and comparison of a file with PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...datasets.core.geometry import Size
from ...datasets.field_types import FieldType
from ...errors import UserError
from .export_module import DynamicAxes, ExportModule, example_inputs, first_line
from .metadata import KEY

MIN_RELATIVE_RANGE = 1e-2
"""Minimum range of a channel relative to that of all channels; nearly constant channels are not scaled by noise."""
MIN_RANGE = 1e-12
"""Range that is assumed for a constant output."""

Run = Callable[[list[Tensor]], Tensor]


@dataclass(frozen=True)
class Comparison:
    """Difference between the outputs of a file and of PyTorch, for inputs of one shape.

    Attributes:
        batch: batch size.
        size: (height, width).
        difference: maximum difference, relative to the range of its channel.
    """

    batch: int
    size: Size
    difference: float


@dataclass(frozen=True)
class QuantizationError:
    """What int8 changes.

    Attributes:
        images: number of images that were compared.
        mean: mean difference from PyTorch, relative to the range of the channel.
        same_class: share of the images, or of their pixels, whose largest channel is the same; None if the channels are
            not classes.
    """

    images: int
    mean: float
    same_class: float | None


@torch.no_grad()
def find_dynamic_axes(
    module: ExportModule, field_types: dict[str, FieldType], tolerance: float
) -> tuple[DynamicAxes, tuple[str, ...]]:
    """Find out by forward passes which axes may vary: another size, and several inputs at once.

    Returns:
        The dynamic axes, and reasons for those that are fixed.

    Raises:
        UserError: the network is random at inference; an exported file has no seed, so its output would not be
            reproducible.
    """
    outputs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        outputs.append(module(*example_inputs(field_types, 2, module.training_size)))
    if not torch.equal(outputs[0], outputs[1]):
        noise = module.network.inference_noise or "export one that gives the same output twice"
        raise UserError(f"This network is random at inference, and an exported file has no seed: {noise}.")
    reasons = []
    one_by_one = [
        module(*(tensor[[index]] for tensor in example_inputs(field_types, 2, module.training_size)))
        for index in (0, 1)
    ]
    batch = relative_difference(outputs[0], torch.cat(one_by_one)) <= tolerance
    if not batch:
        reasons.append("The batch size is 1: the output for an image depends on the other images of the batch.")
    size = True
    try:
        module(*example_inputs(field_types, 1, module.other_size))
    except (UserError, RuntimeError) as refusal:
        size = False
        reasons.append(f"Height and width are fixed: {first_line(refusal)}")
    if size and module.has_same_padding and module.multiple < module.network.stride:
        size = False
        reasons.append(
            "Height and width are fixed: its layers pad by their input size (TensorFlow's SAME), and the training size "
            f"is not a multiple of {module.network.stride}."
        )
    return DynamicAxes(batch, size), tuple(reasons)


def open_exported(path: Path, format: str) -> tuple[Run, str]:
    """A file in its own runtime, as a function from inputs to the output; and its metadata, JSON text."""
    return {"onnx": open_onnx, "openvino": open_openvino, "torch-export": open_program}[format](path)


def open_program(path: Path) -> tuple[Run, str]:
    """A program of torch.export."""
    extra = {f"{KEY}.json": ""}
    with path.open("rb") as file:
        program = torch.export.load(file, extra_files=extra).module()
    return lambda inputs: program(*inputs), extra[f"{KEY}.json"]


def open_onnx(path: Path) -> tuple[Run, str]:
    """An ONNX file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(inputs: list[Tensor]) -> Tensor:
        feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0])

    return run, session.get_modelmeta().custom_metadata_map.get(KEY, "")


def open_openvino(path: Path) -> tuple[Run, str]:
    """The .xml file of OpenVINO, with its .bin file beside it."""
    import openvino  # pyright: ignore[reportMissingImports]

    core = openvino.Core()
    model = core.read_model(path, path.with_suffix(".bin"))
    # In fp32: by default, OpenVINO computes in bf16 where the processor does.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = core.compile_model(model, "CPU", settings)

    def run(inputs: list[Tensor]) -> Tensor:
        return torch.from_numpy(compiled([tensor.numpy() for tensor in inputs])[0].copy())

    return run, str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else ""


@torch.no_grad()
def compare(module: ExportModule, run: Run, inputs: list[Tensor]) -> Comparison:
    """Compare an exported file with its network on the same inputs."""
    batch, _, height, width = inputs[0].shape
    return Comparison(batch, (height, width), relative_difference(module(*inputs), run(inputs)))


@torch.no_grad()
def compare_int8(module: ExportModule, run: Run, images: Sequence[list[Tensor]], classes: bool) -> QuantizationError:
    """Compare an int8 file with its network on images that its ranges do not come from; channels may be classes."""
    # The values of all images, which may have several sizes: (N, C).
    outputs = ((module(*each) for each in images), map(run, images))
    expected, actual = (torch.cat([one.movedim(1, -1).flatten(0, -2) for one in every]) for every in outputs)
    same = float((expected.argmax(1) == actual.argmax(1)).double().mean()) if classes else None
    return QuantizationError(len(images), float(_relative_differences(expected, actual).mean()), same)


def relative_difference(expected: Tensor, actual: Tensor) -> float:
    """Maximum difference of two (B, C, ...) relative to the range of its channel; inf for nan or another shape."""
    return float(_relative_differences(expected, actual).max())


def _relative_differences(expected: Tensor, actual: Tensor) -> Tensor:
    """(C, N) of all values."""
    if expected.shape != actual.shape or not actual.isfinite().all():
        return torch.full((1, 1), math.inf)
    expected, actual = (values.double().movedim(1, 0).flatten(1) for values in (expected, actual))
    ranges = expected.amax(1) - expected.amin(1)
    ranges = ranges.clamp_min(max(MIN_RELATIVE_RANGE * float(expected.max() - expected.min()), MIN_RANGE))
    return (expected - actual).abs() / ranges[:, None]
