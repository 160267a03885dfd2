from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from densevision.tasks.pose.heatmaps import DECODINGS, SIGMA, STRIDE, decode, encode, from_cells, to_cells

SIZE = (64, 48)  # facts 3.5: pictures of 256 x 192 give maps of 64 x 48


def places(count: int = 400, rim: float = 8, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    """(1, count, 2) cells anywhere but near the rim, float64."""
    rng = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]], dtype=torch.float64) - 1 - 2 * rim
    return (rim + extent * torch.rand(count, 2, generator=rng, dtype=torch.float64))[None]


def known(joints: Tensor) -> Tensor:
    return torch.ones(joints.shape[:2], dtype=torch.bool)


def errors(decoding: str, joints: Tensor, rounded: bool = False) -> Tensor:
    """Pixels between where a joint is and where its map is read to be."""
    maps, _ = encode(joints, known(joints), SIZE, rounded=rounded)
    return STRIDE * torch.linalg.vector_norm(decode(maps, decoding)[..., :2] - joints, dim=-1)  # type: ignore[arg-type]


# --- where a cell is ---------------------------------------------------------------------------------------------


def test_a_cell_lies_in_the_middle_of_its_four_by_four_pixels():
    pixels = torch.arange(16, dtype=torch.float64)
    cells = pixels.view(4, 4).mean(1)
    assert from_cells(torch.arange(4, dtype=torch.float64)).tolist() == cells.tolist() == [1.5, 5.5, 9.5, 13.5]
    torch.testing.assert_close(to_cells(cells), torch.arange(4, dtype=torch.float64))


def test_a_peak_that_is_drawn_in_the_picture_is_found_at_its_pixel():
    # A hill drawn pixel by pixel and averaged down, whatever any formula of ours says.
    rows, columns = torch.arange(256.0)[:, None], torch.arange(192.0)[None]
    for x, y in ((100.0, 120.0), (71.5, 150.25), (63.9, 99.1)):
        drawn = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (STRIDE * SIGMA) ** 2))
        maps = functional.avg_pool2d(drawn[None, None], STRIDE)
        found = from_cells(decode(maps)[0, 0, :2])
        torch.testing.assert_close(found, torch.tensor([x, y]), rtol=0, atol=0.02)


def test_the_maps_of_a_mirrored_picture_are_the_mirrored_maps():
    # Facts 3.5, flip test: Xiao's x / 4 needs a shift by one column; by 3/4 of one, to be exact.
    width = 4 * SIZE[1]
    pixels = from_cells(places())
    mirrored = torch.stack((width - 1 - pixels[..., 0], pixels[..., 1]), dim=-1)
    maps, _ = encode(to_cells(pixels), known(pixels), SIZE)
    others, _ = encode(to_cells(mirrored), known(pixels), SIZE)
    torch.testing.assert_close(others.flip(-1), maps)
    xiao = (SIZE[1] - 1) - mirrored[..., 0] / 4
    torch.testing.assert_close(xiao - pixels[..., 0] / 4, torch.full_like(xiao, -0.75))


# --- making ------------------------------------------------------------------------------------------------------


def test_a_map_is_a_gaussian_of_peak_one_by_hand():
    joints = torch.tensor([[[10.0, 20.0]]])
    (((map_,),), _) = (encode(joints, known(joints), SIZE)[0], None)
    assert map_.shape == SIZE and map_[20, 10] == map_.max() == 1
    # exp(-d² / 2σ²) with σ = 2: a step along x, along y, and a knight's move.
    assert map_[20, 11].item() == pytest.approx(math.exp(-1 / 8))
    assert map_[18, 10].item() == pytest.approx(math.exp(-4 / 8))
    assert map_[21, 12].item() == pytest.approx(math.exp(-5 / 8))
    assert map_[20, 18].item() == pytest.approx(math.exp(-64 / 8))


@pytest.mark.parametrize(
    ("x", "column"), [(10.0, 10), (10.4, 10), (10.49, 10), (10.5, 11), (10.6, 11), (0.0, 0), (-0.5, 0), (47.4, 47)]
)
def test_a_rounded_map_has_its_peak_on_the_joints_cell(x, column):
    # Facts 3.5: centre int(x + 0.5), peak 1, window 3 sigma.
    joints = torch.tensor([[[x, 20.0]]])
    maps, _ = encode(joints, known(joints), SIZE, rounded=True)
    assert maps[0, 0, 20, column] == maps.max() == 1
    held = torch.nonzero(maps[0, 0])
    assert held[:, 0].min() == 14 and held[:, 0].max() == 26
    assert held[:, 1].min() == max(column - 6, 0) and held[:, 1].max() == min(column + 6, 47)


def test_an_unrounded_map_knows_where_in_its_cell_the_joint_is():
    joints = torch.tensor([[[10.25, 20.0]]])
    maps, _ = encode(joints, known(joints), SIZE)
    assert maps[0, 0, 20, 10].item() == pytest.approx(math.exp(-(0.25**2) / 8))
    assert maps[0, 0, 20, 11].item() == pytest.approx(math.exp(-(0.75**2) / 8))


@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize(
    ("x", "y", "on_the_map"),
    [(-0.5, 20, True), (-0.51, 20, False), (47.49, 20, True), (47.5, 20, False), (10, -0.51, False), (10, 63.5, False)],
)
def test_a_joint_outside_of_the_map_is_unknown_and_its_map_empty(x, y, on_the_map, rounded):
    # Facts 3.5, trap: joint outside the map -> weight 0.
    joints = torch.tensor([[[float(x), float(y)]]])
    maps, counted = encode(joints, known(joints), SIZE, rounded=rounded)
    assert counted.tolist() == [[on_the_map]]
    assert bool(maps.any()) == on_the_map


@pytest.mark.parametrize("rounded", [True, False])
def test_whatever_stands_at_an_unlabelled_joint_reaches_no_map(rounded):
    joints = torch.tensor([[[10.0, 20], [math.nan, math.inf], [3.0, 4]]])
    maps, counted = encode(joints, torch.tensor([[True, False, False]]), SIZE, rounded=rounded)
    assert counted.tolist() == [[True, False, False]]
    assert torch.isfinite(maps).all() and not maps[0, 1:].any()


def test_a_wider_gaussian_is_wider():
    # Facts 3.5: sigma 3 for 384 x 288.
    joints = torch.tensor([[[10.0, 20.0]]])
    maps, _ = encode(joints, known(joints), SIZE, sigma=3, rounded=True)
    assert maps[0, 0, 20, 13].item() == pytest.approx(math.exp(-0.5))
    assert torch.nonzero(maps[0, 0])[:, 1].max() == 10 + 9


# --- reading -----------------------------------------------------------------------------------------------------


def test_darks_step_finds_an_unrounded_peak_exactly():
    assert errors("dark", places()).max() < 0.01


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
def test_darks_step_is_exact_for_every_sigma_and_every_height(sigma):
    joints = places(50, rim=12)
    maps, _ = encode(joints, known(joints), SIZE, sigma)
    for height in (0.05, 1.0, 3.0):
        found = decode(height * maps, "dark", sigma)
        # In cells. Narrow Gaussians are sampled coarsely, and DARK's differences are wide.
        torch.testing.assert_close(found[..., :2], joints, rtol=0, atol=0.02 if sigma > 1 else 0.1)
        torch.testing.assert_close(found[..., 2], (height * maps).amax((2, 3)).clamp(max=1))


def test_rounding_to_cells_costs_a_pixel_and_a_half():
    # Facts 3.5, trap: rounding to a stride-4 grid alone costs 1.53 px mean error.
    joints = places(4000)
    assert errors("argmax", joints, rounded=True).mean().item() == pytest.approx(1.53, abs=0.03)
    # Nothing brings back what the map does not hold.
    assert errors("dark", joints, rounded=True).mean().item() == pytest.approx(1.53, abs=0.05)


def test_a_quarter_of_a_cell_brings_back_half_and_dark_the_rest():
    joints = places(4000)
    cell, quarter, dark = (errors(decoding, joints).mean().item() for decoding in ("argmax", "quarter", "dark"))
    # Uniform in the cell: |x| is up to 2 px, of which a step of 1 leaves up to 1: half.
    assert quarter == pytest.approx(cell / 2, rel=0.02) and dark < 0.01


def test_the_quarter_goes_toward_the_larger_neighbour_by_hand():
    maps = torch.zeros(1, 3, 9, 9)
    maps[0, :, 4, 5] = 0.8
    maps[0, 0, 4, 6] = 0.5  # right
    maps[0, 1, 3, 5] = 0.5  # up; left and right are equal
    maps[0, 2, 5, 5] = maps[0, 2, 4, 4] = 0.5  # down and left
    found = decode(maps, "quarter")[0]
    torch.testing.assert_close(found, torch.tensor([[5.25, 4, 0.8], [5, 3.75, 0.8], [4.75, 4.25, 0.8]]))


@pytest.mark.parametrize(
    ("column", "row", "moves"),
    [(1, 4, False), (2, 4, True), (7, 4, True), (8, 4, False), (4, 1, False), (4, 2, True), (4, 8, False)],
)
def test_the_quarter_leaves_the_rim_alone_as_the_authors_do(column, row, moves):
    # Facts 3.5: only if 1 < x < W - 1, 1 < y < H - 1; here W = H = 9.
    maps = torch.zeros(1, 1, 9, 9)
    maps[0, 0, row, column] = 1
    maps[0, 0, row, column - 1] = maps[0, 0, row - 1, column] = 0.5
    step = decode(maps, "quarter")[0, 0, :2] - torch.tensor([column, row])
    assert step.tolist() == ([-0.25, -0.25] if moves else [0, 0])


@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_map_that_is_nowhere_above_zero_shows_nothing(decoding):
    # Facts 3.5: zero if max <= 0.
    maps = torch.stack([torch.zeros(9, 9), torch.full((9, 9), -1.0)])[None]
    maps[0, 1, 4, 4] = -0.1
    assert not decode(maps, decoding).any()


@pytest.mark.parametrize("decoding", DECODINGS)
def test_confidence_is_the_peaks_height_within_zero_and_one(decoding):
    joints = torch.tensor([[[10.0, 20.0]] * 3])
    maps, _ = encode(joints, known(joints), SIZE)
    heights = torch.tensor([0.3, 1.0, 2.5])
    found = decode(heights[None, :, None, None] * maps, decoding)
    torch.testing.assert_close(found[0, :, 2], torch.tensor([0.3, 1.0, 1.0]))
    torch.testing.assert_close(found[0, :, :2], joints[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (31, 41)])
def test_noise_flat_maps_and_tiny_maps_are_read_within_a_cell_of_their_peak(decoding, size):
    maps = torch.randn(3, 5, *size, generator=torch.Generator().manual_seed(0))
    maps[0, 0] = 0.5
    found = decode(maps, decoding)
    cells = decode(maps, "argmax")
    assert torch.isfinite(found).all() and found.shape == (3, 5, 3)
    assert (found - cells)[..., :2].abs().max() <= 1
    for b in range(3):
        for j in range(5):
            if maps[b, j].max() > 0:
                x, y = cells[b, j, :2].long().tolist()
                assert maps[b, j, y, x] == maps[b, j].max()


@pytest.mark.parametrize(("decoding", "pixels"), [("argmax", 3.0), ("quarter", 2.0), ("dark", 0.2)])
def test_maps_of_half_precision_are_read_in_full(decoding, pixels):
    joints = places(100)
    maps, _ = encode(joints, known(joints), SIZE)
    found = decode(maps.bfloat16(), decoding)
    assert found.dtype == torch.float32
    # bf16 has the same number for neighbours whose maps differ by less than a 256th.
    assert 4 * (found[..., :2] - joints).abs().max() < pixels
