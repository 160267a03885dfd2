from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from densevision.tasks.pose.heatmaps import DECODINGS, SIGMA, STRIDE, cells_to_pixels, decode, encode, pixels_to_cells

SIZE = (64, 48)  # facts 3.5: images of 256 x 192 give maps of 64 x 48


def random_cells(count: int = 400, border: float = 8, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    """(1, count, 2) random points in cells, not near the border, float64."""
    rng = torch.Generator().manual_seed(seed)
    extent = torch.tensor([size[1], size[0]], dtype=torch.float64) - 1 - 2 * border
    return (border + extent * torch.rand(count, 2, generator=rng, dtype=torch.float64))[None]


def all_labeled(joints: Tensor) -> Tensor:
    return torch.ones(joints.shape[:2], dtype=torch.bool)


def errors(decoding: str, joints: Tensor, rounded: bool = False) -> Tensor:
    """Distance in pixels between a joint and its decoded position."""
    maps, _ = encode(joints, all_labeled(joints), SIZE, rounded=rounded)
    return STRIDE * torch.linalg.vector_norm(decode(maps, decoding)[..., :2] - joints, dim=-1)  # type: ignore[arg-type]


# --- cells and pixels --------------------------------------------------------------------------------------------


def test_cell_center_is_the_center_of_its_pixels():
    pixels = torch.arange(16, dtype=torch.float64)
    cells = pixels.view(4, 4).mean(1)
    assert cells_to_pixels(torch.arange(4, dtype=torch.float64)).tolist() == cells.tolist() == [1.5, 5.5, 9.5, 13.5]
    torch.testing.assert_close(pixels_to_cells(cells), torch.arange(4, dtype=torch.float64))


def test_peak_drawn_in_the_image_is_decoded_at_its_pixel():
    # A Gaussian drawn in pixels and average-pooled, independent of the conversions under test.
    rows, columns = torch.arange(256.0)[:, None], torch.arange(192.0)[None]
    for x, y in ((100.0, 120.0), (71.5, 150.25), (63.9, 99.1)):
        image = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (STRIDE * SIGMA) ** 2))
        maps = functional.avg_pool2d(image[None, None], STRIDE)
        pixels = cells_to_pixels(decode(maps)[0, 0, :2])
        torch.testing.assert_close(pixels, torch.tensor([x, y]), rtol=0, atol=0.02)


def test_heat_maps_of_a_mirrored_image_are_the_mirrored_heat_maps():
    # Facts 3.5, flip test: Xiao's x / 4 needs a shift by one column, exactly by 3/4 of one.
    width = 4 * SIZE[1]
    pixels = cells_to_pixels(random_cells())
    mirrored = torch.stack((width - 1 - pixels[..., 0], pixels[..., 1]), dim=-1)
    maps, _ = encode(pixels_to_cells(pixels), all_labeled(pixels), SIZE)
    others, _ = encode(pixels_to_cells(mirrored), all_labeled(pixels), SIZE)
    torch.testing.assert_close(others.flip(-1), maps)
    xiao = (SIZE[1] - 1) - mirrored[..., 0] / 4
    torch.testing.assert_close(xiao - pixels[..., 0] / 4, torch.full_like(xiao, -0.75))


# --- encoding ----------------------------------------------------------------------------------------------------


def test_heat_map_is_a_gaussian_of_peak_one():
    joints = torch.tensor([[[10.0, 20.0]]])
    ((map_,),) = encode(joints, all_labeled(joints), SIZE)[0]
    assert map_.shape == SIZE and map_[20, 10] == map_.max() == 1
    # exp(-d² / 2σ²) with σ = 2: a step along x, along y, and a knight's move.
    assert map_[20, 11].item() == pytest.approx(math.exp(-1 / 8))
    assert map_[18, 10].item() == pytest.approx(math.exp(-4 / 8))
    assert map_[21, 12].item() == pytest.approx(math.exp(-5 / 8))
    assert map_[20, 18].item() == pytest.approx(math.exp(-64 / 8))


@pytest.mark.parametrize(
    ("x", "column"), [(10.0, 10), (10.4, 10), (10.49, 10), (10.5, 11), (10.6, 11), (0.0, 0), (-0.5, 0), (47.4, 47)]
)
def test_rounded_heat_map_has_its_peak_at_the_joints_cell(x, column):
    # Facts 3.5: center int(x + 0.5), peak 1, window 3 sigma.
    joints = torch.tensor([[[x, 20.0]]])
    maps, _ = encode(joints, all_labeled(joints), SIZE, rounded=True)
    assert maps[0, 0, 20, column] == maps.max() == 1
    support = torch.nonzero(maps[0, 0])
    assert support[:, 0].min() == 14 and support[:, 0].max() == 26
    assert support[:, 1].min() == max(column - 6, 0) and support[:, 1].max() == min(column + 6, 47)


def test_unrounded_heat_map_keeps_the_position_within_the_cell():
    joints = torch.tensor([[[10.25, 20.0]]])
    maps, _ = encode(joints, all_labeled(joints), SIZE)
    assert maps[0, 0, 20, 10].item() == pytest.approx(math.exp(-(0.25**2) / 8))
    assert maps[0, 0, 20, 11].item() == pytest.approx(math.exp(-(0.75**2) / 8))


@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize(
    ("x", "y", "inside"),
    [(-0.5, 20, True), (-0.51, 20, False), (47.49, 20, True), (47.5, 20, False), (10, -0.51, False), (10, 63.5, False)],
)
def test_joint_outside_the_map_counts_as_unlabeled(x, y, inside, rounded):
    # Facts 3.5, trap: joint outside the map -> weight 0.
    joints = torch.tensor([[[float(x), float(y)]]])
    maps, valid = encode(joints, all_labeled(joints), SIZE, rounded=rounded)
    assert valid.tolist() == [[inside]]
    assert bool(maps.any()) == inside


@pytest.mark.parametrize("rounded", [True, False])
def test_value_of_an_unlabeled_joint_does_not_change_the_maps(rounded):
    joints = torch.tensor([[[10.0, 20], [math.nan, math.inf], [3.0, 4]]])
    maps, valid = encode(joints, torch.tensor([[True, False, False]]), SIZE, rounded=rounded)
    assert valid.tolist() == [[True, False, False]]
    assert torch.isfinite(maps).all() and not maps[0, 1:].any()


def test_larger_sigma_gives_a_wider_gaussian():
    # Facts 3.5: sigma 3 for 384 x 288.
    joints = torch.tensor([[[10.0, 20.0]]])
    maps, _ = encode(joints, all_labeled(joints), SIZE, sigma=3, rounded=True)
    assert maps[0, 0, 20, 13].item() == pytest.approx(math.exp(-0.5))
    assert torch.nonzero(maps[0, 0])[:, 1].max() == 10 + 9


# --- decoding ----------------------------------------------------------------------------------------------------


def test_dark_decodes_unrounded_peaks_exactly():
    assert errors("dark", random_cells()).max() < 0.01


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
def test_dark_is_exact_for_every_sigma_and_height(sigma):
    joints = random_cells(50, border=12)
    maps, _ = encode(joints, all_labeled(joints), SIZE, sigma)
    for height in (0.05, 1.0, 3.0):
        decoded = decode(height * maps, "dark", sigma)
        # In cells. Narrow Gaussians are sampled coarsely, and DARK's differences are wide.
        torch.testing.assert_close(decoded[..., :2], joints, rtol=0, atol=0.02 if sigma > 1 else 0.1)
        torch.testing.assert_close(decoded[..., 2], (height * maps).amax((2, 3)).clamp(max=1))


def test_rounding_to_cells_costs_1_53_pixels():
    # Facts 3.5, trap: rounding to a stride-4 grid alone costs 1.53 px mean error.
    joints = random_cells(4000)
    assert errors("argmax", joints, rounded=True).mean().item() == pytest.approx(1.53, abs=0.03)
    # The information is lost for DARK too.
    assert errors("dark", joints, rounded=True).mean().item() == pytest.approx(1.53, abs=0.05)


def test_quarter_halves_the_error_and_dark_removes_it():
    joints = random_cells(4000)
    cell, quarter, dark = (errors(decoding, joints).mean().item() for decoding in ("argmax", "quarter", "dark"))
    # Uniform in the cell: |x| is up to 2 px, after a step of 1 px up to 1: half.
    assert quarter == pytest.approx(cell / 2, rel=0.02) and dark < 0.01


def test_quarter_shifts_toward_the_larger_neighbor():
    maps = torch.zeros(1, 3, 9, 9)
    maps[0, :, 4, 5] = 0.8
    maps[0, 0, 4, 6] = 0.5  # right
    maps[0, 1, 3, 5] = 0.5  # up; left and right are equal
    maps[0, 2, 5, 5] = maps[0, 2, 4, 4] = 0.5  # down and left
    decoded = decode(maps, "quarter")[0]
    torch.testing.assert_close(decoded, torch.tensor([[5.25, 4, 0.8], [5, 3.75, 0.8], [4.75, 4.25, 0.8]]))


@pytest.mark.parametrize(
    ("column", "row", "moves"),
    [(1, 4, False), (2, 4, True), (7, 4, True), (8, 4, False), (4, 1, False), (4, 2, True), (4, 8, False)],
)
def test_quarter_does_not_shift_peaks_near_the_border(column, row, moves):
    # Facts 3.5: only if 1 < x < W - 1, 1 < y < H - 1; here W = H = 9.
    maps = torch.zeros(1, 1, 9, 9)
    maps[0, 0, row, column] = 1
    maps[0, 0, row, column - 1] = maps[0, 0, row - 1, column] = 0.5
    step = decode(maps, "quarter")[0, 0, :2] - torch.tensor([column, row])
    assert step.tolist() == ([-0.25, -0.25] if moves else [0, 0])


@pytest.mark.parametrize("decoding", DECODINGS)
def test_heat_map_without_positive_values_decodes_to_zero(decoding):
    # Facts 3.5: zero if max <= 0.
    maps = torch.stack([torch.zeros(9, 9), torch.full((9, 9), -1.0)])[None]
    maps[0, 1, 4, 4] = -0.1
    assert not decode(maps, decoding).any()


@pytest.mark.parametrize("decoding", DECODINGS)
def test_confidence_is_the_height_of_the_peak_clipped_to_0_1(decoding):
    joints = torch.tensor([[[10.0, 20.0]] * 3])
    maps, _ = encode(joints, all_labeled(joints), SIZE)
    heights = torch.tensor([0.3, 1.0, 2.5])
    decoded = decode(heights[None, :, None, None] * maps, decoding)
    torch.testing.assert_close(decoded[0, :, 2], torch.tensor([0.3, 1.0, 1.0]))
    torch.testing.assert_close(decoded[0, :, :2], joints[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (31, 41)])
def test_noisy_flat_and_tiny_maps_decode_within_a_cell_of_the_maximum(decoding, size):
    maps = torch.randn(3, 5, *size, generator=torch.Generator().manual_seed(0))
    maps[0, 0] = 0.5
    decoded = decode(maps, decoding)
    cells = decode(maps, "argmax")
    assert torch.isfinite(decoded).all() and decoded.shape == (3, 5, 3)
    assert (decoded - cells)[..., :2].abs().max() <= 1
    for b in range(3):
        for j in range(5):
            if maps[b, j].max() > 0:
                x, y = cells[b, j, :2].long().tolist()
                assert maps[b, j, y, x] == maps[b, j].max()


@pytest.mark.parametrize(("decoding", "pixels"), [("argmax", 3.0), ("quarter", 2.0), ("dark", 0.2)])
def test_half_precision_maps_are_decoded_in_float32(decoding, pixels):
    joints = random_cells(100)
    maps, _ = encode(joints, all_labeled(joints), SIZE)
    decoded = decode(maps.bfloat16(), decoding)
    assert decoded.dtype == torch.float32
    # bf16 cannot distinguish neighbors that differ by less than 1/256.
    assert 4 * (decoded[..., :2] - joints).abs().max() < pixels
