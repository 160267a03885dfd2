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
    SMALLEST_MAD,
    TUKEY_C,
    WARM_BATCHES,
    find_loss,
    heatmaps,
    l2,
    mad,
    smooth_l1,
    tukey,
)
from densevision.tasks.pose.networks import CoordinateNetwork, PoseNetwork, from_fractions

PLATEAU = 3.6584  # facts 3.5
ON_COORDINATES = {"tukey": tukey, "l2": l2, "smooth-l1": smooth_l1}


def scatter(batch: int = 9, joints: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """What was made, the truth, and a mask in which every joint is labelled; float64."""
    rng = torch.Generator().manual_seed(seed)
    made, truth = torch.rand(2, batch, joints, 2, generator=rng, dtype=torch.float64)
    return made, truth, torch.ones(batch, joints, dtype=torch.bool)


def value(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def gradient(terms: Any, made: Tensor, truth: Tensor, mask: Tensor, **options: Any) -> Tensor:
    made = made.detach().clone().requires_grad_()
    return torch.autograd.grad(value(terms([made], truth, mask, **options)), made)[0]


def of_error(error: float, **options: Any) -> tuple[float, float]:
    """The cost of five pictures, of which the first is off by so many MADs in x, and five times its slope there."""
    # Of -2, -1, 0, 1 and anything from 1 on the median is 0 and the median deviation 1.
    errors = torch.zeros(5, 1, 2, dtype=torch.float64)
    errors[:, 0, 0] = torch.tensor([1.4826 * error, -2, -1, 0, 1])
    made = errors.requires_grad_()
    loss = value(tukey([made], torch.zeros_like(errors), torch.ones(5, 1, dtype=torch.bool), **options))
    (slope,) = torch.autograd.grad(loss, made)
    return loss.item(), 5 * slope[0, 0, 0].item()


# --- Tukey's loss ------------------------------------------------------------------------------------------------


def test_mad_is_numpys_of_every_output_over_the_batch():
    # Facts 3.5: 1.4826 median |e - median e|. An even batch: the middle two are averaged.
    for batch in (7, 8):
        made, truth, mask = scatter(batch)
        errors = (made - truth).numpy()
        expected = 1.4826 * np.median(np.abs(errors - np.median(errors, axis=0)), axis=0)
        np.testing.assert_allclose(mad(made - truth, mask).numpy(), expected, rtol=1e-12)


def test_the_lower_median_of_torch_would_be_another_scale():
    # Facts 3.5, trap. Errors 0, 1, 3, 9: median 2, deviations 2, 1, 1, 7, whose median is 1.5; by lower medians, 1.
    errors = torch.tensor([0.0, 1, 3, 9]).view(4, 1, 1).expand(4, 1, 2)
    assert mad(errors, torch.ones(4, 1, dtype=torch.bool))[0].tolist() == pytest.approx([1.4826 * 1.5] * 2, rel=1e-6)
    line = errors[:, 0, 0]
    assert (line - line.median()).abs().median() == 1


def test_tukey_by_hand():
    # One joint, x of three pictures off by -0.2, 0 and 0.6, y right. Median 0, deviations .2, 0, .6: MAD = 1.4826 * .2.
    errors = torch.zeros(3, 1, 2, dtype=torch.float64)
    errors[:, 0, 0] = torch.tensor([-0.2, 0, 0.6])
    scale = 1.4826 * 0.2
    costs = [4.6851**2 / 6 * (1 - (1 - (e / scale / 4.6851) ** 2) ** 3) for e in (0.2, 0.6)]
    terms = tukey([errors], torch.zeros_like(errors), torch.ones(3, 1, dtype=torch.bool))
    assert list(terms) == ["tukey"] and terms["tukey"].item() == pytest.approx(sum(costs) / 3)


@pytest.mark.parametrize("error", [4.6851, 5, 50, 1e6])
def test_beyond_c_an_error_costs_the_plateau_and_pulls_no_more(error):
    cost, slope = of_error(error)
    # Facts 3.5: plateau 3.6584. The other four are off by 2, 1, 0 and 1, over a MAD of 1.4826.
    others = [PLATEAU * (1 - (1 - (off / 1.4826 / TUKEY_C) ** 2) ** 3) for off in (2, 1, 0, 1)]
    assert slope == 0 and cost == pytest.approx((PLATEAU + sum(others)) / 5, rel=1e-4)


def test_influence_is_largest_at_2_095_by_hand():
    # Facts 3.5: psi = r (1 - (r/c)²)², maximum at c / sqrt 5 = 2.095. The slope is psi / MAD, or psi as the authors'.
    errors = np.linspace(1.0, 4.6, 721)
    slopes = np.array([of_error(error, grad="authors")[1] for error in errors])
    np.testing.assert_allclose(slopes, errors * (1 - (errors / 4.6851) ** 2) ** 2, rtol=1e-9)
    assert errors[slopes.argmax()] == pytest.approx(2.095, abs=0.005)


def test_the_authors_gradient_is_autograds_times_the_mad():
    # Facts 3.5, trap: checked ratio = MAD.
    made, truth, mask = scatter()
    plain = gradient(tukey, made, truth, mask)
    authors = gradient(tukey, made, truth, mask, grad="authors")
    torch.testing.assert_close(authors, plain * mad(made - truth, mask))
    # psi(r) / MAD of every error, those that make the MAD not excepted (trap: it is a constant for autograd).
    r = (made - truth) / mad(made - truth, mask)
    psi = torch.where(r.abs() < 4.6851, r * (1 - (r / 4.6851).square()).square(), 0)
    torch.testing.assert_close(authors, psi / len(made))


@pytest.mark.parametrize("grad", ["autograd", "authors"])
def test_the_gradient_is_that_of_finite_differences_with_the_mad_held_fast(grad):
    # Facts 3.5, trap: MAD is a constant for autograd. Moved errors that keep both medians leave it alone.
    made, truth, mask = scatter(9, 2)
    step = 1e-6
    slopes = gradient(tukey, made, truth, mask, grad=grad)
    scale = mad(made - truth, mask)
    tried = 0
    for place in np.ndindex(9, 2, 2):
        costs = []
        for sign in (1, -1):
            moved = made.clone()
            moved[place] += sign * step
            if not torch.equal(mad(moved - truth, mask), scale):
                break
            costs.append(value(tukey([moved], truth, mask, grad=grad)).item())
        else:
            tried += 1
            assert slopes[place].item() == pytest.approx((costs[0] - costs[1]) / (2 * step), rel=1e-4, abs=1e-7)
    assert tried >= 20


def test_every_output_has_its_own_scale():
    # Facts 3.5, trap: one global MAD is not the paper's loss. Errors ten times as large in one output cost the same.
    made, truth, mask = scatter()
    larger = made.clone()
    larger[:, 1, 0] = truth[:, 1, 0] + 10 * (made - truth)[:, 1, 0]
    torch.testing.assert_close(value(tukey([larger], truth, mask)), value(tukey([made], truth, mask)))


def test_the_scale_is_seven_times_as_wide_in_the_beginning():
    # Facts 3.5: MAD x 7 in the first 50 iterations. 20 is far out, and 20 / 7 = 2.857 is not.
    assert of_error(20)[1] == 0
    r = 20 / 7
    assert of_error(20, warm=True, grad="authors")[1] == pytest.approx(r * (1 - (r / 4.6851) ** 2) ** 2)
    assert of_error(20, warm=torch.tensor(True)) == of_error(20, warm=True)
    assert of_error(20, warm=torch.tensor(False)) == of_error(20)


@pytest.mark.parametrize("grad", ["autograd", "authors"])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_a_batch_of_one_and_equal_errors_are_finite(shift, grad):
    # Facts 3.5, traps: MAD = 0 (constant residual) -> clamp; batch 1 has MAD 0.
    for batch in (1, 4):
        truth = scatter(batch)[1]
        made, mask = truth + shift, torch.ones(batch, 3, dtype=torch.bool)
        assert torch.isfinite(value(tukey([made], truth, mask, grad=grad)))
        assert torch.isfinite(gradient(tukey, made, truth, mask, grad=grad)).all()
    assert value(tukey([truth], truth, mask, grad=grad)) == 0


def test_below_a_thousandth_of_the_side_errors_are_no_longer_enlarged():
    made, truth, mask = scatter()
    near = truth + 1e-6 * (made - truth)
    # There rho is r² / 2.
    expected = ((near - truth) / SMALLEST_MAD).square().sum() / 2 / len(made)
    torch.testing.assert_close(value(tukey([near], truth, mask)), expected, rtol=1e-4, atol=0)


# --- all of coordinates ------------------------------------------------------------------------------------------


def test_l2_and_smooth_l1_by_hand():
    # Two pictures of one joint, off by (0.3, -0.04) and (0, 0.1). beta = 0.05.
    made = torch.tensor([[[0.3, -0.04]], [[0.0, 0.1]]])
    zero, mask = torch.zeros_like(made), torch.ones(2, 1, dtype=torch.bool)
    assert l2([made], zero, mask)["l2"].item() == pytest.approx((0.3**2 + 0.04**2 + 0.1**2) / 2 / 2)
    smooth = (0.3 - 0.025) + 0.04**2 / 0.1 + (0.1 - 0.025)
    assert smooth_l1([made], zero, mask)["smooth_l1"].item() == pytest.approx(smooth / 2)


@pytest.mark.parametrize("name", ["l2", "smooth-l1"])
def test_gradients_are_those_of_finite_differences(name):
    made, truth, mask = scatter()
    mask[0, 1] = False
    assert torch.autograd.gradcheck(
        lambda made: value(ON_COORDINATES[name]([made], truth, mask)), made.requires_grad_()
    )


@pytest.mark.parametrize("name", ON_COORDINATES)
def test_an_unlabelled_joint_reaches_neither_value_nor_gradient(name):
    terms = ON_COORDINATES[name]
    made, truth, mask = scatter()
    mask[2, 1] = mask[5, 1] = mask[4, 0] = False
    before = value(terms([made], truth, mask))
    changed, wrong = made.clone(), truth.clone()
    changed[~mask], wrong[~mask] = 1e6, math.nan
    assert torch.equal(value(terms([changed], wrong, mask)), before)
    moves = gradient(terms, changed, wrong, mask)
    assert not moves[~mask].any() and moves[mask].any()


def test_the_mad_of_an_output_is_over_the_pictures_that_know_it():
    made, truth, mask = scatter()
    mask[3:, 1] = False
    errors = made - truth
    torch.testing.assert_close(mad(errors, mask)[1], mad(errors[:3], mask[:3])[1])
    torch.testing.assert_close(mad(errors, mask)[0], mad(errors, torch.ones_like(mask))[0])


@pytest.mark.parametrize("name", ON_COORDINATES)
def test_a_joint_that_nobody_knows_and_a_batch_without_joints_cost_nothing(name):
    terms = ON_COORDINATES[name]
    made, truth, mask = scatter()
    mask[:, 1] = False
    assert torch.isfinite(value(terms([made], truth, mask)))
    assert torch.isfinite(gradient(terms, made, truth, mask)).all()
    mask[:] = False
    assert value(terms([made], truth, mask)) == 0
    assert not gradient(terms, made, truth, mask).any()


@pytest.mark.parametrize("name", ON_COORDINATES)
def test_every_stage_is_a_term_of_its_own(name):
    made, truth, mask = scatter()
    terms = ON_COORDINATES[name]
    (alone,), (other,) = (terms([each], truth, mask).values() for each in (made, made + 0.1 * truth))
    both = terms([made, made + 0.1 * truth], truth, mask)
    key = name.replace("-", "_")
    assert list(both) == [f"{key}_1", f"{key}_2"]
    assert torch.equal(both[f"{key}_1"], alone) and torch.equal(both[f"{key}_2"], other)


@pytest.mark.parametrize("name", ON_COORDINATES)
def test_halves_are_compared_in_full_precision(name):
    made, truth, mask = scatter()
    terms = ON_COORDINATES[name]([made.bfloat16()], truth.float(), mask)
    assert all(term.dtype == torch.float32 and term.shape == () for term in terms.values())


# --- heat maps ---------------------------------------------------------------------------------------------------


def test_heat_maps_cost_half_the_mean_square_over_joints_and_cells_by_hand():
    # Xiao's JointsMSELoss: half the mean over pictures, joints and cells; one map of two is unlabelled.
    joints, mask = torch.tensor([[[3.0, 2.0], [1.0, 1.0]]]), torch.tensor([[True, False]])
    truth, _ = encode(joints, mask, (5, 7))
    maps = truth.clone()
    maps[0, 0, 2, 3] += 0.5
    maps[0, 1] = 100.0
    assert heatmaps(maps, joints, mask)["heatmaps"].item() == pytest.approx(0.5 * 0.25 / (2 * 35))
    assert heatmaps(truth, joints, mask)["heatmaps"] == 0


@pytest.mark.parametrize("rounded", [True, False])
def test_heat_maps_have_the_gradient_of_finite_differences_and_none_at_unknown_joints(rounded):
    rng = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 5, 7, generator=rng, dtype=torch.float64).requires_grad_()
    # Unlabelled, beyond the map, and inside it.
    joints = torch.tensor([[[1.0, 2], [3.3, 2.2], [6.6, 1]], [[2.0, -3], [1, 1], [5, 4.2]]], dtype=torch.float64)
    mask = torch.ones(2, 3, dtype=torch.bool)
    mask[0, 0] = False

    def cost(maps: Tensor) -> Tensor:
        return heatmaps(maps, joints, mask, rounded=rounded)["heatmaps"]

    assert torch.autograd.gradcheck(cost, maps)
    (moves,) = torch.autograd.grad(cost(maps), maps)
    unknown = torch.tensor([[True, False, True], [True, False, False]])
    assert torch.equal(~moves.flatten(2).any(-1), unknown)


# --- for a network -----------------------------------------------------------------------------------------------


class Answering(CoordinateNetwork):
    """Coordinates that do not depend on the picture."""

    def __init__(self, *stages: Tensor) -> None:
        super().__init__()
        self.stages = nn.ParameterList(stages)

    def coordinates(self, image: Tensor) -> list[Tensor]:
        return list(self.stages)


class Mapping(PoseNetwork):
    answers = "heatmaps"

    def __init__(self, maps: Tensor, sigma: float = 2.0) -> None:
        super().__init__()
        self.maps, self.sigma = maps, sigma

    def forward(self, image: Tensor) -> Tensor:
        return self.maps


def batch(truth: Tensor, mask: Tensor, size: tuple[int, int] = (120, 80)) -> tuple[Tensor, Tensor]:
    """A batch as the loop has it: pictures, and joints in pixels with their flags."""
    joints = torch.cat((from_fractions(truth, size), 2.0 * mask[..., None]), dim=-1).float()
    return torch.empty(len(truth), 3, *size, device="meta"), joints


@pytest.mark.parametrize("name", ON_COORDINATES)
def test_a_network_is_compared_in_fractions_of_the_picture(name):
    made, truth, mask = scatter()
    mask[1, 2] = False
    found = find_loss(name, Answering(made.float()).eval())(*batch(truth, mask))
    options = {"warm": True} if name == "tukey" else {}
    torch.testing.assert_close(
        value(found), value(ON_COORDINATES[name]([made], truth, mask, **options)).float(), rtol=1e-4, atol=1e-5
    )


def test_maps_are_compared_in_cells_with_the_networks_own_sigma():
    # Pixel 21.5 is cell 5, and pixel 9.5 is cell 2: (x + 1/2) / 4 - 1/2.
    joints = torch.tensor([[[21.5, 9.5, 2.0], [math.nan, 5.0, 0.0]]])
    truth, _ = encode(torch.tensor([[[5.0, 2.0], [0, 0]]]), torch.tensor([[True, False]]), (6, 8), sigma=1.5)
    picture = torch.empty(1, 3, 24, 32, device="meta")
    for name in ("heatmaps", "paper"):
        assert find_loss(name, Mapping(truth, 1.5))(picture, joints)["heatmaps"] < 1e-12
    assert find_loss("heatmaps", Mapping(truth, 2.0))(picture, joints)["heatmaps"] > 1e-5
    # Rounded Gaussians of another place in the cell are the same.
    joints[0, 0, 0] += 1.9
    cut, _ = encode(torch.tensor([[[5.0, 2.0], [0, 0]]]), torch.tensor([[True, False]]), (6, 8), rounded=True)
    assert find_loss("heatmaps-rounded", Mapping(cut))(picture, joints)["heatmaps"] < 1e-12
    assert find_loss("heatmaps", Mapping(cut))(picture, joints)["heatmaps"] > 1e-5


def test_tukey_is_warm_for_fifty_batches_of_training_and_a_continued_run_goes_on_counting():
    made, truth, mask = scatter()
    network = Answering(made.float())
    compare = find_loss("tukey", network)
    data = batch(truth, mask)
    warm, cold = (value(tukey([made], truth, mask, warm=warm)).item() for warm in (True, False))
    network.eval()
    compare(*data)
    assert network.compared == 0  # asked, not trained
    network.train()
    costs = [value(compare(*data)).item() for _ in range(20)]
    resumed = Answering(made.float())
    resumed.load_state_dict(network.state_dict())
    costs += [value(find_loss("tukey-authors", resumed)(*data)).item() for _ in range(1)]
    compare = find_loss("paper", resumed)
    costs += [value(compare(*data)).item() for _ in range(31)]
    assert WARM_BATCHES == 50
    assert costs[:20] + costs[21:50] == pytest.approx([warm] * 49, rel=1e-4)
    assert costs[50:] == pytest.approx([cold] * 2, rel=1e-4)


def test_counting_the_batches_leaves_no_trace_on_other_losses():
    made, truth, mask = scatter()
    network = Answering(made.float())
    find_loss("l2", network)(*batch(truth, mask))
    assert network.compared == 0 and "compared" in network.state_dict()


@pytest.mark.parametrize(
    ("name", "made", "way_out"),
    [
        ("heatmaps", "coordinates", "take --loss with one of paper, tukey, tukey-authors, l2, smooth-l1"),
        ("tukey", "heatmaps", "take --loss with one of paper, heatmaps, heatmaps-rounded"),
    ],
)
def test_a_loss_for_another_answer_is_refused_with_those_that_fit(name, made, way_out):
    network = Answering(torch.zeros(1, 1, 2)) if made == "coordinates" else Mapping(torch.zeros(1, 1, 2, 2))
    with pytest.raises(UserError, match=f"'{name}' is not for a network that answers with {made}: {way_out}"):
        find_loss(name, network)


def test_an_unknown_loss_gets_the_nearest_name_and_the_papers_fits_every_network():
    network = Answering(torch.zeros(1, 1, 2))
    with pytest.raises(UserError, match="did you mean 'tukey'"):
        find_loss("tuckey", network)
    assert next(iter(LOSSES)) == "paper" and set(LOSSES["paper"]) == {"coordinates", "heatmaps"}
