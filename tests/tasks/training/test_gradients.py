"""Sums of gradients over the micro-batches of a step."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from densevision.tasks.training.gradients import GradientSum

CPU = torch.device("cpu")


def summed(grads: list[Tensor], micro_batches: int = 4) -> Tensor:
    """The gradient after micro-batches with these gradients."""
    module = nn.Linear(1000, 1, bias=False)
    gradients = GradientSum(module, micro_batches, CPU)
    for number, grad in enumerate(grads):
        module.weight.grad = grad.clone()
        if number < len(grads) - 1:
            gradients.keep()
    gradients.finish()
    assert module.weight.grad is not None
    return module.weight.grad


def test_a_sum_is_the_same_in_every_order():
    # As gradients are: of both signs, over some magnitudes, some of them zero.
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(4, 1, 1000, generator=rng) * 10 ** (4 * torch.rand(4, 1, 1000, generator=rng))
    values[torch.rand(values.shape, generator=rng) < 0.1] = 0
    orders = [list(values[list(order)]) for order in permutations(range(4))]
    one = summed(orders[0])
    assert all(torch.equal(summed(order), one) for order in orders)
    assert torch.equal(one, values.double().sum(0).float())
    # In fp32, it is not.
    rounded = [sum(order, torch.zeros(())) for order in orders]
    assert not all(torch.equal(each, rounded[0]) for each in rounded)


def test_a_parameter_without_a_gradient_in_some_micro_batches_has_the_sum_of_the_others():
    module = nn.Linear(2, 1, bias=False)
    gradients = GradientSum(module, 4, CPU)
    for grad in (torch.tensor([[1.0, 2.0]]), None, torch.tensor([[3.0, 4.0]])):
        module.weight.grad = grad
        gradients.keep()
    module.weight.grad = None
    gradients.finish()
    assert module.weight.grad is not None and module.weight.grad.tolist() == [[4.0, 6.0]]
    module.weight.grad = torch.tensor([[5.0, 6.0]])
    gradients.finish()
    assert module.weight.grad.tolist() == [[5.0, 6.0]]


@pytest.mark.parametrize(("micro_batches", "dtype"), [(1, torch.float32), (2, torch.float32), (3, torch.float64)])
def test_two_micro_batches_have_one_order_and_need_no_fp64(micro_batches, dtype):
    assert GradientSum(nn.Linear(1, 1), micro_batches, CPU).dtype == dtype
