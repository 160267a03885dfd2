"""The warping head: backward warping, soft-argmax displacement, strides and units of its predictions."""

from __future__ import annotations

from itertools import accumulate, pairwise

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import Level, create_backbone, list_backbones
from densevision.tasks.flow import warping
from densevision.tasks.flow.warping import (
    COARSEST_STRIDE,
    FINEST_STRIDE,
    MAX_DISPLACEMENT,
    NUM_DISPLACEMENTS,
    Warping,
    expected_displacement,
    standardize_channels,
    warp,
)

CENTER = NUM_DISPLACEMENTS // 2
"""Channel of zero displacement."""


def random_maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def flow_of(u: float, v: float, height: int, width: int) -> Tensor:
    return torch.tensor([float(u), float(v)]).view(1, 2, 1, 1).expand(1, 2, height, width)


# --- warping and correlation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(7, 11), (16, 16), (1, 5), (5, 1)])
def test_zero_flow_is_the_identity(size):
    # Facts 3.8: "warp with zero flow is the identity".
    image = random_maps(2, 3, *size)
    torch.testing.assert_close(warp(image, torch.zeros(2, 2, *size)), image, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("u", "v"), [(3, 0), (0, -2), (-4, 1), (2, 5)])
def test_integer_flow_is_a_shift_with_zeros_from_outside(u, v):
    # Facts 3.8: "warp with integer flow equals a shift"; x comes first.
    image = random_maps(1, 3, 9, 13)
    shift = torch.zeros_like(image)
    rows, columns = torch.arange(9) + v, torch.arange(13) + u
    inside = ((rows >= 0) & (rows < 9))[:, None] & ((columns >= 0) & (columns < 13))
    shifted = image[..., rows.clamp(0, 8), :][..., columns.clamp(0, 12)]
    shift[..., inside] = shifted[..., inside]
    torch.testing.assert_close(warp(image, flow_of(u, v, 9, 13)), shift, rtol=0, atol=1e-5)


def test_warping_equals_opencvs_remap():
    rng = np.random.default_rng((17, 1))
    image, flow = rng.random((21, 30, 3), np.float32), rng.normal(0, 4, (21, 30, 2)).astype(np.float32)
    # OpenCV rounds its weights to multiples of 1 / 32: use only such positions.
    flow = np.round(flow * 32) / 32
    y, x = np.mgrid[:21, :30].astype(np.float32)
    expected = cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    warped = warp(*(torch.from_numpy(array).movedim(-1, 0)[None] for array in (image, flow)))
    np.testing.assert_allclose(warped[0].movedim(0, -1).numpy(), expected, atol=2e-5)


def test_the_gradient_of_the_flow_is_the_gradient_of_the_image():
    # On a ramp of slope 2 along x, one pixel further right reads 2 more.
    ramp = (2 * torch.arange(8.0)).expand(1, 1, 6, 8)
    flow = flow_of(0.3, 0.2, 6, 8).clone().requires_grad_()
    (slope,) = torch.autograd.grad(warp(ramp, flow)[..., 1:-1, 1:-1].sum(), flow)
    torch.testing.assert_close(slope[:, :, 1:-1, 1:-1], flow_of(2, 0, 4, 6), rtol=0, atol=1e-4)


def test_warping_keeps_half_precision():
    assert warp(random_maps(1, 2, 4, 4).bfloat16(), torch.zeros(1, 2, 4, 4)).dtype == torch.bfloat16


def test_standardized_channels_have_mean_0_and_deviation_1():
    standardized = standardize_channels(5 + 3 * random_maps(2, 48, 6, 7))
    torch.testing.assert_close(standardized.mean(1), torch.zeros(2, 6, 7), rtol=0, atol=1e-5)
    torch.testing.assert_close(standardized.std(1, unbiased=False), torch.ones(2, 6, 7), rtol=1e-3, atol=0)
    assert standardize_channels(random_maps(1, 4, 2, 2).bfloat16()).dtype == torch.float32


def test_constant_channels_have_finite_values_and_gradients():
    flat = torch.full((1, 8, 2, 2), 3.0, requires_grad=True)
    standardized = standardize_channels(flat)
    (slope,) = torch.autograd.grad(standardized.square().sum(), flat)
    assert torch.equal(standardized, torch.zeros_like(standardized)) and torch.isfinite(slope).all()


@pytest.mark.parametrize(("columns", "rows"), [(0, 0), (3, 0), (0, -2), (-4, 4)])
def test_the_expected_displacement_of_a_single_peak_is_its_position(columns, rows):
    # A map and its shifted copy: checks the correlation's order of displacements, x fastest.
    first = standardize_channels(random_maps(1, 64, 20, 20))
    costs = warping.correlation(first, first.roll((rows, columns), (-2, -1)), MAX_DISPLACEMENT)
    displacement = expected_displacement(30 * costs)[..., 5:-5, 5:-5]
    torch.testing.assert_close(displacement, flow_of(columns, rows, 10, 10), rtol=0, atol=1e-2)


def test_the_expected_displacement_of_constant_costs_is_zero():
    for level in (0.0, 1.0):
        displacement = expected_displacement(torch.full((2, NUM_DISPLACEMENTS, 3, 4), level))
        torch.testing.assert_close(displacement, torch.zeros(2, 2, 3, 4), rtol=0, atol=1e-5)


# --- the head ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", list_backbones())
def test_flow_is_estimated_at_every_stride_from_4_to_32_with_any_backbone(backbone):
    with torch.device("meta"):
        levels = create_backbone(backbone, num_classes=0).levels
        head = Warping(levels)
    assert head.strides[0] == FINEST_STRIDE == 4
    assert all(coarser == 2 * finer for finer, coarser in pairwise(head.strides))
    assert head.stride == head.strides[-1] == COARSEST_STRIDE
    deepest = {level.stride: index for index, level in enumerate(levels)}
    assert head.level_indices == [index for stride, index in sorted(deepest.items()) if stride >= FINEST_STRIDE]


def test_a_backbone_of_fine_strides_is_continued_from_its_last_level():
    head = Warping((Level("one", 1, 8), Level("two", 2, 16)))
    assert head.level_indices == [1] and head.strides[:3] == [2, 4, 8] and head.stride == COARSEST_STRIDE
    first, second = ([torch.zeros(1, 8, 33, 50), random_maps(1, 16, 17, 25, seed=seed)] for seed in (0, 1))
    flows = head(first, second)
    assert [tuple(flow.shape) for flow in flows][-3:] == [(1, 2, 5, 7), (1, 2, 9, 13), (1, 2, 17, 25)]


def two_level_head() -> Warping:
    torch.manual_seed(0)
    return Warping((Level("a", 4, 8), Level("b", 8, 16)))


def with_constant_updates(head: Warping, u: list[float], v: list[float]) -> Warping:
    """Make every level add a constant, in pixels of its map, coarse to fine; the last entry is the refinement."""
    for layer, x, y in zip((*head.predict, head.refine), u, v, strict=True):
        assert isinstance(layer, nn.Conv2d) and layer.bias is not None
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.bias.copy_(torch.tensor([x, y]))
    return head


def random_levels(seed: int, height: int = 16, width: int = 24) -> list[Tensor]:
    coarse = (-(-height // 2), -(-width // 2))
    return [random_maps(2, 8, height, width, seed=seed), random_maps(2, 16, *coarse, seed=seed + 1)]


@pytest.mark.parametrize("size", [(16, 24), (17, 21)])
def test_updates_of_a_level_are_scaled_by_its_stride(size):
    head = two_level_head()
    count = len(head.strides) + 1
    flows = with_constant_updates(head, [1.0] * count, [-0.5] * count)(random_levels(0, *size), random_levels(5, *size))
    # 32, 32 + 16, ... pixels; the context network adds another 4 at the finest level.
    sums = list(accumulate(reversed(head.strides)))
    sums[-1] += FINEST_STRIDE
    for flow, pixels in zip(flows, sums, strict=True):
        assert flow.dtype == torch.float32
        torch.testing.assert_close(flow, flow_of(pixels, -0.5 * pixels, *flow.shape[2:]).expand_as(flow))


@pytest.mark.parametrize(("columns", "rows"), [(2, 0), (0, -2), (4, 2)])
def test_the_second_image_is_warped_by_the_coarser_flow_before_the_correlation(columns, rows, monkeypatch):
    # An integer motion at stride 4, which the coarsest level predicts; the others add zero.
    head = two_level_head()
    first = [random_maps(1, 8, 32, 40), random_maps(1, 16, 16, 20, seed=1)]
    fine, coarse = ((rows, columns), (rows // 2, columns // 2))
    second = [level.roll(shift, (-2, -1)) for level, shift in zip(first, (fine, coarse), strict=True)]
    zeros = [0.0] * len(head.strides)
    recorded: list[Tensor] = []
    correlation = warping.correlation
    monkeypatch.setattr(warping, "correlation", lambda *a: recorded.append(correlation(*a)) or recorded[-1])
    x, y = (FINEST_STRIDE * shift / head.stride for shift in (columns, rows))
    with_constant_updates(head, [x, *zeros], [y, *zeros])(first, second)
    costs = recorded[-1][0]
    inside = (slice(5, -5), slice(5, -5))
    # Pearson's correlation: 1 with itself, less with any other position.
    torch.testing.assert_close(costs[CENTER][inside], torch.ones(22, 30), rtol=0, atol=1e-2)
    assert (costs.argmax(0)[inside] == CENTER).all()
    # Without warping, the peak is at the displacement: rows slow, columns fast.
    recorded.clear()
    with_constant_updates(head, [0.0, *zeros], [0.0, *zeros])(first, second)
    moved = (rows + MAX_DISPLACEMENT) * (2 * MAX_DISPLACEMENT + 1) + columns + MAX_DISPLACEMENT
    assert (recorded[-1][0].argmax(0)[inside] == moved).all()


def test_initial_predictions_are_well_below_the_coarsest_stride():
    # With the deviation of he_fan_in, √(2 / 288) instead of 0.01, the mean would be about 8 times as large.
    flows = two_level_head()(random_levels(0), random_levels(5))
    assert max(float(flow.detach().norm(dim=1).mean()) for flow in flows) < COARSEST_STRIDE / 4
    assert all(float(flow.detach().abs().max()) > 0 for flow in flows)


def test_gradients_of_every_resolution_reach_the_standardizedof_both_images():
    head = two_level_head()
    levels = [[level.requires_grad_() for level in random_levels(seed)] for seed in (0, 5)]
    flows = head(*levels)
    for flow in (flows[0], flows[-1]):
        for gradient in torch.autograd.grad(flow.square().sum(), [maps[-1] for maps in levels], retain_graph=True):
            assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    for gradient in torch.autograd.grad(flows[-1].square().sum(), [maps[0] for maps in levels]):
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_half_precision_predicts_about_the_same_flow_in_float32():
    head, first, second = two_level_head(), random_levels(0), random_levels(5)
    plain = head(first, second)[-1]
    with torch.autocast("cpu", torch.bfloat16):
        half = head([level.bfloat16() for level in first], [level.bfloat16() for level in second])[-1]
    assert half.dtype == torch.float32
    assert float((half - plain).detach().norm() / plain.detach().norm()) < 0.2
