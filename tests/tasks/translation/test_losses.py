"""What the players learn from, on numbers that can be written down."""

from __future__ import annotations

import math

import pytest
import torch

from densevision.datasets.fields import Image, Labels
from densevision.errors import UserError
from densevision.tasks.translation.losses import beside, closeness, opinions


def test_vanilla_is_the_binary_cross_entropy_of_every_patch():
    logits = torch.tensor([[[[0.0, 2.0], [-3.0, 50.0]]]])
    for true in (True, False):
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(true)))
        assert float(opinions("vanilla")(logits, true)) == pytest.approx(float(expected), rel=1e-6)


def test_a_generator_that_is_found_out_still_learns():
    """Facts 3.6: it maximises log D; log(1 - D) would be flat where the discriminator is sure."""
    logit = torch.tensor([-20.0], requires_grad=True)
    opinions("vanilla")(logit, True).backward()
    assert logit.grad is not None and float(logit.grad) == pytest.approx(-1.0, abs=1e-6)


def test_least_squares_measures_the_distance_to_one_or_zero():
    logits = torch.tensor([1.0, 0.5, -1.0])
    assert float(opinions("least-squares")(logits, True)) == pytest.approx((0 + 0.25 + 4) / 3)
    assert float(opinions("least-squares")(logits, False)) == pytest.approx((1 + 0.25 + 1) / 3)


def test_l1_is_that_of_values_from_minus_one_to_one():
    made, true = torch.full((2, 3, 4, 4), 0.75), torch.full((2, 3, 4, 4), 0.25)
    assert float(closeness(Image())(made, true)["l1"]) == pytest.approx(1.0)


def test_cross_entropy_leaves_out_what_has_no_label_and_counts_pictures_alike():
    labels = torch.tensor([[[0, 9], [9, 9]], [[1, 1], [1, 1]]])
    logits = torch.zeros(2, 2, 2, 2)
    logits[1, 1] = 5.0
    found = float(closeness(Labels(("a", "b"), 9))(logits, labels)["cross-entropy"])
    assert found == pytest.approx((math.log(2) + math.log(1 + math.exp(-5.0))) / 2, rel=1e-6)
    nothing = closeness(Labels(("a", "b"), 9))(logits, torch.full((2, 2, 2), 9))
    assert float(nothing["cross-entropy"]) == 0.0


def test_the_discriminator_sees_the_source_beside_the_picture():
    seen = beside(torch.zeros(1, 2, 3, 3), torch.ones(1, 3, 3, 3))
    assert seen.shape == (1, 5, 3, 3)
    assert seen[:, :2].unique().tolist() == [-1.0] and seen[:, 2:].unique().tolist() == [1.0]


def test_an_unknown_loss_gets_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'vanilla'"):
        opinions("vanila")
