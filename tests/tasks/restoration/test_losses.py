"""Losses of restoration, compared with values computed by hand."""

from __future__ import annotations

import pytest
import torch

from densevision.errors import UserError
from densevision.registry import lookup
from densevision.tasks.restoration.losses import CHARBONNIER_EPSILON, LOSSES, charbonnier, interior, l1, l2


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    clean = torch.zeros(2, 3, 4, 5)
    restored = clean.clone()
    restored[0] += 0.1
    restored[1, 0] -= 0.3
    return restored, clean


def test_each_loss_by_hand():
    restored, clean = batch()
    # The error of image 0 is .1 everywhere; of image 1, .3 in one channel.
    assert float(l1(restored, clean)["l1"]) == pytest.approx((0.1 + 0.1) / 2)
    # Half the squared norm: 60 values of .01; 20 values of .09.
    assert float(l2(restored, clean)["l2"]) == pytest.approx((0.6 + 1.8) / 2 / 2)
    smooth = float(charbonnier(restored, clean)["charbonnier"])
    assert 0.1 < smooth < 0.1 + CHARBONNIER_EPSILON


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_finite_for_perfect_predictions_and_decrease_towards_the_target(name):
    restored, clean = batch()
    (value,) = LOSSES[name](restored.requires_grad_(), clean).values()
    value.backward()
    assert restored.grad is not None and float((restored.grad * (restored - clean).detach()).sum()) > 0
    same = clean.clone().requires_grad_()
    (least,) = LOSSES[name](same, clean).values()
    least.backward()
    assert float(least.detach()) <= CHARBONNIER_EPSILON * 1.001
    assert same.grad is not None and bool(same.grad.isfinite().all())


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_the_mean_over_images_and_float32(name):
    restored, clean = batch()
    (whole,) = LOSSES[name](restored, clean).values()
    parts = [next(iter(LOSSES[name](restored[i : i + 1], clean[i : i + 1]).values())) for i in range(2)]
    assert float(whole) == pytest.approx(float(sum(parts)) / 2, rel=1e-5)
    (half,) = LOSSES[name](restored.bfloat16(), clean.bfloat16()).values()
    assert half.dtype == torch.float32


def test_interior_of_a_patch_of_64_is_its_central_56():
    patch = torch.arange(64.0).expand(1, 3, 64, 64)
    # Facts 3.4: clean[4:60, 4:60].
    assert torch.equal(interior(patch, (56, 56)), patch[..., 4:60, 4:60])
    assert interior(patch, (64, 64)).shape == patch.shape


def test_unknown_loss_suggests_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'charbonnier'"):
        lookup("restoration loss", "charbonier", LOSSES)
