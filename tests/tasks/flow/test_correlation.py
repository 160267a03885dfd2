from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from densevision.errors import UserError
from densevision.tasks.flow import correlation as module
from densevision.tasks.flow.correlation import correlation, correlation_by_shifts

IMPLEMENTATIONS = (correlation, correlation_by_shifts)


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=rng, dtype=dtype).requires_grad_() for _ in range(2))
    return first, second


# Sizes below, at and above a tile, odd and even, with phases of unequal size; displacements below and above the map.
@pytest.mark.parametrize(
    ("shape", "max_displacement", "stride"),
    [
        ((2, 5, 13, 21), 1, 1),
        ((2, 5, 13, 21), 4, 1),
        ((1, 3, 40, 9), 4, 1),
        ((3, 4, 1, 2), 2, 1),
        ((2, 1, 8, 8), 0, 1),
        ((1, 2, 30, 31), 20, 1),
        ((2, 5, 13, 21), 2, 2),
        ((1, 3, 17, 24), 20, 2),
        ((1, 3, 5, 7), 20, 2),
        ((1, 3, 20, 19), 9, 3),
    ],
)
def test_forward_and_backward_match_the_reference(shape, max_displacement, stride):
    first, second = maps(*shape)
    tiled, shifted = (function(first, second, max_displacement, stride) for function in IMPLEMENTATIONS)
    assert tiled.shape == (shape[0], (2 * max_displacement // stride + 1) ** 2, *shape[2:])
    assert tiled.is_contiguous()
    torch.testing.assert_close(tiled, shifted, rtol=0, atol=1e-5)
    gradient = torch.randn(tiled.shape, generator=torch.Generator().manual_seed(1))
    actual = torch.autograd.grad(tiled, (first, second), gradient)
    expected = torch.autograd.grad(shifted, (first, second), gradient)
    # Sums of up to 41² terms: rounding errors grow with them.
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tile", module.TILE_SIZES)
@pytest.mark.parametrize("workspace", [1, 2**30])
def test_the_result_does_not_depend_on_tile_size_and_workspace(tile, workspace, monkeypatch):
    monkeypatch.setattr(module, "TILE_SIZES", (tile,))
    monkeypatch.setattr(module, "WORKSPACE", {"cpu": workspace})
    first, second = maps(3, 4, 19, 22)
    tiled, shifted = (function(first, second, 6, 2) for function in IMPLEMENTATIONS)
    torch.testing.assert_close(tiled, shifted, rtol=0, atol=1e-5)
    actual, expected = (torch.autograd.grad(maps.square().sum(), (first, second)) for maps in (tiled, shifted))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("function", IMPLEMENTATIONS)
def test_a_displacement_of_minus_6_and_4_peaks_in_channel_259(function):
    first, second = torch.zeros(2, 1, 1, 30, 40)
    first[0, 0, 12, 20] = 1
    second[0, 0, 12 + 4, 20 - 6] = 1
    result = function(first, second, 20, 2)
    # Facts 3.3: channel k is dx = (k mod 21 - 10) 2, dy = (k div 21 - 10) 2.
    assert result.nonzero().tolist() == [[0, 259, 12, 20]]
    assert (259 % 21 - 10) * 2 == -6 and (259 // 21 - 10) * 2 == 4


def test_the_sum_over_channels_is_divided_by_the_number_of_channels():
    # Facts 3.3: c = 1/C SUM f1 f2, of 256 channels in FlowNetC.
    ones = torch.ones(1, 256, 9, 9)
    assert torch.equal(correlation(ones, 2 * ones, 0), torch.full((1, 1, 9, 9), 2.0))


def test_outside_the_second_map_is_zero():
    ones = torch.ones(1, 4, 6, 5)
    result = correlation(ones, ones, 2).view(5, 5, 6, 5)
    for row in range(5):
        for column in range(5):
            inside = torch.zeros(6, 5)
            inside[max(0, 2 - row) : 6 + 2 - row, max(0, 2 - column) : 5 + 2 - column] = 1
            assert torch.equal(result[row, column], inside)


@pytest.mark.parametrize(("max_displacement", "stride"), [(2, 1), (4, 2)])
def test_gradients_match_finite_differences(max_displacement, stride):
    inputs = maps(1, 2, 5, 7, dtype=torch.float64)
    assert gradcheck(lambda first, second: correlation(first, second, max_displacement, stride), inputs)


def test_inputs_are_not_modified():
    first, second = maps(1, 1, 8, 8)
    before = first.detach().clone(), second.detach().clone()
    correlation(first, second, 2).sum().backward()
    assert torch.equal(first, before[0]) and torch.equal(second, before[1])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_does_not_matter(memory_format):
    first, second = maps(2, 6, 10, 11)
    expected = correlation(first, second, 4, 2)
    assert torch.equal(correlation(first.contiguous(memory_format=memory_format), second, 4, 2), expected)


def test_under_autocast_it_is_computed_in_float32():
    first, second = maps(1, 64, 12, 13)
    expected = correlation(first, second, 4)
    with torch.autocast("cpu", torch.bfloat16):
        result = correlation(first, second, 4)
        gradient = torch.autograd.grad(result.sum(), first)[0]
        halves = correlation(first.bfloat16(), second.bfloat16(), 4)
    assert result.dtype == halves.dtype == torch.float32
    assert torch.equal(result, expected)
    assert torch.equal(gradient, torch.autograd.grad(expected.sum(), first)[0])
    # bfloat16 inputs are rounded once, by 2^-9 at most; the sum is not.
    torch.testing.assert_close(halves, correlation(first.bfloat16().float(), second.bfloat16().float(), 4))


def test_on_the_meta_device_it_has_a_shape_and_gradients():
    first, second = (torch.empty(2, 3, 11, 13, device="meta", requires_grad=True) for _ in range(2))
    result = correlation(first, second, 20, 2)
    assert result.shape == (2, 441, 11, 13)
    result.sum().backward()
    for tensor in (first, second):
        assert tensor.grad is not None and tensor.grad.shape == tensor.shape


def test_opcheck_accepts_the_custom_operator():
    results = torch.library.opcheck(module._correlation, (*maps(2, 3, 9, 10), 4, 2))
    assert set(results.values()) == {"SUCCESS"}


@pytest.mark.parametrize("dynamic", [False, True])
def test_it_compiles_without_graph_breaks_to_the_same_numbers(dynamic):
    def twice(first: Tensor, second: Tensor) -> Tensor:
        return correlation(2 * first, second, 4, 2).relu()

    first, second = maps(2, 6, 9, 11)
    # This backend needs no C++ compiler; only the traced graph matters here.
    compiled = torch.compile(twice, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    result, expected = compiled(first, second), twice(first, second)
    assert torch.equal(result, expected)
    gradients = [torch.autograd.grad(maps.sum(), (first, second)) for maps in (result, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
def test_inductor_compiles_it_to_the_same_numbers():
    def twice(first: Tensor, second: Tensor) -> Tensor:
        return correlation(2 * first, second, 4, 2).relu()

    first, second = maps(2, 6, 9, 11)
    result, expected = torch.compile(twice, fullgraph=True)(first, second), twice(first, second)
    torch.testing.assert_close(result, expected)
    gradients = [torch.autograd.grad(maps.sum(), (first, second)) for maps in (result, expected)]
    torch.testing.assert_close(*gradients)


class Correlation(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return correlation(first, second, 4, 2)


def test_exported_it_consists_of_standard_operators():
    first, second = (tensor.detach() for tensor in maps(1, 3, 9, 11))
    program = torch.export.export(Correlation(), (first, second))
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.mul.Tensor" in operators and not any("densevision" in name for name in operators)
    torch.testing.assert_close(program.module()(first, second), correlation(first, second, 4, 2))


def test_it_can_be_traced():
    first, second = (tensor.detach() for tensor in maps(1, 3, 9, 11))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated and warns about every comparison of shapes
        traced: Any = torch.jit.trace(Correlation(), (first, second))
    torch.testing.assert_close(traced(first, second), correlation(first, second, 4, 2))


def test_mismatched_maps_and_strides_are_refused():
    first, second = maps(1, 3, 9, 11)
    with pytest.raises(UserError, match=r"two maps of the same shape \(B, C, H, W\), not 1x3x9x11 and 1x3x9x10"):
        correlation(first, second[..., :10], 4)
    with pytest.raises(UserError, match=r"must be a multiple of its stride; 5 is not a multiple of 2"):
        correlation(first, second, 5, 2)
