from __future__ import annotations

import pytest
import torch
from torch import Tensor

from densevision.errors import UserError
from densevision.registry import lookup
from densevision.tasks.flow.losses import (
    LEVEL_WEIGHTS,
    LOSSES,
    downsample_ground_truth,
    level_weight,
    multiscale,
    robust,
    sequence,
)

FACTS_WEIGHTS = {64: 0.32, 32: 0.08, 16: 0.02, 8: 0.01, 4: 0.005}  # facts 3.3: w(flow6..flow2)


def constant(u: float, v: float, size: tuple[int, int] = (64, 128), batch_size: int = 1) -> Tensor:
    """Constant flow, (B, 2, H, W)."""
    return torch.tensor([float(u), float(v)]).view(1, 2, 1, 1).expand(batch_size, 2, *size).clone()


def full_mask(flow: Tensor) -> Tensor:
    return torch.ones(len(flow), *flow.shape[2:], dtype=torch.bool)


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def random_case(seed: int = 0, batch_size: int = 2) -> tuple[list[Tensor], Tensor, Tensor]:
    """Predictions at strides 16, 8 and 4, ground truth of 32x48, 0 where unknown as in batches, and its mask."""
    rng = torch.Generator().manual_seed(seed)
    pyramid = [8 * torch.randn(batch_size, 2, 32 // stride, 48 // stride, generator=rng) for stride in (16, 8, 4)]
    mask = torch.rand(batch_size, 32, 48, generator=rng) < 0.6
    return pyramid, 8 * torch.randn(batch_size, 2, 32, 48, generator=rng) * mask[:, None], mask


@pytest.mark.parametrize("stride", FACTS_WEIGHTS)
def test_multiscale_sums_errors_in_units_of_20_pixels_times_the_weight_of_the_stride(stride):
    # Facts 3.3: |(60, 80)| = 100 px is 5 units; summed over the pixels of the level, not averaged.
    flow = constant(60, 80)
    pixels = (64 // stride) * (128 // stride)
    terms = multiscale([constant(0, 0, (64 // stride, 128 // stride))], flow, full_mask(flow))
    assert list(terms) == [f"stride_{stride}"]
    assert terms[f"stride_{stride}"].item() == pytest.approx(FACTS_WEIGHTS[stride] * 5 * pixels, rel=1e-6)


def test_robust_is_the_l1_norm_to_the_power_0_4():
    # (60 + 80) / 20 = 7 units: (7 + 0.01)^0.4 for each of 2 pixels at stride 64; epsilon and q of PWC-Net.
    flow = constant(60, -80)
    (term,) = robust([constant(0, 0, (1, 2))], flow, full_mask(flow)).values()
    assert term.item() == pytest.approx(0.32 * 7.01**0.4 * 2, rel=1e-6)


def test_sequence_weights_later_predictions_more_by_hand():
    # |u| + |v| is 4, 2 and 1, with weights 0.8², 0.8 and 1 (facts 3.3: gamma 0.8).
    flow = constant(3, -1)
    pyramid = [constant(3 + 2, -1 - 2, (8, 16)), constant(3, -3, (16, 32)), constant(4, -1)]
    terms = sequence(pyramid, flow, full_mask(flow))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {"estimate_1": 0.64 * 4, "estimate_2": 0.8 * 2, "estimate_3": 1.0}
    )


def test_sequence_ignores_motion_of_400_pixels_and_more():
    # Facts 3.3: "pixels with |g| >= 400 ignored". 240-320-400; the mean is over the others.
    flow = constant(240, 320, (2, 2))
    flow[..., 0, 0] = torch.tensor([239.9, 320])
    (term,) = sequence([flow + torch.tensor([5.0, 0]).view(1, 2, 1, 1)], flow, full_mask(flow)).values()
    assert term.item() == pytest.approx(5, rel=1e-4)
    flow[..., 0, 0] = torch.tensor([240.0, 320])
    assert total(sequence([torch.zeros_like(flow)], flow, full_mask(flow))).item() == 0


@pytest.mark.parametrize("stride", FACTS_WEIGHTS)
def test_weights_are_those_of_the_released_code(stride):
    assert level_weight(stride) == LEVEL_WEIGHTS[stride] == FACTS_WEIGHTS[stride]


def test_weights_of_other_strides_scale_with_the_area_or_equal_the_coarsest():
    assert (level_weight(2), level_weight(1)) == pytest.approx((0.005 / 4, 0.005 / 16))
    assert level_weight(128) == level_weight(256) == 0.32
    # The same error has the same loss at stride 4 and at full resolution.
    flow = constant(20, 0)
    fine, coarse = (total(multiscale([constant(0, 0, size)], flow, full_mask(flow))) for size in ((64, 128), (16, 32)))
    torch.testing.assert_close(fine, coarse)


def test_predictions_of_the_same_resolution_are_added():
    # All predictions of RAFT have full resolution; in a 16x16 image strides 16, 32 and 64 are one pixel each.
    flow = constant(0, 0, (16, 16))
    pyramid = [constant(20 * error, 0, (1, 1)) for error in (1, 2, 4)]
    assert total(multiscale(pyramid, flow, full_mask(flow))).item() == pytest.approx(0.02 * (1 + 2 + 4))
    pyramid = [constant(20 * error, 0, (16, 16)) for error in (1, 2, 4)]
    assert total(multiscale(pyramid, flow, full_mask(flow))).item() == pytest.approx(0.005 / 16 * 7 * 256)


@pytest.mark.parametrize("height", [64, 61, 67, 80, 97])
def test_the_stride_of_a_level_is_recognized_at_odd_image_sizes(height):
    flow = constant(1, 1, (height, 2 * height + 1))
    for stride in (4, 8, 16, 32):
        size = (-(-height // stride), -(-(2 * height + 1) // stride))
        assert list(multiscale([constant(1, 1, size)], flow, full_mask(flow))) == [f"stride_{stride}"]


def test_downsampled_ground_truth_is_the_mean_of_known_pixels_by_hand():
    # Cells of 2x2: 1 and 3 known -> 2; only 8 known -> 8; none known; all four known -> (4 + 6 + 8 + 10) / 4.
    u = torch.tensor([[1.0, 3, 8, 0], [0, 0, 0, 0], [0, 0, 4, 6], [0, 0, 8, 10]])
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.bool)
    mean, known = downsample_ground_truth(torch.stack([u, -2 * u])[None], mask[None], (2, 2))
    torch.testing.assert_close(mean[0, 0], torch.tensor([[2.0, 8], [0, 7]]))
    torch.testing.assert_close(mean[0, 1], -2 * mean[0, 0])
    assert known[0].tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize("size", [(32, 48), (16, 24), (8, 12), (3, 5), (1, 1), (7, 48)])
def test_downsampled_ground_truth_is_not_rescaled(size):
    # Facts 3.3: down-sampled "without rescaling values", and trap: the ground truth is never divided twice.
    mask = torch.rand(2, 32, 48, generator=torch.Generator().manual_seed(1)) < 0.5
    flow = constant(13, -7, (32, 48), batch_size=2) * mask[:, None]
    mean, known = downsample_ground_truth(flow, mask, size)
    expected = constant(13, -7, size, batch_size=2) * known[:, None]
    torch.testing.assert_close(mean, expected)
    assert mean.dtype == torch.float32 and known.dtype == torch.bool and known.shape == (2, *size)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_prediction_has_a_finite_gradient_of_zero(name):
    # Facts 3.3, trap: the gradient of the square root of a sum of squares is nan at 0.
    flow = constant(9, -4, (16, 16))
    pyramid = [constant(9, -4, size).requires_grad_() for size in ((4, 4), (16, 16))]
    loss = total(LOSSES[name](pyramid, flow, full_mask(flow)))
    for gradient in torch.autograd.grad(loss, pyramid):
        assert torch.equal(gradient, torch.zeros_like(gradient))
    if name != "robust":  # a zero error costs 0.01^0.4
        assert loss.item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_match_finite_differences(name):
    pyramid, flow, mask = random_case()
    sizes = [prediction.shape for prediction in pyramid]
    flat = torch.cat([prediction.flatten() for prediction in pyramid])

    def loss(values: Tensor) -> Tensor:
        parts = values.split([size.numel() for size in sizes])
        return total(LOSSES[name]([part.view(size) for part, size in zip(parts, sizes, strict=True)], flow, mask))

    (gradient,) = torch.autograd.grad(loss(flat.requires_grad_()), flat)
    direction = torch.randn(flat.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        slope = (loss(flat + 0.01 * direction) - loss(flat - 0.01 * direction)) / 0.02
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_predictions_at_unknown_pixels_do_not_count(name):
    pyramid, flow, mask = random_case()
    mask[:, :16, 8:40] = False
    flow = flow * mask[:, None]
    if name == "sequence":  # upsamples predictions: a coarse one affects known pixels everywhere
        pyramid = [8 * torch.randn(flow.shape, generator=torch.Generator().manual_seed(3))]
    changed = []
    for prediction in pyramid:
        _, known = downsample_ground_truth(flow, mask, (prediction.shape[-2], prediction.shape[-1]))
        assert not known.all()
        changed.append(prediction + 1000 * ~known[:, None])
    before, after = (total(LOSSES[name](each, flow, mask)) for each in (pyramid, changed))
    assert torch.equal(before, after)


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_without_known_pixels_has_zero_loss_and_zero_gradient(name):
    pyramid, flow, mask = random_case()
    pyramid = [prediction.requires_grad_() for prediction in pyramid]
    empty_mask = torch.zeros_like(mask)
    loss = total(LOSSES[name](pyramid, torch.zeros_like(flow), empty_mask))
    assert loss.item() == 0
    for gradient in torch.autograd.grad(loss, pyramid):
        assert torch.equal(gradient, torch.zeros_like(gradient))
    # In a batch with a known image, it still counts in the mean over images.
    mask[1] = False
    alone = total(LOSSES[name]([prediction[:1] for prediction in pyramid], flow[:1], mask[:1]))
    both = total(LOSSES[name](pyramid, flow * mask[:, None], mask))
    torch.testing.assert_close(both, alone / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_every_image_has_the_same_weight(name):
    pyramid, flow, mask = random_case(batch_size=3)
    mask[0, 4:] = False
    flow = flow * mask[:, None]
    each = [total(LOSSES[name]([p[i : i + 1] for p in pyramid], flow[i : i + 1], mask[i : i + 1])) for i in range(3)]
    torch.testing.assert_close(total(LOSSES[name](pyramid, flow, mask)), torch.stack(each).mean())


@pytest.mark.parametrize("name", ["multiscale", "robust"])
def test_an_image_of_twice_the_height_has_twice_the_loss(name):
    # Facts 3.3, trap: the weights assume the sum over the pixels of an image, not their mean.
    pyramid, flow, mask = random_case()
    doubled = [torch.cat([maps, maps], dim=-2) for maps in (*pyramid, flow, mask)]
    once, twice = (total(LOSSES[name](each[:-2], *each[-2:])) for each in ([*pyramid, flow, mask], doubled))
    torch.testing.assert_close(twice, 2 * once)


@pytest.mark.parametrize("name", LOSSES)
def test_terms_are_named_float32_scalars_also_for_half_precision(name):
    pyramid, flow, mask = random_case()
    terms = LOSSES[name]([prediction.bfloat16() for prediction in pyramid], flow.bfloat16(), mask)
    assert len(terms) == len(pyramid)
    assert all(term.shape == () and term.dtype == torch.float32 for term in terms.values())


def test_the_papers_loss_is_the_default_and_unknown_names_get_the_nearest():
    assert next(iter(LOSSES)) == "multiscale"
    assert LOSSES["robust"] is robust
    with pytest.raises(UserError, match="did you mean 'multiscale'"):
        lookup("loss of the task flow", "multi-scale", LOSSES)
