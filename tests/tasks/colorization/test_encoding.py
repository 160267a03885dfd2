"""Soft targets against a search of a tree, and what a rare color weighs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data
from sklearn.neighbors import NearestNeighbors

from densevision.datasets.image_folders import ImageFolders
from densevision.datasets.synthetic import SyntheticShapes
from densevision.tasks.colorization.encoding import (
    BINS,
    CELL,
    bin_array,
    bin_counts,
    bins_of,
    class_rebalancing_weights,
    color_bins,
    measured_prior,
    nearest_bin,
    smoothed,
    soft_targets,
)
from densevision.tasks.colorization.lab import lab_of

DIAGONAL = 2**0.5 * CELL


def colors(number: int = 2, side: int = 60) -> torch.Tensor:
    """(number, 2, side, side) a and b of random sRGB colors."""
    image = np.random.default_rng(0).integers(0, 256, (number * side, side, 3), np.uint8)
    return torch.from_numpy(lab_of(image)[..., 1:]).reshape(number, side, side, 2).movedim(-1, 1).contiguous()


def as_rows(maps: torch.Tensor) -> np.ndarray:
    """(B, K, H, W) to (B H W, K)."""
    return maps.movedim(1, -1).reshape(-1, maps.shape[1]).numpy()


@pytest.mark.parametrize(
    ("neighbors", "expected"),
    [
        # Facts 3.2: an exact bin center, in the paper's and in the released code's form.
        (5, [0.6488] + 4 * [0.0878]),
        (10, [0.619] + 4 * [0.0838] + 4 * [0.0113] + [0.0002]),
    ],
)
def test_a_color_on_a_bin_has_the_weights_of_the_facts(neighbors, expected):
    index, weight = soft_targets(torch.zeros(1, 2, 1, 1), neighbors)
    assert color_bins()[int(index[0, 0, 0, 0])] == (0, 0)
    np.testing.assert_allclose(weight.flatten(), expected, atol=3e-4)  # some are given to three digits


@pytest.mark.parametrize("neighbors", [5, 10])
def test_targets_are_those_of_a_search_but_for_bins_about_equally_far(neighbors):
    ab = colors()
    index, weight = (as_rows(maps) for maps in soft_targets(ab, neighbors))
    points = as_rows(ab)
    distance, found = NearestNeighbors(n_neighbors=neighbors).fit(bin_array()).kneighbors(points)
    gaussian = np.exp(-(distance**2) / 50)
    ours, theirs = np.zeros((len(points), BINS)), np.zeros((len(points), BINS))
    np.put_along_axis(ours, index, weight, 1)
    np.put_along_axis(theirs, found, gaussian / gaussian.sum(1, keepdims=True), 1)
    alike = (np.sort(index, 1) == np.sort(found, 1)).all(1)
    assert alike.mean() > 0.85
    # The stated tolerances: a weight's, and a cell's diagonal.
    assert np.abs(ours - theirs)[alike].max() < 0.03
    own = np.linalg.norm(points[:, None] - bin_array()[index], axis=-1)
    assert (own.max(1) <= distance.max(1) + DIAGONAL).all()
    assert np.abs(ours @ bin_array() - theirs @ bin_array()).max() < 2


@pytest.mark.parametrize("neighbors", [5, 10])
def test_on_whole_colors_weights_are_exact(neighbors):
    whole = colors(1, 40).round()
    index, weight = (as_rows(maps) for maps in soft_targets(whole, neighbors))
    distance, _ = NearestNeighbors(n_neighbors=neighbors).fit(bin_array()).kneighbors(as_rows(whole))
    gaussian = np.exp(-(distance**2) / 50)
    np.testing.assert_allclose(weight, gaussian / gaussian.sum(1, keepdims=True), atol=1e-6)
    assert (np.diff(np.linalg.norm(as_rows(whole)[:, None] - bin_array()[index], axis=-1), axis=1) >= -1e-6).all()


def test_weights_add_up_and_bins_differ_everywhere_even_at_the_screens_purest_colors():
    corners = 255 * np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(1, 8, 3).astype(np.uint8)
    pure = torch.from_numpy(lab_of(corners)[..., 1:]).movedim(-1, 0)[None]
    for colors_of in (pure, colors()):
        index, weight = soft_targets(colors_of, 10)
        torch.testing.assert_close(weight.sum(1), torch.ones_like(weight[:, 0]))
        assert (index.sort(1).values.diff(dim=1) > 0).all()


def test_ties_go_to_the_bin_that_comes_first_and_on_every_call_alike():
    # Facts 3.2: in the middle of a grid cell four bins are nearest, and eight come next at one distance.
    middle = torch.full((1, 2, 1, 1), 5.0)
    first = soft_targets(middle)[0].flatten().tolist()
    assert {color_bins()[place] for place in first[:4]} == {(0, 0), (0, 10), (10, 0), (10, 10)}
    for _ in range(3):
        again = soft_targets(middle.expand(2, 2, 3, 3).contiguous())[0]
        assert (again == torch.tensor(first)[None, :, None, None]).all()


def test_the_nearest_bin_is_the_nearest_but_for_some_about_equally_far():
    ab = colors()
    distance = torch.cdist(torch.from_numpy(as_rows(ab)).double(), torch.tensor(bin_array()).double())
    chosen = distance.gather(1, nearest_bin(ab).reshape(-1, 1))[:, 0]
    assert (chosen <= distance.amin(1) + DIAGONAL).all()
    assert (chosen <= distance.amin(1) + 1e-4).double().mean() > 0.95


def test_bin_counts_count_every_pixel_once():
    image = data.astronaut()[::8, ::8]
    ab = lab_of(image)[..., 1:]
    counts = bin_counts(ab)
    assert counts.sum() == ab.shape[0] * ab.shape[1]
    assert counts[bins_of(ab)[3, 4]] >= 1
    np.testing.assert_array_equal(bin_counts(ab, np.full(ab.shape[:2], 3)), 3 * counts)


def test_smoothing_keeps_the_sum_and_shares_with_the_neighbors():
    counts = np.zeros(BINS)
    gray = color_bins().index((0, 0))
    counts[gray] = 7
    spread = smoothed(counts)
    assert spread.sum() == pytest.approx(1)
    # exp(-100 / 50) of the middle's share.
    assert spread[color_bins().index((0, 10))] / spread[gray] == pytest.approx(np.exp(-2))


def test_the_mean_weight_under_the_prior_is_1_and_rare_colors_weigh_more():
    # Facts 3.2.
    prior = torch.from_numpy(smoothed(np.random.default_rng(0).integers(0, 1000, BINS) ** 3))
    weight = class_rebalancing_weights(prior)
    assert float((prior * weight).sum()) == pytest.approx(1)
    assert (weight[prior.argsort()].diff() <= 0).all()
    # Equation 4 with lambda = 1/2: no weight exceeds twice the uniform one, before scaling.
    assert float(weight.max() / weight.min()) <= (0.5 * float(prior.max()) + 0.5 / BINS) / (0.5 / BINS) + 1e-6
    torch.testing.assert_close(class_rebalancing_weights(torch.full((BINS,), 1 / BINS)), torch.ones(BINS))


def test_the_commonest_color_of_photos_is_at_or_next_to_gray(shared_data):
    # Facts 3.2: a prior in another order of bins has its peak elsewhere.
    prior = measured_prior(ImageFolders(shared_data / "bsds500"))
    assert prior.sum() == pytest.approx(1)
    assert np.abs(bin_array()[prior.argmax()]).max() <= 10


def test_the_prior_of_a_synthetic_dataset_is_measured_from_its_images_alone():
    dataset = SyntheticShapes(size=(32, 32))
    prior = measured_prior(dataset)
    np.testing.assert_array_equal(prior, measured_prior(dataset))
    assert np.linalg.norm(bin_array()[prior.argmax()]) <= 30
    # Saturated colors occur: color is to be learned here.
    assert prior[np.linalg.norm(bin_array(), axis=1) > 45].sum() > 0.02
