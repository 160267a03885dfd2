"""Adversarial and reconstruction losses against hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch

from densevision.datasets.field_types import Image, SegmentationMask
from densevision.errors import UserError
from densevision.registry import lookup
from densevision.tasks.translation.losses import ADVERSARIAL_LOSSES, concat_condition, reconstruction_loss


def test_vanilla_is_the_binary_cross_entropy_of_every_patch():
    logits = torch.tensor([[[[0.0, 2.0], [-3.0, 50.0]]]])
    for real in (True, False):
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
        assert float(ADVERSARIAL_LOSSES["vanilla"](logits, real)) == pytest.approx(float(expected), rel=1e-6)


def test_generator_loss_has_a_gradient_for_a_confident_discriminator():
    """Facts 3.6: it maximizes log D; log(1 - D) would be flat for a confident discriminator."""
    logit = torch.tensor([-20.0], requires_grad=True)
    ADVERSARIAL_LOSSES["vanilla"](logit, True).backward()
    assert logit.grad is not None and float(logit.grad) == pytest.approx(-1.0, abs=1e-6)


def test_least_squares_measures_the_distance_to_one_or_zero():
    logits = torch.tensor([1.0, 0.5, -1.0])
    assert float(ADVERSARIAL_LOSSES["least-squares"](logits, True)) == pytest.approx((0 + 0.25 + 4) / 3)
    assert float(ADVERSARIAL_LOSSES["least-squares"](logits, False)) == pytest.approx((1 + 0.25 + 1) / 3)


def test_l1_is_of_values_from_minus_1_to_1():
    fake, real = torch.full((2, 3, 4, 4), 0.75), torch.full((2, 3, 4, 4), 0.25)
    assert float(reconstruction_loss(Image())(fake, real)["G_L1"]) == pytest.approx(1.0)


def test_cross_entropy_ignores_unlabeled_pixels_and_weighs_images_equally():
    labels = torch.tensor([[[0, 9], [9, 9]], [[1, 1], [1, 1]]])
    logits = torch.zeros(2, 2, 2, 2)
    logits[1, 1] = 5.0
    loss = float(reconstruction_loss(SegmentationMask(("a", "b"), 9))(logits, labels)["cross-entropy"])
    assert loss == pytest.approx((math.log(2) + math.log(1 + math.exp(-5.0))) / 2, rel=1e-6)
    unlabeled = reconstruction_loss(SegmentationMask(("a", "b"), 9))(logits, torch.full((2, 2, 2), 9))
    assert float(unlabeled["cross-entropy"]) == 0.0


def test_discriminator_input_is_source_and_image():
    pair = concat_condition(torch.zeros(1, 2, 3, 3), torch.ones(1, 3, 3, 3))
    assert pair.shape == (1, 5, 3, 3)
    assert pair[:, :2].unique().tolist() == [-1.0] and pair[:, 2:].unique().tolist() == [1.0]


def test_unknown_loss_gets_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'vanilla'"):
        lookup("loss of the task translation", "vanila", ADVERSARIAL_LOSSES)
