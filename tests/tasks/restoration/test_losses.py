"""Losses of restoration by hand."""

from __future__ import annotations

import pytest
import torch

from densevision.errors import UserError
from densevision.tasks.restoration.losses import CHARBONNIER_EPSILON, LOSSES, charbonnier, find_loss, interior, l1, l2


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    clean = torch.zeros(2, 3, 4, 5)
    restored = clean.clone()
    restored[0] += 0.1
    restored[1, 0] -= 0.3
    return restored, clean


def test_each_loss_by_hand():
    restored, clean = batch()
    # Picture 0 errs by .1 everywhere; picture 1 by .3 in one colour of three.
    assert float(l1(restored, clean)["l1"]) == pytest.approx((0.1 + 0.1) / 2)
    # Half the squared norm: 60 values of .01; 20 values of .09.
    assert float(l2(restored, clean)["l2"]) == pytest.approx((0.6 + 1.8) / 2 / 2)
    smooth = float(charbonnier(restored, clean)["charbonnier"])
    assert 0.1 < smooth < 0.1 + CHARBONNIER_EPSILON


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_where_nothing_is_wrong_and_falls_towards_the_truth(name):
    restored, clean = batch()
    (value,) = find_loss(name)(restored.requires_grad_(), clean).values()
    value.backward()
    assert restored.grad is not None and float((restored.grad * (restored - clean).detach()).sum()) > 0
    same = clean.clone().requires_grad_()
    (least,) = find_loss(name)(same, clean).values()
    least.backward()
    assert float(least.detach()) <= CHARBONNIER_EPSILON * 1.001
    assert same.grad is not None and bool(same.grad.isfinite().all())


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_is_the_mean_of_its_pictures_and_half_precision_is_left(name):
    restored, clean = batch()
    (whole,) = find_loss(name)(restored, clean).values()
    parts = [next(iter(find_loss(name)(restored[i : i + 1], clean[i : i + 1]).values())) for i in range(2)]
    assert float(whole) == pytest.approx(float(sum(parts)) / 2, rel=1e-5)
    (half,) = find_loss(name)(restored.bfloat16(), clean.bfloat16()).values()
    assert half.dtype == torch.float32


def test_the_interior_of_a_patch_of_64_is_its_middle_56():
    patch = torch.arange(64.0).expand(1, 3, 64, 64)
    # Facts 3.4: clean[4:60, 4:60].
    assert torch.equal(interior(patch, (56, 56)), patch[..., 4:60, 4:60])
    assert interior(patch, (64, 64)).shape == patch.shape


def test_an_unknown_loss_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'charbonnier'"):
        find_loss("charbonier")
