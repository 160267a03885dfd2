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


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=rng, dtype=dtype).requires_grad_() for _ in range(2))
    return first, second


# Sizes below, at and above a tile, odd and even, in phases of unequal size; reaches below and beyond the map.
@pytest.mark.parametrize(
    ("shape", "reach", "stride"),
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
def test_tiles_give_what_shifts_give_forwards_and_backwards(shape, reach, stride):
    first, second = maps(*shape)
    tiled, shifted = (way(first, second, reach, stride) for way in (correlation, correlation_by_shifts))
    assert tiled.shape == (shape[0], (2 * reach // stride + 1) ** 2, *shape[2:])
    assert tiled.is_contiguous()
    torch.testing.assert_close(tiled, shifted, rtol=0, atol=1e-5)
    gradient = torch.randn(tiled.shape, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad(tiled, (first, second), gradient)
    theirs = torch.autograd.grad(shifted, (first, second), gradient)
    # Sums of up to 41² terms, whose rounding grows with them.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", module.TILES)
@pytest.mark.parametrize("workspace", [1, 2**30])
def test_neither_the_tile_nor_the_rounds_change_the_answer(side, workspace, monkeypatch):
    monkeypatch.setattr(module, "TILES", (side,))
    monkeypatch.setattr(module, "WORKSPACE", {"cpu": workspace})
    first, second = maps(3, 4, 19, 22)
    tiled, shifted = (way(first, second, 6, 2) for way in (correlation, correlation_by_shifts))
    torch.testing.assert_close(tiled, shifted, rtol=0, atol=1e-5)
    ours, theirs = (torch.autograd.grad(made.square().sum(), (first, second)) for made in (tiled, shifted))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("way", [correlation, correlation_by_shifts])
def test_a_unit_moved_by_minus_6_and_4_peaks_in_channel_259(way):
    first, second = torch.zeros(2, 1, 1, 30, 40)
    first[0, 0, 12, 20] = 1
    second[0, 0, 12 + 4, 20 - 6] = 1
    found = way(first, second, 20, 2)
    # Facts 3.3: channel k is dx = (k mod 21 - 10) 2, dy = (k div 21 - 10) 2.
    assert found.nonzero().tolist() == [[0, 259, 12, 20]]
    assert (259 % 21 - 10) * 2 == -6 and (259 // 21 - 10) * 2 == 4


def test_the_sum_over_channels_is_divided_by_their_number():
    # Facts 3.3: c = 1/C SUM f1 f2, of 256 channels in FlowNetC.
    ones = torch.ones(1, 256, 9, 9)
    assert torch.equal(correlation(ones, 2 * ones, 0), torch.full((1, 1, 9, 9), 2.0))


def test_beyond_the_second_map_is_zero():
    ones = torch.ones(1, 4, 6, 5)
    found = correlation(ones, ones, 2).view(5, 5, 6, 5)
    for row in range(5):
        for column in range(5):
            inside = torch.zeros(6, 5)
            inside[max(0, 2 - row) : 6 + 2 - row, max(0, 2 - column) : 5 + 2 - column] = 1
            assert torch.equal(found[row, column], inside)


@pytest.mark.parametrize(("reach", "stride"), [(2, 1), (4, 2)])
def test_the_gradient_is_that_of_the_function(reach, stride):
    assert gradcheck(lambda one, two: correlation(one, two, reach, stride), maps(1, 2, 5, 7, dtype=torch.float64))


def test_inputs_stay_as_they_are():
    first, second = maps(1, 1, 8, 8)
    kept = first.detach().clone(), second.detach().clone()
    correlation(first, second, 2).sum().backward()
    assert torch.equal(first, kept[0]) and torch.equal(second, kept[1])


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_order_in_memory_does_not_matter(order):
    first, second = maps(2, 6, 10, 11)
    expected = correlation(first, second, 4, 2)
    assert torch.equal(correlation(first.contiguous(memory_format=order), second, 4, 2), expected)


def test_under_autocast_it_is_computed_in_float32():
    first, second = maps(1, 64, 12, 13)
    expected = correlation(first, second, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = correlation(first, second, 4)
        gradient = torch.autograd.grad(found.sum(), first)[0]
        halves = correlation(first.bfloat16(), second.bfloat16(), 4)
    assert found.dtype == halves.dtype == torch.float32
    assert torch.equal(found, expected)
    assert torch.equal(gradient, torch.autograd.grad(expected.sum(), first)[0])
    # bfloat16 inputs are rounded once, by 2^-9 at most; the sum is not.
    torch.testing.assert_close(halves, correlation(first.bfloat16().float(), second.bfloat16().float(), 4))


def test_on_the_meta_device_it_has_a_shape_and_gradients():
    first, second = (torch.empty(2, 3, 11, 13, device="meta", requires_grad=True) for _ in range(2))
    found = correlation(first, second, 20, 2)
    assert found.shape == (2, 441, 11, 13)
    found.sum().backward()
    for one in (first, second):
        assert one.grad is not None and one.grad.shape == one.shape


def test_torch_accepts_it_as_an_operator():
    checked = torch.library.opcheck(module._correlation, (*maps(2, 3, 9, 10), 4, 2))
    assert set(checked.values()) == {"SUCCESS"}


@pytest.mark.parametrize("dynamic", [False, True])
def test_it_compiles_without_a_break_to_the_same_numbers(dynamic):
    def twice(first: Tensor, second: Tensor) -> Tensor:
        return correlation(2 * first, second, 4, 2).relu()

    first, second = maps(2, 6, 9, 11)
    # The backend without a C++ compiler: what counts here is what the tracer sees.
    compiled = torch.compile(twice, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    made, expected = compiled(first, second), twice(first, second)
    assert torch.equal(made, expected)
    ours, theirs = (torch.autograd.grad(one.sum(), (first, second)) for one in (made, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
def test_inductor_compiles_it_to_the_same_numbers():
    def twice(first: Tensor, second: Tensor) -> Tensor:
        return correlation(2 * first, second, 4, 2).relu()

    first, second = maps(2, 6, 9, 11)
    made, expected = torch.compile(twice, fullgraph=True)(first, second), twice(first, second)
    torch.testing.assert_close(made, expected)
    ours, theirs = (torch.autograd.grad(one.sum(), (first, second)) for one in (made, expected))
    torch.testing.assert_close(ours, theirs)


class Correlated(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return correlation(first, second, 4, 2)


def test_exported_it_consists_of_ordinary_operations():
    first, second = (one.detach() for one in maps(1, 3, 9, 11))
    program = torch.export.export(Correlated(), (first, second))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.mul.Tensor" in called and not any("densevision" in name for name in called)
    torch.testing.assert_close(program.module()(first, second), correlation(first, second, 4, 2))


def test_it_can_be_traced():
    first, second = (one.detach() for one in maps(1, 3, 9, 11))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and warns of every comparison of shapes
        traced: Any = torch.jit.trace(Correlated(), (first, second))
    torch.testing.assert_close(traced(first, second), correlation(first, second, 4, 2))


def test_maps_and_reaches_that_do_not_fit_are_refused():
    first, second = maps(1, 3, 9, 11)
    with pytest.raises(UserError, match=r"two maps of one shape \(B, C, H, W\), not 1x3x9x11 and 1x3x9x10"):
        correlation(first, second[..., :10], 4)
    with pytest.raises(UserError, match=r"reach is a multiple of its stride; 5 is none of 2"):
        correlation(first, second, 5, 2)
