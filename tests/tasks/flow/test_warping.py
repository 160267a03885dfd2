"""Coarse to fine: what is read where, at which strides, and in which unit."""

from __future__ import annotations

from itertools import accumulate, pairwise

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import Level, create_backbone, list_backbones
from densevision.tasks.flow import warping
from densevision.tasks.flow.warping import CELLS, COARSEST, FINEST, REACH, Warping, expected, standardized, warp

CENTRE = CELLS // 2
"""The channel of no displacement."""


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def flow_of(u: float, v: float, height: int, width: int) -> Tensor:
    return torch.tensor([float(u), float(v)]).view(1, 2, 1, 1).expand(1, 2, height, width)


# --- reading at x + flow(x) -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(7, 11), (16, 16), (1, 5), (5, 1)])
def test_no_motion_leaves_a_picture_as_it_is(size):
    # Facts 3.8: "warp with zero flow is the identity".
    picture = maps(2, 3, *size)
    torch.testing.assert_close(warp(picture, torch.zeros(2, 2, *size)), picture, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("u", "v"), [(3, 0), (0, -2), (-4, 1), (2, 5)])
def test_whole_cells_shift_and_bring_zeros_from_outside(u, v):
    # Facts 3.8: "warp with integer flow equals a shift"; x comes first.
    picture = maps(1, 3, 9, 13)
    shift = torch.zeros_like(picture)
    rows, columns = torch.arange(9) + v, torch.arange(13) + u
    inside = ((rows >= 0) & (rows < 9))[:, None] & ((columns >= 0) & (columns < 13))
    shifted = picture[..., rows.clamp(0, 8), :][..., columns.clamp(0, 12)]
    shift[..., inside] = shifted[..., inside]
    torch.testing.assert_close(warp(picture, flow_of(u, v, 9, 13)), shift, rtol=0, atol=1e-5)


def test_any_motion_reads_what_opencv_reads():
    rng = np.random.default_rng((17, 1))
    picture, flow = rng.random((21, 30, 3), np.float32), rng.normal(0, 4, (21, 30, 2)).astype(np.float32)
    # OpenCV's weights are whole 1 / 32: what is asked of both lies on them.
    flow = np.round(flow * 32) / 32
    y, x = np.mgrid[:21, :30].astype(np.float32)
    theirs = cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    ours = warp(*(torch.from_numpy(each).movedim(-1, 0)[None] for each in (picture, flow)))
    np.testing.assert_allclose(ours[0].movedim(0, -1).numpy(), theirs, atol=2e-5)


def test_a_motion_is_differentiated_towards_where_the_picture_grows():
    # On a ramp of slope 2 along x, one cell more to the right reads 2 more.
    ramp = (2 * torch.arange(8.0)).expand(1, 1, 6, 8)
    flow = flow_of(0.3, 0.2, 6, 8).clone().requires_grad_()
    (slope,) = torch.autograd.grad(warp(ramp, flow)[..., 1:-1, 1:-1].sum(), flow)
    torch.testing.assert_close(slope[:, :, 1:-1, 1:-1], flow_of(2, 0, 4, 6), rtol=0, atol=1e-4)


def test_halves_come_back_as_halves():
    assert warp(maps(1, 2, 4, 4).bfloat16(), torch.zeros(1, 2, 4, 4)).dtype == torch.bfloat16


def test_the_channels_of_every_cell_get_mean_0_and_deviation_1():
    made = standardized(5 + 3 * maps(2, 48, 6, 7))
    torch.testing.assert_close(made.mean(1), torch.zeros(2, 6, 7), rtol=0, atol=1e-5)
    torch.testing.assert_close(made.std(1, unbiased=False), torch.ones(2, 6, 7), rtol=1e-3, atol=0)
    assert standardized(maps(1, 4, 2, 2).bfloat16()).dtype == torch.float32


def test_a_cell_of_one_value_has_finite_numbers_and_gradients():
    flat = torch.full((1, 8, 2, 2), 3.0, requires_grad=True)
    made = standardized(flat)
    (slope,) = torch.autograd.grad(made.square().sum(), flat)
    assert torch.equal(made, torch.zeros_like(made)) and torch.isfinite(slope).all()


@pytest.mark.parametrize(("columns", "rows"), [(0, 0), (3, 0), (0, -2), (-4, 4)])
def test_a_lone_peak_of_the_correlation_is_expected_where_it_lies(columns, rows):
    # A map and itself moved by whole cells: the correlation's own order of displacements, x fast.
    first = standardized(maps(1, 64, 20, 20))
    costs = warping.correlation(first, first.roll((rows, columns), (-2, -1)), REACH)
    made = expected(30 * costs)[..., 5:-5, 5:-5]
    torch.testing.assert_close(made, flow_of(columns, rows, 10, 10), rtol=0, atol=1e-2)


def test_where_all_displacements_are_alike_none_is_expected():
    for level in (0.0, 1.0):
        made = expected(torch.full((2, CELLS, 3, 4), level))
        torch.testing.assert_close(made, torch.zeros(2, 2, 3, 4), rtol=0, atol=1e-5)


# --- the head ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trunk", list_backbones())
def test_motion_is_estimated_at_every_stride_between_the_finest_and_the_coarsest_whatever_the_trunk(trunk):
    with torch.device("meta"):
        levels = create_backbone(trunk, classes=0).levels
        head = Warping(levels)
    assert head.strides[0] == FINEST == 4
    assert all(coarser == 2 * finer for finer, coarser in pairwise(head.strides))
    assert head.stride == head.strides[-1] == COARSEST
    deepest = {level.stride: place for place, level in enumerate(levels)}
    assert head.places == [place for stride, place in sorted(deepest.items()) if stride >= FINEST]


def test_a_trunk_that_ends_before_the_finest_stride_is_continued_from_its_end():
    head = Warping((Level("one", 1, 8), Level("two", 2, 16)))
    assert head.places == [1] and head.strides[:3] == [2, 4, 8] and head.stride == COARSEST
    first, second = ([torch.zeros(1, 8, 33, 50), maps(1, 16, 17, 25, seed=seed)] for seed in (0, 1))
    made = head(first, second)
    assert [tuple(flow.shape) for flow in made][-3:] == [(1, 2, 5, 7), (1, 2, 9, 13), (1, 2, 17, 25)]


def two_levels() -> Warping:
    torch.manual_seed(0)
    return Warping((Level("a", 4, 8), Level("b", 8, 16)))


def answering(head: Warping, u: list[float], v: list[float]) -> Warping:
    """A head whose every level adds these cells, coarse to fine, whatever it sees; the last entry is the refinement."""
    for layer, along, down in zip((*head.predict, head.refine), u, v, strict=True):
        assert isinstance(layer, nn.Conv2d) and layer.bias is not None
        nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.bias.copy_(torch.tensor([along, down]))
    return head


def levels_of(seed: int, height: int = 16, width: int = 24) -> list[Tensor]:
    return [maps(2, 8, height, width, seed=seed), maps(2, 16, -(-height // 2), -(-width // 2), seed=seed + 1)]


@pytest.mark.parametrize("size", [(16, 24), (17, 21)])
def test_every_level_adds_cells_of_its_own_stride_to_pixels_of_the_picture(size):
    head = two_levels()
    count = len(head.strides) + 1
    made = answering(head, [1.0] * count, [-0.5] * count)(levels_of(0, *size), levels_of(5, *size))
    # 32, 32 + 16, ... pixels; the context network adds one more cell at the finest level.
    sums = list(accumulate(reversed(head.strides)))
    sums[-1] += FINEST
    for flow, pixels in zip(made, sums, strict=True):
        assert flow.dtype == torch.float32
        torch.testing.assert_close(flow, flow_of(pixels, -0.5 * pixels, *flow.shape[2:]).expand_as(flow))


@pytest.mark.parametrize(("columns", "rows"), [(2, 0), (0, -2), (4, 2)])
def test_the_second_picture_is_compared_after_it_was_brought_back_by_the_coarser_motion(columns, rows, monkeypatch):
    # Everything moves by whole cells of stride 4; the coarsest level says so, the others add nothing.
    head = two_levels()
    first = [maps(1, 8, 32, 40), maps(1, 16, 16, 20, seed=1)]
    fine, coarse = ((rows, columns), (rows // 2, columns // 2))
    second = [each.roll(shift, (-2, -1)) for each, shift in zip(first, (fine, coarse), strict=True)]
    cells = [0.0] * len(head.strides)
    seen: list[Tensor] = []
    compare = warping.correlation
    monkeypatch.setattr(warping, "correlation", lambda *a: seen.append(compare(*a)) or seen[-1])
    across, down = (FINEST * shift / head.stride for shift in (columns, rows))
    answering(head, [across, *cells], [down, *cells])(first, second)
    alike = seen[-1][0]
    inside = (slice(5, -5), slice(5, -5))
    # Pearson's: a cell compared with itself has 1, with any other one less.
    torch.testing.assert_close(alike[CENTRE][inside], torch.ones(22, 30), rtol=0, atol=1e-2)
    assert (alike.argmax(0)[inside] == CENTRE).all()
    # What was not brought back lies as far off as it moved: rows slow, columns fast.
    seen.clear()
    answering(head, [0.0, *cells], [0.0, *cells])(first, second)
    moved = (rows + REACH) * (2 * REACH + 1) + columns + REACH
    assert (seen[-1][0].argmax(0)[inside] == moved).all()


def test_before_it_has_learned_it_answers_motion_well_below_a_cell_of_the_coarsest_level():
    # With he_fan_in's deviation, √(2 / 288) and not 0.01, the mean would be some 8 times as long.
    made = two_levels()(levels_of(0), levels_of(5))
    assert max(float(flow.detach().norm(dim=1).mean()) for flow in made) < COARSEST / 4
    assert all(float(flow.detach().abs().max()) > 0 for flow in made)


def test_every_resolution_hands_gradients_to_the_maps_of_both_pictures():
    head = two_levels()
    levels = [[level.requires_grad_() for level in levels_of(seed)] for seed in (0, 5)]
    made = head(*levels)
    for flow in (made[0], made[-1]):
        for gradient in torch.autograd.grad(flow.square().sum(), [side[-1] for side in levels], retain_graph=True):
            assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    for gradient in torch.autograd.grad(made[-1].square().sum(), [side[0] for side in levels]):
        assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_half_precision_gives_about_the_same_motion_in_float32():
    head, first, second = two_levels(), levels_of(0), levels_of(5)
    plain = head(first, second)[-1]
    with torch.autocast("cpu", torch.bfloat16):
        half = head([level.bfloat16() for level in first], [level.bfloat16() for level in second])[-1]
    assert half.dtype == torch.float32
    assert float((half - plain).detach().norm() / plain.detach().norm()) < 0.2
