"""Export: dynamic axes, conversion, comparison of outputs, and metadata; the command is tested with the apps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from densevision import list_tasks
from densevision.datasets.field_types import FieldType, Image, SegmentationMask
from densevision.errors import UserError
from densevision.tasks.export import TOLERANCE, DynamicAxes, convert
from densevision.tasks.export.convert import convert_model, trace
from densevision.tasks.export.export_module import ExportModule, example_inputs, odd_multiple
from densevision.tasks.export.metadata import build_metadata
from densevision.tasks.export.verify import find_dynamic_axes, relative_difference
from densevision.tasks.inference import load
from densevision.tasks.network import Network
from densevision.tasks.translation.layers import BatchStatistics, set_normalization

IMAGE: dict[str, FieldType] = {"image": Image()}


class Small(Network):
    """One convolution, followed by a layer."""

    input_policy = "tiled"
    stride = 4

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), layer)

    def forward(self, image):
        return self.layers(image)


class Summed(nn.Module):
    """The sum of every four units, as in LeNet-5."""

    def forward(self, maps):
        return functional.avg_pool2d(maps, 2, divisor_override=1)


class Cropped(nn.Module):
    """The left eighth, rounded up, as pose's heat maps are cropped."""

    def forward(self, maps):
        return maps[..., : math.ceil(maps.shape[-1] / 8)]


def export_module(layer: nn.Module) -> ExportModule:
    return ExportModule(Small(layer), (30, 40))


@pytest.mark.parametrize(("length", "base", "expected"), [(84, 16, 80), (100, 16, 112), (3, 8, 8), (90, 2, 90)])
def test_the_second_size_is_an_odd_multiple_of_the_stride(length, base, expected):
    assert odd_multiple(length, base) == expected
    assert expected / base % 2 == 1


def test_sizes_are_multiples_of_the_stride():
    network = export_module(nn.Identity())
    assert network.training_size == (32, 40)
    assert network.other_size != network.training_size
    assert all(length % 4 == 0 and length // 4 % 2 == 1 for length in network.other_size)


def test_a_network_with_a_fixed_input_size_keeps_it():
    fixed = Small(nn.Identity())
    fixed.input_policy = "fixed"
    assert ExportModule(fixed, (30, 40)).training_size == (30, 40)
    assert ExportModule(fixed, (30, 40)).multiple == 1


def test_a_network_that_is_random_at_inference_is_refused():
    with pytest.raises(UserError, match=r"is random at inference, .*: export one that gives the same output twice\.$"):
        noisy = set_normalization(nn.Dropout(0.5), "batch")
        find_dynamic_axes(export_module(noisy), IMAGE, TOLERANCE)


def test_a_network_that_depends_on_the_batch_has_batch_size_1():
    axes, (reason,) = find_dynamic_axes(export_module(BatchStatistics(2)), IMAGE, TOLERANCE)
    assert axes == DynamicAxes(batch=False, size=True)
    assert "depends on the other images of the batch" in reason


def test_a_network_of_one_size_has_a_fixed_size():
    class OneSize(nn.Module):
        def forward(self, maps):
            if maps.shape[-1] != 40:
                raise UserError("It takes images of 40 pixels.")
            return maps

    axes, reasons = find_dynamic_axes(export_module(OneSize()), IMAGE, TOLERANCE)
    assert axes == DynamicAxes(batch=True, size=False)
    assert reasons == ("Height and width are fixed: It takes images of 40 pixels.",)


def test_divisor_override_becomes_a_factor():
    # torch 2.15 drops the divisor in the conversion to ONNX: LeNet-5 returned quarters of its sums.
    network = export_module(Summed())
    program = trace(network, IMAGE, DynamicAxes(True, True))
    (pool,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.avg_pool2d.default)
    assert len(pool.args) < 7
    inputs = example_inputs(IMAGE, 3, network.other_size)
    assert torch.allclose(program.module()(*inputs), network(*inputs), rtol=1e-6)


def test_a_size_that_is_rounded_up_can_be_stored():
    # torch 2.15 traces math.ceil, but cannot store it: pose could not be exported.
    fixed = Small(Cropped())
    fixed.input_policy = "fixed"
    network = ExportModule(fixed, (32, 40))
    converted = convert_model(network, IMAGE, "torch-export", DynamicAxes(True, True))
    assert (converted.dynamic_axes, converted.reasons) == (DynamicAxes(True, True), ())
    inputs = example_inputs(IMAGE, 3, network.other_size)
    assert torch.equal(converted.program.module()(*inputs), network(*inputs))


def same_padded(stride: int) -> Small:
    """Two convolutions that pad as TensorFlow does, each of stride 2."""
    from timm.layers import Conv2dSame

    network = Small(nn.Sequential(Conv2dSame(2, 4, 5, 2), nn.ReLU(), Conv2dSame(4, 2, 3, 2, dilation=2)))
    network.stride = stride
    return network


def test_padding_by_the_input_size_is_constant_at_multiples_of_the_stride():
    # Its formulas of dynamic sizes grow with every layer: tf_efficientnet_lite0 was traced for minutes.
    network = ExportModule(same_padded(4), (30, 40))
    program = trace(network, IMAGE, DynamicAxes(True, True))
    pads = program.graph.find_nodes(op="call_function", target=torch.ops.aten.pad.default)
    assert [pad.args[1] for pad in pads] == [[1, 2, 1, 2], [1, 2, 1, 2]]
    inputs = example_inputs(IMAGE, 3, network.other_size)
    assert torch.equal(program.module()(*inputs), network(*inputs))


def test_padding_by_the_input_size_fixes_a_size_that_is_no_multiple():
    fixed = same_padded(4)
    fixed.input_policy = "fixed"
    axes, (reason,) = find_dynamic_axes(ExportModule(fixed, (30, 40)), IMAGE, TOLERANCE)
    assert axes == DynamicAxes(batch=True, size=False)
    assert reason.endswith("the training size is not a multiple of 4.")
    assert find_dynamic_axes(ExportModule(fixed, (32, 40)), IMAGE, TOLERANCE)[0] == DynamicAxes(True, True)


def test_axes_that_cannot_be_converted_are_fixed_with_a_reason(monkeypatch):
    trace_network = convert.trace

    def failing_trace(network, field_types, axes):
        if axes.size:
            raise RuntimeError("Constraints violated (h)! For more information, run with a log")
        return trace_network(network, field_types, axes)

    monkeypatch.setattr(convert, "trace", failing_trace)
    converted = convert_model(export_module(nn.Identity()), IMAGE, "torch-export", DynamicAxes(True, True))
    assert converted.dynamic_axes == DynamicAxes(batch=True, size=False)
    assert converted.reasons == (
        "Height and width are fixed: torch cannot convert it otherwise (Constraints violated (h)!).",
    )


def test_every_attempt_of_a_conversion_is_reported(monkeypatch):
    def fail(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(convert, "trace", fail)
    stages: list[str] = []
    with pytest.raises(UserError, match="no such operator"):
        convert_model(export_module(nn.Identity()), IMAGE, "onnx", DynamicAxes(True, True), stages.append)
    axes = ("any batch size and any", "a fixed batch size and any", "any batch size and a fixed")
    assert stages == [f"tracing with {one} image size" for one in (*axes, "a fixed batch size and a fixed")]


def test_an_output_at_a_fraction_of_the_size_is_resized():
    assert export_module(nn.AvgPool2d(2))(torch.rand(1, 3, 32, 40)).shape == (1, 2, 32, 40)


def test_differences_are_relative_to_the_range_of_the_channel():
    wide, narrow = torch.linspace(-100, 100, 50), torch.linspace(0, 10, 50)
    expected = torch.stack([wide, narrow])[None]
    assert relative_difference(expected, expected) == 0
    assert relative_difference(expected, expected + torch.tensor([0.0, 1.0])[:, None]) == pytest.approx(0.1)
    assert relative_difference(expected, expected + torch.tensor([1.0, 0.0])[:, None]) == pytest.approx(0.005)
    assert relative_difference(expected, expected[..., 1:]) == math.inf
    assert relative_difference(expected, expected * math.nan) == math.inf


def test_nearly_constant_channels_are_not_scaled_by_noise():
    expected = torch.stack([torch.linspace(0, 1, 50), torch.full((50,), 0.5)])[None]
    assert relative_difference(expected, expected + torch.tensor([0.0, 1e-6])[:, None]) == pytest.approx(1e-4, rel=0.05)


def test_example_inputs_are_reproducible_and_labels_one_hot():
    field_types: dict[str, FieldType] = {"image": Image(1), "labels": SegmentationMask(("sky", "road"), 11)}
    image, labels = example_inputs(field_types, 2, (8, 12), 5)
    assert image.shape == (2, 1, 8, 12) and 0 <= image.min() < image.max() <= 1
    assert labels.shape == (2, 3, 8, 12) and torch.equal(labels.sum(1), torch.ones(2, 8, 12))
    assert all(
        torch.equal(*pair) for pair in zip((image, labels), example_inputs(field_types, 2, (8, 12), 5), strict=True)
    )
    assert not torch.equal(image, example_inputs(field_types, 2, (8, 12), 6)[0])


@pytest.mark.parametrize("name", [name for name in list_tasks() if name != "view_synthesis"])
def test_the_metadata_of_every_task_has_channels_and_units(name):
    predictor = load(name, "cpu", "off")
    task = predictor.task
    network = ExportModule(task.inference.network(predictor.model, task.inference.modes[0]), predictor.size)
    metadata = build_metadata(predictor, network, predictor.preprocessor.inputs, DynamicAxes(True, True), [])
    output = metadata["output"]
    assert len(output["channels"]) == output["shape"][1]
    assert output["unit"]
    for entry, field_type in zip(metadata["inputs"], predictor.preprocessor.inputs.values(), strict=True):
        assert len(entry["channels"]) == example_inputs({"one": field_type}, 1, (4, 4))[0].shape[1]
    assert metadata["task"] == name
    assert metadata["data"]["terms"]
    assert "labels" not in metadata["fields"] or isinstance(predictor.fields["labels"], SegmentationMask)
