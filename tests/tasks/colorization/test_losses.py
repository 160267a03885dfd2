from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from densevision.errors import UserError
from densevision.tasks.colorization.answers import Classes, Regression
from densevision.tasks.colorization.bins import BINS
from densevision.tasks.colorization.encoding import rarity, soft_targets
from densevision.tasks.colorization.losses import (
    classification,
    coloured,
    find_loss,
    l2,
    rebalanced,
    soft_cross_entropy,
    weighted_gradient,
)


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Classes]:
    """Logits that ask for a gradient, true colours, and an answer with an uneven prior."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, BINS, 3, 4, generator=rng).requires_grad_()
    ab = 120 * torch.rand(2, 2, 3, 4, generator=rng) - 60
    answer = Classes()
    answer.prior.copy_(torch.rand(BINS, generator=rng) ** 6)
    answer.prior.div_(answer.prior.sum())
    return logits, ab, answer


def value_and_gradient(loss, logits, ab, answer):
    (term,) = loss(logits, ab, answer, 5).values()
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
    logits, ab, answer = case()
    plain, plain_gradient = value_and_gradient(classification, logits, ab, answer)
    value, gradient = value_and_gradient(rebalanced, logits, ab, answer)
    torch.testing.assert_close(value, plain)
    index, weight = soft_targets(ab)
    factor = rarity(answer.prior)[index[:, 0]]
    weighted = (soft_cross_entropy(logits, index, weight) * factor).mean()
    torch.testing.assert_close(gradient, torch.autograd.grad(weighted, logits)[0])
    assert abs(float(weighted.detach()) - float(value)) > 1e-2
    assert (gradient - plain_gradient).abs().max() > 1e-4


def test_the_rebalanced_gradient_is_the_finite_difference_of_the_weighted_loss():
    logits, ab, answer = (case(1)[0].detach().double(), *case(1)[1:])
    index, weight = soft_targets(ab.double())
    factor = rarity(answer.prior.double())[index[:, 0]]

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
    plain, rebalancing = (value_and_gradient(loss, logits, ab, Classes()) for loss in (classification, rebalanced))
    torch.testing.assert_close(plain, rebalancing)


@pytest.mark.parametrize("loss", [classification, rebalanced])
def test_a_grey_picture_teaches_nothing_and_leaves_the_others_as_they_are(loss):
    # Facts 3.2: weight 0 where no |a| or |b| exceeds 5.
    logits, ab, answer = case()
    before = value_and_gradient(loss, logits, ab, answer)[1]
    greyed = ab.clone()
    greyed[0] = 4.9
    gradient = value_and_gradient(loss, logits, greyed, answer)[1]
    assert (gradient[0] == 0).all() and (before[0] != 0).any()
    torch.testing.assert_close(gradient[1], before[1])
    assert coloured(greyed).flatten().tolist() == [0, 1]
    greyed[0, 1, 2, 3] = -5.1
    assert coloured(greyed).flatten().tolist() == [1, 1]


def test_two_halves_of_a_batch_average_to_the_whole():
    logits, ab, answer = case()
    ab[0] = 1.0
    whole = value_and_gradient(rebalanced, logits, ab, answer)[1]
    halves = [
        value_and_gradient(rebalanced, logits[n : n + 1].detach().requires_grad_(), ab[n : n + 1], answer)[1]
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
    logits, ab, answer = case()
    (half,) = rebalanced(logits.detach().bfloat16(), ab, answer, 5).values()
    (whole,) = rebalanced(logits.detach(), ab, answer, 5).values()
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0, atol=0.02)


def test_a_loss_of_the_other_answer_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="loss for --answer regression named 'rebalanced'; known: l2"):
        find_loss("regression", "rebalanced")
