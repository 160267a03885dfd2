from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from densevision.errors import UserError
from densevision.registry import lookup
from densevision.tasks.colorization.decoders import BinClassification, Regression
from densevision.tasks.colorization.encoding import BINS, class_rebalancing_weights, soft_targets
from densevision.tasks.colorization.losses import (
    LOSSES,
    colored,
    cross_entropy,
    l2,
    rebalanced,
    soft_cross_entropy,
    weighted_gradient,
)


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, BinClassification]:
    """Logits that require a gradient, target colors, and a decoder with an uneven prior."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, BINS, 3, 4, generator=rng).requires_grad_()
    ab = 120 * torch.rand(2, 2, 3, 4, generator=rng) - 60
    decoder = BinClassification()
    decoder.prior.copy_(torch.rand(BINS, generator=rng) ** 6)
    decoder.prior.div_(decoder.prior.sum())
    return logits, ab, decoder


def value_and_gradient(loss, logits, ab, decoder):
    (term,) = loss(logits, ab, decoder, 5).values()
    return term.detach(), torch.autograd.grad(term, logits)[0]


def test_sparse_cross_entropy_is_that_of_the_dense_target():
    logits, ab, _ = case()
    index, weight = soft_targets(ab)
    dense = torch.zeros_like(logits).scatter(1, index, weight)
    expected = functional.cross_entropy(logits, dense, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(logits, index, weight), expected)


def test_the_loss_is_least_at_the_target_itself_where_it_is_the_entropy():
    _, ab, _ = case()
    index, weight = soft_targets(ab)
    exact = torch.full((2, BINS, 3, 4), -1e4).scatter(1, index, weight.log())
    entropy = -(weight * weight.log()).sum(1)
    torch.testing.assert_close(soft_cross_entropy(exact, index, weight), entropy)


def test_rebalancing_changes_the_gradient_and_not_the_value():
    # Facts 3.2: gradient weighting equals the gradient of the weighted loss, with another value.
    logits, ab, decoder = case()
    plain, plain_gradient = value_and_gradient(cross_entropy, logits, ab, decoder)
    value, gradient = value_and_gradient(rebalanced, logits, ab, decoder)
    torch.testing.assert_close(value, plain)
    index, weight = soft_targets(ab)
    factor = class_rebalancing_weights(decoder.prior)[index[:, 0]]
    weighted = (soft_cross_entropy(logits, index, weight) * factor).mean()
    torch.testing.assert_close(gradient, torch.autograd.grad(weighted, logits)[0])
    assert abs(float(weighted.detach()) - float(value)) > 1e-2
    assert (gradient - plain_gradient).abs().max() > 1e-4


def test_the_rebalanced_gradient_is_the_finite_difference_of_the_weighted_loss():
    logits, ab, decoder = (case(1)[0].detach().double(), *case(1)[1:])
    index, weight = soft_targets(ab.double())
    factor = class_rebalancing_weights(decoder.prior.double())[index[:, 0]]

    def weighted(at: torch.Tensor) -> torch.Tensor:
        return (soft_cross_entropy(at, index, weight) * factor).mean()

    at = logits.clone().requires_grad_()
    made = weighted_gradient(soft_cross_entropy(at, index, weight), factor).mean()
    (gradient,) = torch.autograd.grad(made, at)
    for place in ((0, 17, 1, 2), (1, int(index[1, 0, 2, 3]), 2, 3), (0, 300, 0, 0)):
        step = torch.zeros_like(logits)
        step[place] = 1e-4
        difference = (weighted(logits + step) - weighted(logits - step)) / 2e-4
        assert float(gradient[place]) == pytest.approx(float(difference), rel=1e-5, abs=1e-10)


def test_a_uniform_prior_makes_rebalancing_the_plain_loss():
    logits, ab, _ = case()
    plain, rebalancing = (
        value_and_gradient(loss, logits, ab, BinClassification()) for loss in (cross_entropy, rebalanced)
    )
    torch.testing.assert_close(plain, rebalancing)


@pytest.mark.parametrize("loss", [cross_entropy, rebalanced])
def test_a_gray_image_teaches_nothing_and_leaves_the_others_as_they_are(loss):
    # Facts 3.2: weight 0 where no |a| or |b| exceeds 5.
    logits, ab, decoder = case()
    before = value_and_gradient(loss, logits, ab, decoder)[1]
    grayed = ab.clone()
    grayed[0] = 4.9
    gradient = value_and_gradient(loss, logits, grayed, decoder)[1]
    assert (gradient[0] == 0).all() and (before[0] != 0).any()
    torch.testing.assert_close(gradient[1], before[1])
    assert colored(grayed).flatten().tolist() == [0, 1]
    grayed[0, 1, 2, 3] = -5.1
    assert colored(grayed).flatten().tolist() == [1, 1]


def test_two_halves_of_a_batch_average_to_the_whole():
    logits, ab, decoder = case()
    ab[0] = 1.0
    whole = value_and_gradient(rebalanced, logits, ab, decoder)[1]
    halves = [
        value_and_gradient(rebalanced, logits[n : n + 1].detach().requires_grad_(), ab[n : n + 1], decoder)[1]
        for n in range(2)
    ]
    torch.testing.assert_close(whole, torch.cat(halves) / 2)


def test_regression_pays_half_the_squared_distance_in_units_of_110():
    raw = torch.zeros(1, 2, 2, 2, requires_grad=True)
    ab = torch.tensor([33.0, 44.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    (term,) = l2(raw, ab, Regression(), 5).values()
    assert float(term.detach()) == pytest.approx(0.5 * (55 / 110) ** 2)
    torch.testing.assert_close(Regression()(ab / 110), ab)
    term.backward()
    assert raw.grad is not None
    torch.testing.assert_close(raw.grad, -ab / 110 / 4)


def test_losses_leave_half_precision():
    logits, ab, decoder = case()
    (half,) = rebalanced(logits.detach().bfloat16(), ab, decoder, 5).values()
    (whole,) = rebalanced(logits.detach(), ab, decoder, 5).values()
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0, atol=0.02)


def test_a_loss_of_the_other_prediction_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="loss for --output regression named 'rebalanced'; known: l2"):
        lookup("loss for --output regression", "rebalanced", LOSSES["regression"])
