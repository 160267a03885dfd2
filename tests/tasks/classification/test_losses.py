from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from densevision.backbones.lenet import output_codes
from densevision.errors import UserError
from densevision.tasks.classification import Classification
from densevision.tasks.classification.losses import LOSSES, REJECT_DISTANCE, SMOOTHING, cross_entropy, map_criterion

from .toys import Linear, fields


def distances(seed: int = 0, batch: int = 4, classes: int = 10, scale: float = 30.0) -> Tensor:
    """What LeNet-5's output units may say: never negative."""
    return torch.rand(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def test_cross_entropy_by_hand():
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    expected = math.log(math.e**2 + 2) - 2
    assert cross_entropy([logits], torch.tensor([0])) == {"cross_entropy": pytest.approx(expected, rel=1e-6)}


def test_three_equal_classifiers_cost_one_and_six_tenths_of_one():
    # trap 10: loss = main + 0.3 aux1 + 0.3 aux2 (facts 1.4)
    logits, category = torch.randn(5, 7), torch.arange(5)
    alone = cross_entropy([logits], category)
    three = cross_entropy([logits] * 3, category)
    assert set(alone) == {"cross_entropy"} and set(three) == {"cross_entropy", "auxiliary"}
    assert float(sum(three.values())) == pytest.approx(1.6 * float(alone["cross_entropy"]), rel=1e-6)


def test_the_first_classifier_is_the_main_one():
    right, wrong, category = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]]), torch.tensor([0])
    terms = cross_entropy([right, wrong], category)
    assert terms["cross_entropy"] < 0.01 and terms["auxiliary"] == pytest.approx(0.3 * 9, rel=1e-3)


def test_smoothing_spreads_a_tenth_of_the_target_over_all_classes():
    # Szegedy et al. 2015, section 7: q = 0.9 [k = y] + 0.1 / K
    logits, category = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 0])
    share = torch.full((6, 4), SMOOTHING / 4)
    share[torch.arange(6), category] += 1 - SMOOTHING
    expected = -(share * logits.log_softmax(1)).sum(1).mean()
    assert float(LOSSES["label-smoothing"]([logits], category)["cross_entropy"]) == pytest.approx(
        float(expected), rel=1e-5
    )
    assert SMOOTHING == 0.1


def test_smoothing_reaches_the_auxiliary_classifiers_too():
    logits, category = torch.randn(3, 4), torch.tensor([0, 1, 2])
    terms = LOSSES["label-smoothing"]([logits, logits], category)
    assert float(terms["auxiliary"]) == pytest.approx(0.3 * float(terms["cross_entropy"]), rel=1e-6)


def test_the_map_criterion_by_hand():
    # facts 1.1, eq. 9: y_t + log(e^-j + sum_i e^-y_i)
    y, j = [1.0, 2.0, 0.5], 3.0
    expected = y[1] + math.log(math.exp(-j) + sum(math.exp(-value) for value in y))
    assert float(map_criterion([-torch.tensor([y])], torch.tensor([1]), j)["map"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0, 600.0])
def test_the_map_criterion_is_above_0_wherever_the_distances_are(scale):
    # facts 1.1: the log term contains e^-y_t. Adding the rubbish class keeps it so in fp32 where it does not underflow.
    y = distances(scale=scale)
    assert all(map_criterion([-y[n : n + 1]], y[n].argmax()[None])["map"] > 0 for n in range(len(y)))
    if scale <= 1:
        assert all(map_criterion([-y[n : n + 1]], y[n].argmin()[None])["map"] > 0 for n in range(len(y)))


def test_the_map_criterions_gradient_is_the_one_of_the_facts():
    # facts 1.1: dE/dy_i = 1[i = t] - softmax_i of (-y, -j)
    y, category, j = distances().requires_grad_(), torch.tensor([3, 0, 9, 3]), 2.0
    map_criterion([-y], category, j)["map"].mul(len(y)).backward()
    shares = torch.cat([-y.detach(), torch.full((4, 1), -j, dtype=torch.float64)], 1).softmax(1)[:, :-1]
    expected = torch.nn.functional.one_hot(category, 10) - shares
    assert y.grad is not None
    torch.testing.assert_close(y.grad, expected, rtol=1e-12, atol=1e-12)


def test_the_map_criterion_pushes_no_wrong_class_beyond_the_rubbish():
    # Where all distances lie far beyond j, only the true one is pulled.
    y = torch.full((1, 10), REJECT_DISTANCE + 30, requires_grad=True)
    map_criterion([-y], torch.tensor([4]))["map"].backward()
    assert y.grad is not None
    assert y.grad[0, 4] == pytest.approx(1, abs=1e-6) and y.grad[0].abs().sum() == pytest.approx(1, abs=1e-6)


def test_the_rubbish_class_lies_midway_between_the_two_most_similar_characters():
    codes = output_codes(10)
    apart = (codes[:, None] - codes).square().sum(-1)
    nearest = float(apart[apart > 0].min())
    # A place that differs counts 2² = 4; half the way counts a quarter of the square.
    assert REJECT_DISTANCE == pytest.approx(17) == nearest / 4


def test_the_map_criterion_refuses_a_backbone_with_auxiliary_classifiers_in_one_sentence():
    with pytest.raises(UserError, match="'map' supports one classifier"):
        map_criterion([torch.zeros(1, 3)] * 3, torch.tensor([0]))


@pytest.mark.parametrize("loss", Classification.losses)
def test_every_loss_is_finite_in_fp32_under_bf16_and_reaches_the_weights(loss):
    task, backbone = Classification(), Linear()
    (phase,) = task.phases(task.build(fields(), backbone, None, None), fields(), loss)
    batch = {"image": torch.rand(4, 3, 8, 8), "category": torch.tensor([0, 1, 2, 0])}
    with torch.autocast("cpu", torch.bfloat16):
        terms = phase.loss(batch, {})
    sum(terms.values(), torch.zeros(())).backward()
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms.values())
    assert backbone.fc.weight.grad is not None and backbone.fc.weight.grad.abs().sum() > 0


def test_the_training_sees_the_auxiliary_classifiers_of_the_backbone():
    task = Classification()
    (phase,) = task.phases(task.build(fields(), Linear(auxiliary=2), None, None), fields(), "cross-entropy")
    batch = {"image": torch.rand(2, 3, 8, 8), "category": torch.tensor([0, 1])}
    terms = phase.loss(batch, {})
    assert terms["auxiliary"].item() == pytest.approx(0.6 * terms["cross_entropy"].item(), rel=1e-6)
