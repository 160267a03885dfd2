from __future__ import annotations

import pytest
import torch
from torch import Tensor

from densevision.errors import UserError
from densevision.tasks.flow.losses import (
    LEVEL_WEIGHTS,
    LOSSES,
    find_loss,
    level_weight,
    multiscale,
    robust,
    sequence,
    truth_at,
)

FACTS_WEIGHTS = {64: 0.32, 32: 0.08, 16: 0.02, 8: 0.01, 4: 0.005}  # facts 3.3: w(flow6..flow2)


def constant(u: float, v: float, size: tuple[int, int] = (64, 128), batch: int = 1) -> Tensor:
    """(B, 2, H, W), one motion everywhere."""
    return torch.tensor([float(u), float(v)]).view(1, 2, 1, 1).expand(batch, 2, *size).clone()


def everywhere(flow: Tensor) -> Tensor:
    return torch.ones(len(flow), *flow.shape[2:], dtype=torch.bool)


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def random_case(seed: int = 0, batch: int = 2) -> tuple[list[Tensor], Tensor, Tensor]:
    """Estimates at strides 16, 8 and 4, a truth of 32x48 and what is known of it: 0 elsewhere, as batches have it."""
    rng = torch.Generator().manual_seed(seed)
    pyramid = [8 * torch.randn(batch, 2, 32 // stride, 48 // stride, generator=rng) for stride in (16, 8, 4)]
    mask = torch.rand(batch, 32, 48, generator=rng) < 0.6
    return pyramid, 8 * torch.randn(batch, 2, 32, 48, generator=rng) * mask[:, None], mask


@pytest.mark.parametrize("stride", FACTS_WEIGHTS)
def test_a_level_counts_its_pixels_errors_in_units_of_20_pixels_by_the_weight_of_its_stride(stride):
    # Facts 3.3: |(60, 80)| = 100 px is 5 units; summed over the level's pixels, not averaged.
    flow = constant(60, 80)
    pixels = (64 // stride) * (128 // stride)
    terms = multiscale([constant(0, 0, (64 // stride, 128 // stride))], flow, everywhere(flow))
    assert list(terms) == [f"stride_{stride}"]
    assert terms[f"stride_{stride}"].item() == pytest.approx(FACTS_WEIGHTS[stride] * 5 * pixels, rel=1e-6)


def test_robust_takes_the_sum_of_both_axes_to_the_power_0_4():
    # (60 + 80) / 20 = 7 units: (7 + 0.01)^0.4 for each of 2 pixels at stride 64; PWC-Net's epsilon and q.
    flow = constant(60, -80)
    (term,) = robust([constant(0, 0, (1, 2))], flow, everywhere(flow)).values()
    assert term.item() == pytest.approx(0.32 * 7.01**0.4 * 2, rel=1e-6)


def test_sequence_counts_later_estimates_more_by_hand():
    # |u| + |v| off by 4, 2 and 1, weighed by 0.8², 0.8 and 1 (facts 3.3: gamma 0.8).
    flow = constant(3, -1)
    pyramid = [constant(3 + 2, -1 - 2, (8, 16)), constant(3, -3, (16, 32)), constant(4, -1)]
    terms = sequence(pyramid, flow, everywhere(flow))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"estimate_1": 0.64 * 4, "estimate_2": 0.8 * 2, "estimate_3": 1.0}
    )


def test_sequence_leaves_out_motion_from_400_pixels_on():
    # Facts 3.3: "pixels with |g| >= 400 ignored". 240-320-400; the mean is over the others.
    flow = constant(240, 320, (2, 2))
    flow[..., 0, 0] = torch.tensor([239.9, 320])
    (term,) = sequence([flow + torch.tensor([5.0, 0]).view(1, 2, 1, 1)], flow, everywhere(flow)).values()
    assert term.item() == pytest.approx(5, rel=1e-4)
    flow[..., 0, 0] = torch.tensor([240.0, 320])
    assert total(sequence([torch.zeros_like(flow)], flow, everywhere(flow))).item() == 0


@pytest.mark.parametrize("stride", FACTS_WEIGHTS)
def test_weights_are_those_of_the_released_code(stride):
    assert level_weight(stride) == LEVEL_WEIGHTS[stride] == FACTS_WEIGHTS[stride]


def test_finer_levels_weigh_as_their_share_of_a_cell_and_coarser_ones_as_the_coarsest():
    assert (level_weight(2), level_weight(1)) == pytest.approx((0.005 / 4, 0.005 / 16))
    assert level_weight(128) == level_weight(256) == 0.32
    # So that one error costs the same whether it is answered at stride 4 or for every pixel.
    flow = constant(20, 0)
    fine, coarse = (total(multiscale([constant(0, 0, size)], flow, everywhere(flow))) for size in ((64, 128), (16, 32)))
    torch.testing.assert_close(fine, coarse)


def test_estimates_of_one_resolution_all_count():
    # RAFT answers at every pixel each time; in a 16x16 picture strides 16, 32 and 64 are one pixel each.
    flow = constant(0, 0, (16, 16))
    pyramid = [constant(20 * error, 0, (1, 1)) for error in (1, 2, 4)]
    assert total(multiscale(pyramid, flow, everywhere(flow))).item() == pytest.approx(0.02 * (1 + 2 + 4))
    pyramid = [constant(20 * error, 0, (16, 16)) for error in (1, 2, 4)]
    assert total(multiscale(pyramid, flow, everywhere(flow))).item() == pytest.approx(0.005 / 16 * 7 * 256)


@pytest.mark.parametrize("side", [64, 61, 67, 80, 97])
def test_a_level_of_an_odd_picture_is_recognised_by_its_size(side):
    flow = constant(1, 1, (side, 2 * side + 1))
    for stride in (4, 8, 16, 32):
        size = (-(-side // stride), -(-(2 * side + 1) // stride))
        assert list(multiscale([constant(1, 1, size)], flow, everywhere(flow))) == [f"stride_{stride}"]


def test_a_coarser_truth_is_the_mean_of_what_is_known_in_a_cell_by_hand():
    # Cells of 2x2: u = 1, 3 known -> 2; 8 known of 4 -> 8; nothing known; all four -> (4 + 6 + 8 + 10) / 4.
    u = torch.tensor([[1.0, 3, 8, 0], [0, 0, 0, 0], [0, 0, 4, 6], [0, 0, 8, 10]])
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.bool)
    mean, known = truth_at(torch.stack([u, -2 * u])[None], mask[None], (2, 2))
    torch.testing.assert_close(mean[0, 0], torch.tensor([[2.0, 8], [0, 7]]))
    torch.testing.assert_close(mean[0, 1], -2 * mean[0, 0])
    assert known[0].tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize("size", [(32, 48), (16, 24), (8, 12), (3, 5), (1, 1), (7, 48)])
def test_reducing_a_truth_keeps_the_length_of_its_vectors(size):
    # Facts 3.3: down-sampled "without rescaling values", and trap: the truth is never divided twice.
    mask = torch.rand(2, 32, 48, generator=torch.Generator().manual_seed(1)) < 0.5
    flow = constant(13, -7, (32, 48), batch=2) * mask[:, None]
    mean, known = truth_at(flow, mask, size)
    expected = constant(13, -7, size, batch=2) * known[:, None]
    torch.testing.assert_close(mean, expected)
    assert mean.dtype == torch.float32 and known.dtype == torch.bool and known.shape == (2, *size)


@pytest.mark.parametrize("name", LOSSES)
def test_a_right_answer_has_a_finite_gradient_of_zero(name):
    # Facts 3.3, trap: sqrt of a sum of squares has a gradient of nan at 0.
    flow = constant(9, -4, (16, 16))
    pyramid = [constant(9, -4, size).requires_grad_() for size in ((4, 4), (16, 16))]
    loss = total(LOSSES[name](pyramid, flow, everywhere(flow)))
    for gradient in torch.autograd.grad(loss, pyramid):
        assert torch.equal(gradient, torch.zeros_like(gradient))
    if name != "robust":  # whose error of nothing is 0.01^0.4
        assert loss.item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    pyramid, flow, mask = random_case()
    sizes = [estimate.shape for estimate in pyramid]
    flat = torch.cat([estimate.flatten() for estimate in pyramid])

    def loss(values: Tensor) -> Tensor:
        parts = values.split([size.numel() for size in sizes])
        return total(LOSSES[name]([part.view(size) for part, size in zip(parts, sizes, strict=True)], flow, mask))

    (gradient,) = torch.autograd.grad(loss(flat.requires_grad_()), flat)
    direction = torch.randn(flat.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        slope = (loss(flat + 0.01 * direction) - loss(flat - 0.01 * direction)) / 0.02
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_answered_where_nothing_is_known_never_counts(name):
    pyramid, flow, mask = random_case()
    mask[:, :16, 8:40] = False
    flow = flow * mask[:, None]
    if name == "sequence":  # which enlarges its estimates: a coarse one reaches known pixels from everywhere
        pyramid = [8 * torch.randn(flow.shape, generator=torch.Generator().manual_seed(3))]
    changed = []
    for estimate in pyramid:
        _, known = truth_at(flow, mask, (estimate.shape[-2], estimate.shape[-1]))
        assert not known.all()
        changed.append(estimate + 1000 * ~known[:, None])
    before, after = (total(LOSSES[name](each, flow, mask)) for each in (pyramid, changed))
    assert torch.equal(before, after)


@pytest.mark.parametrize("name", LOSSES)
def test_a_picture_without_a_known_pixel_costs_nothing_and_moves_nothing(name):
    pyramid, flow, mask = random_case()
    pyramid = [estimate.requires_grad_() for estimate in pyramid]
    nothing = torch.zeros_like(mask)
    loss = total(LOSSES[name](pyramid, torch.zeros_like(flow), nothing))
    assert loss.item() == 0
    for gradient in torch.autograd.grad(loss, pyramid):
        assert torch.equal(gradient, torch.zeros_like(gradient))
    # Beside a known picture it is one more picture of the mean.
    mask[1] = False
    alone = total(LOSSES[name]([estimate[:1] for estimate in pyramid], flow[:1], mask[:1]))
    both = total(LOSSES[name](pyramid, flow * mask[:, None], mask))
    torch.testing.assert_close(both, alone / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_every_picture_weighs_the_same(name):
    pyramid, flow, mask = random_case(batch=3)
    mask[0, 4:] = False
    flow = flow * mask[:, None]
    each = [total(LOSSES[name]([p[i : i + 1] for p in pyramid], flow[i : i + 1], mask[i : i + 1])) for i in range(3)]
    torch.testing.assert_close(total(LOSSES[name](pyramid, flow, mask)), torch.stack(each).mean())


@pytest.mark.parametrize("name", ["multiscale", "robust"])
def test_a_picture_twice_as_high_costs_twice_as_much(name):
    # Facts 3.3, trap: the sum over the pixels of a picture, not their mean, is what the weights assume.
    pyramid, flow, mask = random_case()
    doubled = [torch.cat([maps, maps], dim=-2) for maps in (*pyramid, flow, mask)]
    once, twice = (total(LOSSES[name](each[:-2], *each[-2:])) for each in ([*pyramid, flow, mask], doubled))
    torch.testing.assert_close(twice, 2 * once)


@pytest.mark.parametrize("name", LOSSES)
def test_terms_are_named_float32_scalars_even_from_halves(name):
    pyramid, flow, mask = random_case()
    terms = LOSSES[name]([estimate.bfloat16() for estimate in pyramid], flow.bfloat16(), mask)
    assert len(terms) == len(pyramid)
    assert all(term.shape == () and term.dtype == torch.float32 for term in terms.values())


def test_the_papers_loss_is_the_usual_one_and_an_unknown_one_gets_the_nearest_name():
    assert next(iter(LOSSES)) == "multiscale"
    assert find_loss("robust") is robust
    with pytest.raises(UserError, match="did you mean 'multiscale'"):
        find_loss("multi-scale")
