from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densevision.errors import UserError
from densevision.tasks.pose.heatmaps import encode
from densevision.tasks.pose.losses import (
    LOSSES,
    MIN_MAD,
    TUKEY_C,
    WARMUP_BATCHES,
    find_loss,
    heatmaps,
    l2,
    mad,
    smooth_l1,
    tukey,
)
from densevision.tasks.pose.networks import CoordinateNetwork, PoseNetwork, fractions_to_pixels

PLATEAU = 3.6584  # facts 3.5
COORDINATE_LOSSES = {"tukey": tukey, "l2": l2, "smooth-l1": smooth_l1}


def scatter(batch: int = 9, joints: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions, targets, and a mask in which every joint is labeled; float64."""
    rng = torch.Generator().manual_seed(seed)
    predicted, target = torch.rand(2, batch, joints, 2, generator=rng, dtype=torch.float64)
    return predicted, target, torch.ones(batch, joints, dtype=torch.bool)


def value(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def gradient(terms: Any, predicted: Tensor, target: Tensor, mask: Tensor, **options: Any) -> Tensor:
    predicted = predicted.detach().clone().requires_grad_()
    return torch.autograd.grad(value(terms([predicted], target, mask, **options)), predicted)[0]


def outlier_cost(error: float, **options: Any) -> tuple[float, float]:
    """The loss of five images, of which the first has an x error of `error` MADs, and 5 times its derivative by it."""
    # For -2, -1, 0, 1 and any value from 1 on, the median is 0 and the median deviation 1.
    errors = torch.zeros(5, 1, 2, dtype=torch.float64)
    errors[:, 0, 0] = torch.tensor([1.4826 * error, -2, -1, 0, 1])
    predicted = errors.requires_grad_()
    loss = value(tukey([predicted], torch.zeros_like(errors), torch.ones(5, 1, dtype=torch.bool), **options))
    (slope,) = torch.autograd.grad(loss, predicted)
    return loss.item(), 5 * slope[0, 0, 0].item()


# --- Tukey's loss ------------------------------------------------------------------------------------------------


def test_mad_equals_numpys_for_every_output_over_the_batch():
    # Facts 3.5: 1.4826 median |e - median e|. An even batch: the middle two are averaged.
    for batch in (7, 8):
        predicted, target, mask = scatter(batch)
        errors = (predicted - target).numpy()
        expected = 1.4826 * np.median(np.abs(errors - np.median(errors, axis=0)), axis=0)
        np.testing.assert_allclose(mad(predicted - target, mask).numpy(), expected, rtol=1e-12)


def test_mad_is_not_based_on_the_lower_median_of_torch():
    # Facts 3.5, trap. Errors 0, 1, 3, 9: median 2, deviations 2, 1, 1, 7, whose median is 1.5; with lower medians 1.
    errors = torch.tensor([0.0, 1, 3, 9]).view(4, 1, 1).expand(4, 1, 2)
    assert mad(errors, torch.ones(4, 1, dtype=torch.bool))[0].tolist() == pytest.approx([1.4826 * 1.5] * 2, rel=1e-6)
    column = errors[:, 0, 0]
    assert (column - column.median()).abs().median() == 1


def test_tukey_of_hand_computed_errors():
    # One joint, x of three images off by -0.2, 0 and 0.6, y exact. Median 0, deviations .2, 0, .6: MAD = 1.4826 * .2.
    errors = torch.zeros(3, 1, 2, dtype=torch.float64)
    errors[:, 0, 0] = torch.tensor([-0.2, 0, 0.6])
    scale = 1.4826 * 0.2
    costs = [4.6851**2 / 6 * (1 - (1 - (e / scale / 4.6851) ** 2) ** 3) for e in (0.2, 0.6)]
    terms = tukey([errors], torch.zeros_like(errors), torch.ones(3, 1, dtype=torch.bool))
    assert list(terms) == ["tukey"] and terms["tukey"].item() == pytest.approx(sum(costs) / 3)


@pytest.mark.parametrize("error", [4.6851, 5, 50, 1e6])
def test_error_beyond_c_costs_the_plateau_without_gradient(error):
    cost, slope = outlier_cost(error)
    # Facts 3.5: plateau 3.6584. The other four are off by 2, 1, 0 and 1, over a MAD of 1.4826.
    others = [PLATEAU * (1 - (1 - (off / 1.4826 / TUKEY_C) ** 2) ** 3) for off in (2, 1, 0, 1)]
    assert slope == 0 and cost == pytest.approx((PLATEAU + sum(others)) / 5, rel=1e-4)


def test_influence_has_its_maximum_at_2_095():
    # Facts 3.5: psi = r (1 - (r/c)²)², maximum at c / sqrt 5 = 2.095. The derivative is psi / MAD; the authors': psi.
    errors = np.linspace(1.0, 4.6, 721)
    slopes = np.array([outlier_cost(error, grad="authors")[1] for error in errors])
    np.testing.assert_allclose(slopes, errors * (1 - (errors / 4.6851) ** 2) ** 2, rtol=1e-9)
    assert errors[slopes.argmax()] == pytest.approx(2.095, abs=0.005)


def test_authors_gradient_is_autograds_times_the_mad():
    # Facts 3.5, trap: checked ratio = MAD.
    predicted, target, mask = scatter()
    plain = gradient(tukey, predicted, target, mask)
    authors = gradient(tukey, predicted, target, mask, grad="authors")
    torch.testing.assert_close(authors, plain * mad(predicted - target, mask))
    # psi(r) / MAD of every error, including those that determine the MAD (trap: it is a constant for autograd).
    r = (predicted - target) / mad(predicted - target, mask)
    psi = torch.where(r.abs() < 4.6851, r * (1 - (r / 4.6851).square()).square(), 0)
    torch.testing.assert_close(authors, psi / len(predicted))


@pytest.mark.parametrize("grad", ["autograd", "authors"])
def test_gradient_equals_finite_differences_with_constant_mad(grad):
    # Facts 3.5, trap: MAD is a constant for autograd. It does not change for perturbations that keep both medians.
    predicted, target, mask = scatter(9, 2)
    step = 1e-6
    slopes = gradient(tukey, predicted, target, mask, grad=grad)
    scale = mad(predicted - target, mask)
    checked = 0
    for index in np.ndindex(9, 2, 2):
        costs = []
        for sign in (1, -1):
            moved = predicted.clone()
            moved[index] += sign * step
            if not torch.equal(mad(moved - target, mask), scale):
                break
            costs.append(value(tukey([moved], target, mask, grad=grad)).item())
        else:
            checked += 1
            assert slopes[index].item() == pytest.approx((costs[0] - costs[1]) / (2 * step), rel=1e-4, abs=1e-7)
    assert checked >= 20


def test_every_output_has_its_own_scale():
    # Facts 3.5, trap: one global MAD is not the paper's loss. Errors ten times as large in one output cost the same.
    predicted, target, mask = scatter()
    larger = predicted.clone()
    larger[:, 1, 0] = target[:, 1, 0] + 10 * (predicted - target)[:, 1, 0]
    torch.testing.assert_close(value(tukey([larger], target, mask)), value(tukey([predicted], target, mask)))


def test_scale_is_seven_times_as_wide_during_warmup():
    # Facts 3.5: MAD x 7 in the first 50 iterations. 20 is an outlier, and 20 / 7 = 2.857 is not.
    assert outlier_cost(20)[1] == 0
    r = 20 / 7
    assert outlier_cost(20, warmup=True, grad="authors")[1] == pytest.approx(r * (1 - (r / 4.6851) ** 2) ** 2)
    assert outlier_cost(20, warmup=torch.tensor(True)) == outlier_cost(20, warmup=True)
    assert outlier_cost(20, warmup=torch.tensor(False)) == outlier_cost(20)


@pytest.mark.parametrize("grad", ["autograd", "authors"])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_a_batch_of_one_and_equal_errors_are_finite(shift, grad):
    # Facts 3.5, traps: MAD = 0 (constant residual) -> clamp; batch 1 has MAD 0.
    for batch in (1, 4):
        target = scatter(batch)[1]
        predicted, mask = target + shift, torch.ones(batch, 3, dtype=torch.bool)
        assert torch.isfinite(value(tukey([predicted], target, mask, grad=grad)))
        assert torch.isfinite(gradient(tukey, predicted, target, mask, grad=grad)).all()
    assert value(tukey([target], target, mask, grad=grad)) == 0


def test_scale_has_a_minimum_of_a_thousandth_of_the_image():
    predicted, target, mask = scatter()
    near = target + 1e-6 * (predicted - target)
    # For small r, rho is r² / 2.
    expected = ((near - target) / MIN_MAD).square().sum() / 2 / len(predicted)
    torch.testing.assert_close(value(tukey([near], target, mask)), expected, rtol=1e-4, atol=0)


# --- coordinate losses --------------------------------------------------------------------------------------------


def test_l2_and_smooth_l1_of_hand_computed_errors():
    # Two images of one joint, off by (0.3, -0.04) and (0, 0.1). beta = 0.05.
    predicted = torch.tensor([[[0.3, -0.04]], [[0.0, 0.1]]])
    zero, mask = torch.zeros_like(predicted), torch.ones(2, 1, dtype=torch.bool)
    assert l2([predicted], zero, mask)["l2"].item() == pytest.approx((0.3**2 + 0.04**2 + 0.1**2) / 2 / 2)
    smooth = (0.3 - 0.025) + 0.04**2 / 0.1 + (0.1 - 0.025)
    assert smooth_l1([predicted], zero, mask)["smooth_l1"].item() == pytest.approx(smooth / 2)


@pytest.mark.parametrize("name", ["l2", "smooth-l1"])
def test_gradients_equal_finite_differences(name):
    predicted, target, mask = scatter()
    mask[0, 1] = False
    assert torch.autograd.gradcheck(
        lambda points: value(COORDINATE_LOSSES[name]([points], target, mask)), predicted.requires_grad_()
    )


@pytest.mark.parametrize("name", COORDINATE_LOSSES)
def test_unlabeled_joint_changes_neither_value_nor_gradient(name):
    terms = COORDINATE_LOSSES[name]
    predicted, target, mask = scatter()
    mask[2, 1] = mask[5, 1] = mask[4, 0] = False
    before = value(terms([predicted], target, mask))
    changed, wrong = predicted.clone(), target.clone()
    changed[~mask], wrong[~mask] = 1e6, math.nan
    assert torch.equal(value(terms([changed], wrong, mask)), before)
    slopes = gradient(terms, changed, wrong, mask)
    assert not slopes[~mask].any() and slopes[mask].any()


def test_mad_of_an_output_is_over_the_images_that_label_it():
    predicted, target, mask = scatter()
    mask[3:, 1] = False
    errors = predicted - target
    torch.testing.assert_close(mad(errors, mask)[1], mad(errors[:3], mask[:3])[1])
    torch.testing.assert_close(mad(errors, mask)[0], mad(errors, torch.ones_like(mask))[0])


@pytest.mark.parametrize("name", COORDINATE_LOSSES)
def test_loss_is_finite_without_labels_of_a_joint_and_0_without_any_labels(name):
    terms = COORDINATE_LOSSES[name]
    predicted, target, mask = scatter()
    mask[:, 1] = False
    assert torch.isfinite(value(terms([predicted], target, mask)))
    assert torch.isfinite(gradient(terms, predicted, target, mask)).all()
    mask[:] = False
    assert value(terms([predicted], target, mask)) == 0
    assert not gradient(terms, predicted, target, mask).any()


@pytest.mark.parametrize("name", COORDINATE_LOSSES)
def test_every_stage_is_a_separate_term(name):
    predicted, target, mask = scatter()
    terms = COORDINATE_LOSSES[name]
    (first,), (second,) = (terms([each], target, mask).values() for each in (predicted, predicted + 0.1 * target))
    both = terms([predicted, predicted + 0.1 * target], target, mask)
    key = name.replace("-", "_")
    assert list(both) == [f"{key}_1", f"{key}_2"]
    assert torch.equal(both[f"{key}_1"], first) and torch.equal(both[f"{key}_2"], second)


@pytest.mark.parametrize("name", COORDINATE_LOSSES)
def test_loss_of_half_precision_is_computed_in_float32(name):
    predicted, target, mask = scatter()
    terms = COORDINATE_LOSSES[name]([predicted.bfloat16()], target.float(), mask)
    assert all(term.dtype == torch.float32 and term.shape == () for term in terms.values())


# --- heat maps ---------------------------------------------------------------------------------------------------


def test_heat_map_loss_is_half_the_mean_square_over_joints_and_cells():
    # Xiao's JointsMSELoss: half the mean over images, joints and cells; one map of two is unlabeled.
    joints, mask = torch.tensor([[[3.0, 2.0], [1.0, 1.0]]]), torch.tensor([[True, False]])
    target, _ = encode(joints, mask, (5, 7))
    maps = target.clone()
    maps[0, 0, 2, 3] += 0.5
    maps[0, 1] = 100.0
    assert heatmaps(maps, joints, mask)["heatmaps"].item() == pytest.approx(0.5 * 0.25 / (2 * 35))
    assert heatmaps(target, joints, mask)["heatmaps"] == 0


@pytest.mark.parametrize("rounded", [True, False])
def test_heat_map_gradient_equals_finite_differences_and_is_0_for_unlabeled_joints(rounded):
    rng = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 5, 7, generator=rng, dtype=torch.float64).requires_grad_()
    # Unlabeled, outside the map, and inside it.
    joints = torch.tensor([[[1.0, 2], [3.3, 2.2], [6.6, 1]], [[2.0, -3], [1, 1], [5, 4.2]]], dtype=torch.float64)
    mask = torch.ones(2, 3, dtype=torch.bool)
    mask[0, 0] = False

    def cost(maps: Tensor) -> Tensor:
        return heatmaps(maps, joints, mask, rounded=rounded)["heatmaps"]

    assert torch.autograd.gradcheck(cost, maps)
    (slopes,) = torch.autograd.grad(cost(maps), maps)
    unlabeled = torch.tensor([[True, False, True], [True, False, False]])
    assert torch.equal(~slopes.flatten(2).any(-1), unlabeled)


# --- of a network ------------------------------------------------------------------------------------------------


class FixedCoordinates(CoordinateNetwork):
    """Coordinates that do not depend on the image."""

    def __init__(self, *stages: Tensor) -> None:
        super().__init__()
        self.stages = nn.ParameterList(stages)

    def coordinates(self, image: Tensor) -> list[Tensor]:
        return list(self.stages)


class FixedHeatmaps(PoseNetwork):
    output_type = "heatmaps"

    def __init__(self, maps: Tensor, sigma: float = 2.0) -> None:
        super().__init__()
        self.maps, self.sigma = maps, sigma

    def forward(self, image: Tensor) -> Tensor:
        return self.maps


def batch(target: Tensor, mask: Tensor, size: tuple[int, int] = (120, 80)) -> tuple[Tensor, Tensor]:
    """A batch of the training loop: images, and joints in pixels with their flags."""
    joints = torch.cat((fractions_to_pixels(target, size), 2.0 * mask[..., None]), dim=-1).float()
    return torch.empty(len(target), 3, *size, device="meta"), joints


@pytest.mark.parametrize("name", COORDINATE_LOSSES)
def test_coordinates_are_compared_in_fractions_of_the_image(name):
    predicted, target, mask = scatter()
    mask[1, 2] = False
    terms = find_loss(name, FixedCoordinates(predicted.float()).eval())(*batch(target, mask))
    options = {"warmup": True} if name == "tukey" else {}
    torch.testing.assert_close(
        value(terms), value(COORDINATE_LOSSES[name]([predicted], target, mask, **options)).float(), rtol=1e-4, atol=1e-5
    )


def test_heat_maps_are_compared_in_cells_with_the_sigma_of_the_network():
    # Pixel 21.5 is cell 5, and pixel 9.5 is cell 2: (x + 1/2) / 4 - 1/2.
    joints = torch.tensor([[[21.5, 9.5, 2.0], [math.nan, 5.0, 0.0]]])
    target, _ = encode(torch.tensor([[[5.0, 2.0], [0, 0]]]), torch.tensor([[True, False]]), (6, 8), sigma=1.5)
    image = torch.empty(1, 3, 24, 32, device="meta")
    for name in ("heatmaps", "paper"):
        assert find_loss(name, FixedHeatmaps(target, 1.5))(image, joints)["heatmaps"] < 1e-12
    assert find_loss("heatmaps", FixedHeatmaps(target, 2.0))(image, joints)["heatmaps"] > 1e-5
    # Rounded Gaussians do not depend on the position within the cell.
    joints[0, 0, 0] += 1.9
    rounded, _ = encode(torch.tensor([[[5.0, 2.0], [0, 0]]]), torch.tensor([[True, False]]), (6, 8), rounded=True)
    assert find_loss("heatmaps-rounded", FixedHeatmaps(rounded))(image, joints)["heatmaps"] < 1e-12
    assert find_loss("heatmaps", FixedHeatmaps(rounded))(image, joints)["heatmaps"] > 1e-5


def test_tukey_warmup_lasts_50_training_batches_across_a_resume():
    predicted, target, mask = scatter()
    network = FixedCoordinates(predicted.float())
    compare = find_loss("tukey", network)
    data = batch(target, mask)
    warm, cold = (value(tukey([predicted], target, mask, warmup=warmup)).item() for warmup in (True, False))
    network.eval()
    compare(*data)
    assert network.compared == 0  # evaluation mode
    network.train()
    costs = [value(compare(*data)).item() for _ in range(20)]
    resumed = FixedCoordinates(predicted.float())
    resumed.load_state_dict(network.state_dict())
    costs += [value(find_loss("tukey-authors", resumed)(*data)).item() for _ in range(1)]
    compare = find_loss("paper", resumed)
    costs += [value(compare(*data)).item() for _ in range(31)]
    assert WARMUP_BATCHES == 50
    assert costs[:20] + costs[21:50] == pytest.approx([warm] * 49, rel=1e-4)
    assert costs[50:] == pytest.approx([cold] * 2, rel=1e-4)


def test_other_losses_do_not_count_batches():
    predicted, target, mask = scatter()
    network = FixedCoordinates(predicted.float())
    find_loss("l2", network)(*batch(target, mask))
    assert network.compared == 0 and "compared" in network.state_dict()


@pytest.mark.parametrize(
    ("name", "output_type", "hint"),
    [
        ("heatmaps", "coordinates", "use --loss with one of paper, tukey, tukey-authors, l2, smooth-l1"),
        ("tukey", "heatmaps", "use --loss with one of paper, heatmaps, heatmaps-rounded"),
    ],
)
def test_loss_for_another_output_type_is_refused_with_the_applicable_ones(name, output_type, hint):
    network = (
        FixedCoordinates(torch.zeros(1, 1, 2))
        if output_type == "coordinates"
        else FixedHeatmaps(torch.zeros(1, 1, 2, 2))
    )
    with pytest.raises(UserError, match=f"'{name}' does not apply to a model that predicts {output_type}: {hint}"):
        find_loss(name, network)


def test_unknown_loss_gets_the_nearest_name_and_paper_applies_to_every_network():
    network = FixedCoordinates(torch.zeros(1, 1, 2))
    with pytest.raises(UserError, match="did you mean 'tukey'"):
        find_loss("tuckey", network)
    assert next(iter(LOSSES)) == "paper" and set(LOSSES["paper"]) == {"coordinates", "heatmaps"}
