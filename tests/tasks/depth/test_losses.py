from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from densevision.errors import UserError
from densevision.registry import lookup
from densevision.tasks.depth.losses import (
    LOSSES,
    MIN_DEPTH,
    berhu,
    gradient_matching,
    l1,
    l2,
    log_l1,
    resize_target,
    scale_invariant_log,
    silog,
)

FUNCTIONS = (l1, l2, berhu, scale_invariant_log, silog, log_l1, gradient_matching)


def row(*values: float) -> Tensor:
    """One image of one row, (1, 1, W)."""
    return torch.tensor(values, dtype=torch.float64)[None, None]


def known(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)[None, None]


def slopes_of(prediction: Tensor) -> Tensor:
    assert prediction.grad is not None
    return prediction.grad


def random_case(seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    prediction, target = torch.rand(2, batch, 9, 7, generator=generator, dtype=torch.float64) * 4 + 0.5
    return prediction, target, torch.rand(batch, 9, 7, generator=generator) < 0.7


def test_l1_and_l2_by_hand():
    # Residuals 1 and -3, the third pixel unknown.
    p, g, mask = row(2, 1, 9), row(1, 4, 0), known(1, 1, 0)
    assert l1(p, g, mask).item() == 2
    assert l2(p, g, mask).item() == 5


def test_berhu_by_hand():
    # Residuals 10, 1, -4: c = 2; (100 + 4) / 4 = 26, 1, (16 + 4) / 4 = 5.
    p, g = row(11, 2, 1), row(1, 1, 5)
    assert berhu(p, g, known(1, 1, 1)).item() == pytest.approx((26 + 1 + 5) / 3)


def test_berhu_is_continuous_in_value_and_slope_at_c():
    # A residual of 10 gives c = 2; the other pixel is just below or above it.
    values, slopes = [], []
    for x in (2 - 1e-6, 2 + 1e-6):
        p = row(11, 1 + x).requires_grad_()
        loss = berhu(p, row(1, 1), known(1, 1))
        loss.backward()
        values.append(loss.item())
        slopes.append(slopes_of(p)[0, 0, 1].item() * 2)
    assert values[0] == pytest.approx(values[1], abs=1e-5)
    assert slopes == pytest.approx([1, 1], abs=1e-5)


def test_berhu_c_is_constant_for_the_gradient():
    # At the largest residual m, c = m / 5: the slope is m / c = 5; a variable c would add (1 - m²/c²) / 10.
    p = row(11.0).requires_grad_()
    berhu(p, row(1), known(1)).backward()
    assert slopes_of(p).item() == pytest.approx(5)


def test_berhu_c_is_over_the_known_pixels_of_the_batch():
    p = torch.tensor([[[11.0, 500.0]], [[2.5, 1.0]]])
    g = torch.ones_like(p)
    mask = torch.tensor([[[True, False]], [[True, True]]])
    # c = 2 from the first image, so 1.5 stays linear in the second.
    assert berhu(p, g, mask).item() == pytest.approx((26 + (1.5 + 0) / 2) / 2)


def test_berhu_of_a_perfect_batch_is_zero_with_a_finite_gradient():
    p = row(1, 2).requires_grad_()
    loss = berhu(p, row(1, 2), known(1, 1))
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(slopes_of(p)).all()


def test_scale_invariant_log_by_hand():
    # d = ln 2 and 0: mean d² = ln²2 / 2, (mean d)² = ln²2 / 4.
    p, g, mask = row(2, 3, 7), row(1, 3, 1), known(1, 1, 0)
    assert scale_invariant_log(p, g, mask).item() == pytest.approx(math.log(2) ** 2 * (1 / 2 - 1 / 8))
    assert scale_invariant_log(p, g, mask, balance=0).item() == pytest.approx(math.log(2) ** 2 / 2)


def test_scale_invariant_log_of_balance_1_is_the_variance_and_scale_invariant():
    p, g, mask = random_case(batch=1)
    d = (p.log() - g.log())[mask]
    value = scale_invariant_log(p, g, mask, balance=1)
    assert value.item() == pytest.approx(d.var(unbiased=False).item())
    assert scale_invariant_log(3 * p, g, mask, balance=1).item() == pytest.approx(value.item())
    assert scale_invariant_log(3 * p, g, mask).item() > scale_invariant_log(p, g, mask).item()


def test_silog_by_hand():
    p, g = row(2, 3), row(1, 3)
    expected = 10 * math.sqrt(math.log(2) ** 2 * (1 / 2 - 0.85 / 4))
    assert silog(p, g, known(1, 1)).item() == pytest.approx(expected)


def test_gradient_matching_by_hand():
    # R = [[0, 1], [3, 3]] in meters. Horizontal 1 + 0, vertical 3 + 2, over 4 pixels; the next scale has one pixel.
    g = torch.ones(1, 2, 2, dtype=torch.float64)
    p = g + torch.tensor([[[0.0, 1.0], [3.0, 3.0]]])
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    assert gradient_matching(p, g, mask, of_logarithms=False).item() == pytest.approx(6 / 4)
    mask[0, 0, 0] = False
    # Pairs with the unknown pixel do not count: horizontal 0, vertical 2, over 3 pixels.
    assert gradient_matching(p, g, mask, of_logarithms=False).item() == pytest.approx(2 / 3)


def test_gradient_matching_sees_coarser_edges_at_coarser_scales():
    # R = 0 1 2 3: step 1 gives 3 / 4, step 2 (0, 2) gives 2 / 2, steps 4 and 8 have one pixel.
    p, g, mask = row(1, 2, 3, 4), row(1, 1, 1, 1), known(1, 1, 1, 1)
    assert gradient_matching(p, g, mask, of_logarithms=False).item() == pytest.approx(0.75 + 1)
    assert gradient_matching(p, g, mask, scales=1, of_logarithms=False).item() == pytest.approx(0.75)


def test_gradient_matching_of_logarithms_is_scale_invariant():
    p, g, mask = random_case()
    torch.testing.assert_close(gradient_matching(2 * p, g, mask), gradient_matching(p, g, mask))
    assert gradient_matching(2 * g, g, mask).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_agree_with_finite_differences(function):
    prediction, target, mask = random_case()
    # c of berHu is constant by design: its pixel is tested elsewhere.
    if function is berhu:
        target[0, 0, 0], mask[0, 0, 0] = 60.0, True

        def at(p: Tensor) -> Tensor:
            return berhu(torch.cat((prediction.flatten()[:1], p)).view_as(prediction), target, mask)

        assert torch.autograd.gradcheck(at, prediction.flatten()[1:].clone().requires_grad_())
        return
    assert torch.autograd.gradcheck(lambda p: function(p, target, mask), prediction.requires_grad_())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_at_unknown_pixels_do_not_matter(function):
    prediction, target, mask = random_case()
    prediction, dirty = prediction.requires_grad_(), torch.where(mask, prediction.detach(), torch.nan).requires_grad_()
    clean_loss = function(prediction, target, mask)
    dirty_loss = function(dirty, torch.where(mask, target, torch.inf), mask)
    clean_loss.backward()
    dirty_loss.backward()
    assert torch.equal(clean_loss, dirty_loss)
    assert torch.equal(slopes_of(prediction), slopes_of(dirty))
    assert not slopes_of(prediction)[~mask].any()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_images_have_equal_weight_and_unknown_ones_none(function):
    prediction, target, mask = random_case(batch=3)
    mask[0, 3:] = False  # fewer known pixels, but the same weight
    if function is berhu:  # c is that of the batch
        target[:, 8, 6], mask[:, 8, 6] = 90 + prediction[:, 8, 6], True
    each = [function(prediction[i : i + 1], target[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(function(prediction, target, mask), sum(each) / 3)
    mask[1] = False
    torch.testing.assert_close(function(prediction, target, mask), (each[0] + each[2]) / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_batch_without_known_pixels_has_zero_loss_and_gradient(name):
    prediction = torch.full((2, 4, 4), 2.0, requires_grad=True)
    terms = LOSSES[name](prediction, torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool))
    torch.stack(list(terms.values())).sum().backward()
    assert all(term.item() == 0 for term in terms.values())
    assert not slopes_of(prediction).any()


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_and_zero_predictions_give_finite_losses_and_gradients(name):
    # Facts 3.1: a ReLU can output exactly 0, whose logarithm is infinite.
    for value in (2.0, 0.0):
        prediction = torch.full((1, 4, 4), value, requires_grad=True)
        terms = LOSSES[name](prediction, torch.full((1, 4, 4), 2.0), torch.ones(1, 4, 4, dtype=torch.bool))
        torch.stack(list(terms.values())).sum().backward()
        assert all(torch.isfinite(term) for term in terms.values())
        assert torch.isfinite(slopes_of(prediction)).all()


@pytest.mark.parametrize("name", LOSSES)
def test_terms_are_float32_scalars_also_for_half_precision(name):
    prediction, target, mask = random_case()
    terms = LOSSES[name](prediction.bfloat16(), target.float(), mask)
    assert all(isinstance(key, str) and term.shape == () and term.dtype == torch.float32 for key, term in terms.items())


def test_default_loss_is_first_and_halves_the_gradient_matching():
    assert next(iter(LOSSES)) == "log-l1+grad"
    prediction, target, mask = random_case()
    terms = LOSSES["log-l1+grad"](prediction, target, mask)
    assert terms["log_l1"].item() == pytest.approx((prediction.log() - target.log())[mask].abs().mean().item(), rel=0.1)
    torch.testing.assert_close(terms["gradients"], gradient_matching(prediction, target, mask) / 2)


def test_predictions_below_the_minimum_are_clamped_before_logarithms():
    p, g = row(0.0), row(1.0)
    assert log_l1(p, g, known(1)).item() == pytest.approx(-math.log(MIN_DEPTH))


def test_unknown_loss_suggests_the_nearest_name():
    assert LOSSES["berhu"] is LOSSES["berhu"]
    with pytest.raises(UserError, match="did you mean 'silog'"):
        lookup("depth loss", "si-log", LOSSES)


def test_target_and_mask_are_resized_by_nearest_neighbor():
    target = torch.arange(16.0).view(1, 4, 4)
    mask = target > 5
    small, small_mask = resize_target(target, mask, (2, 2))
    # The center of a 2x2 cell is between pixels; the far one is used.
    assert small.tolist() == [[[5, 7], [13, 15]]]
    assert small_mask.tolist() == [[[False, True], [True, True]]]
    assert resize_target(target, mask, (4, 4))[0] is target
    large, _ = resize_target(target, mask, (8, 3))
    assert large[0, :, 0].tolist() == [0, 0, 4, 4, 8, 8, 12, 12]
