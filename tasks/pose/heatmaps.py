"""Heat maps of joints: encoding from coordinates and sub-cell decoding.

Xiao, Wu, Wei: Simple Baselines for Human Pose Estimation and Tracking. ECCV 2018, arXiv:1804.06208: a Gaussian of
peak 1 around the joint, decoded with a shift of a quarter cell. Zhang, Zhu, Dai, Ye, Zhu: Distribution-Aware
Coordinate Representation for Human Pose Estimation. CVPR 2020, arXiv:1910.06278 ("DARK"): a Gaussian whose center is
not rounded, decoded with a Taylor step.

Convention: a cell is a square of `STRIDE` x `STRIDE` pixels, and centers of cells and of pixels are at integers. A
pixel x is at (x + 1/2) / 4 - 1/2 in cells, and the maps of a mirrored image are the mirrored maps if its width is a
multiple of 4. Xiao's code has x / 4 instead, for which maps must be shifted by a column before they are averaged.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

Decoding = Literal["dark", "quarter", "argmax"]
DECODINGS: tuple[Decoding, ...] = get_args(Decoding)

NDIM = 4
"""Dimensions of heat maps (B, J, h, w); coordinates (B, J, 3) have one less."""
STRIDE = 4
"""Width and height of a cell in pixels."""
SIGMA = 2.0
"""Standard deviation of the Gaussians in cells, as in Xiao et al. for images of 256 x 192; for 384 x 288 it is 3."""
TRUNCATION = 3.0
"""Rounded Gaussians are 0 beyond this number of standard deviations along an axis."""
QUARTER = 0.25
LOG_FLOOR = 1e-10
"""Minimum value of a map before the logarithm."""


def pixels_to_cells(pixels: Tensor) -> Tensor:
    """Points in pixels of the image as points in cells of its maps."""
    return (pixels + 0.5) / STRIDE - 0.5


def cells_to_pixels(cells: Tensor) -> Tensor:
    """Points in cells of the maps as points in pixels of the image."""
    return (cells + 0.5) * STRIDE - 0.5


def encode(
    joints: Tensor, mask: Tensor, size: tuple[int, int], sigma: float = SIGMA, rounded: bool = False
) -> tuple[Tensor, Tensor]:
    """Draw a Gaussian of peak 1 around every labeled joint.

    Args:
        joints: (B, J, 2), x and y in cells.
        mask: (B, J), which of them are labeled.
        size: (height, width) of the maps.
        sigma: standard deviation in cells.
        rounded: Xiao's form, centered on the joint's cell and truncated at 3 sigma; it loses the position within the
            cell. Otherwise DARK's, centered on the joint.

    Returns:
        Maps (B, J, height, width), and a mask (B, J) of joints that are labeled and on the map. The other maps are 0.
        Xiao keeps a joint outside the map if its window reaches the map; here it counts as unlabeled, like a joint
        outside a cropped image.
    """
    height, width = size
    cells = (joints + 0.5).floor()
    inside = (cells >= 0).all(-1) & (cells < cells.new_tensor([width, height])).all(-1)
    valid = mask & inside
    centers = torch.where(valid[..., None], cells if rounded else joints, 0.0)
    profiles = []
    for axis, extent in enumerate((width, height)):
        distance = torch.arange(extent, device=joints.device, dtype=centers.dtype) - centers[..., axis, None]
        profile = torch.exp(-distance.square() / (2 * sigma**2))
        profiles.append(torch.where(distance.abs() <= TRUNCATION * sigma, profile, 0.0) if rounded else profile)
    horizontal, vertical = profiles
    return vertical[..., :, None] * horizontal[..., None, :] * valid[..., None, None], valid


def decode(maps: Tensor, decoding: Decoding = "dark", sigma: float = SIGMA) -> Tensor:
    """The position and height of the peak of every map.

    Args:
        maps: (B, J, h, w).
        decoding: "argmax" is the maximum; "quarter" shifts it a quarter of a cell toward the larger neighbor, in x
            and in y (Xiao); "dark" shifts it to the peak of a parabola fitted to the logarithm of the blurred map.
            Both leave maxima at the border of the map where they are.
        sigma: standard deviation of the Gaussians that the network learned, in cells, and of DARK's blur.

    Returns:
        (B, J, 3): x and y in cells, and the height of the peak, clipped to [0, 1], as confidence. A map without
        values above 0 gives 0, 0, 0.
    """
    maps = maps if maps.dtype == torch.float64 else maps.float()
    width = maps.shape[-1]
    peak, index = maps.flatten(2).max(-1)
    column, row = index % width, index.div(width, rounding_mode="floor")
    cell = torch.stack((column, row), dim=-1).to(maps.dtype)
    if decoding == "quarter":
        cell = cell + _quarter_step(maps, column, row)
    elif decoding == "dark":
        cell = cell + _taylor_step(maps, column, row, sigma)
    return torch.where((peak > 0)[..., None], torch.cat((cell, peak.clamp(0, 1)[..., None]), dim=-1), 0.0)


def joints_to_pixels(joints: Tensor) -> Tensor:
    """Joints (B, J, 3) from `decode`, in pixels of the image instead of cells; those of empty maps stay 0, 0, 0."""
    cells, confidence = joints[..., :2], joints[..., 2:]
    return torch.cat((torch.where(confidence > 0, cells_to_pixels(cells), 0.0), confidence), dim=-1)


def unflip_heatmaps(maps: Tensor, width: int) -> Tensor:
    """The maps of a mirrored image, mirrored back.

    If the image's width is not a multiple of `STRIDE`, the last column of maps reaches beyond its right edge, and in
    the mirrored image beyond its left one: the two grids differ by a fraction of a cell, and values are interpolated.

    Args:
        maps: (B, J, h, ⌈width / 4⌉).
        width: of the image, pixels.
    """
    shift = -width % STRIDE / STRIDE
    flipped = maps.flip(-1)
    return torch.lerp(flipped, torch.cat((flipped[..., 1:], flipped[..., -1:]), dim=-1), shift) if shift else flipped


def _quarter_step(maps: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """(B, J, 2) ±1/4 in x and y; 0 near the border, of which the authors leave out the first two cells."""
    height, width = maps.shape[-2:]
    slope = torch.stack(
        (
            _value_at(maps, column + 1, row) - _value_at(maps, column - 1, row),
            _value_at(maps, column, row + 1) - _value_at(maps, column, row - 1),
        ),
        dim=-1,
    )
    inner = (column > 1) & (column < width - 1) & (row > 1) & (row < height - 1)
    return QUARTER * slope.sign() * inner[..., None]


def _taylor_step(maps: Tensor, column: Tensor, row: Tensor, sigma: float) -> Tensor:
    """(B, J, 2), -H⁻¹ g of the blurred map's logarithm, with the differences of DARK's released code.

    The logarithm of a Gaussian is a parabola, so the step is exact for one. Unlike the released code, the step is 0
    if the maximum is not a strict peak, and limited to one cell.
    """
    height, width = maps.shape[-2:]
    logs = _gaussian_blur(maps, sigma).clamp_min(LOG_FLOOR).log()

    def at(x: int, y: int) -> Tensor:
        return _value_at(logs, column + x, row + y)

    center = at(0, 0)
    gx, gy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    hxx, hyy = (at(2, 0) - 2 * center + at(-2, 0)) / 4, (at(0, 2) - 2 * center + at(0, -2)) / 4
    hxy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    determinant = hxx * hyy - hxy.square()
    inner = (column > 1) & (column < width - 2) & (row > 1) & (row < height - 2)
    is_peak = inner & (hxx < 0) & (determinant > 0)
    safe = torch.where(is_peak, determinant, 1.0)
    step = torch.stack(((hxy * gy - hyy * gx) / safe, (hxy * gx - hxx * gy) / safe), dim=-1)
    return torch.where(is_peak[..., None], step.clamp(-1, 1), 0.0)


def _value_at(maps: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """(B, J) the value of each map at its own cell; cells outside are clamped to the border."""
    height, width = maps.shape[-2:]
    index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    return maps.flatten(2).gather(2, index[..., None]).squeeze(2)


def _gaussian_blur(maps: Tensor, sigma: float) -> Tensor:
    """Every map convolved with a Gaussian, with zero padding."""
    radius = math.ceil(TRUNCATION * sigma)
    kernel = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-kernel.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    blurred = maps.flatten(0, 1)[:, None]
    blurred = functional.conv2d(blurred, kernel.view(1, 1, 1, -1), padding=(0, radius))
    return functional.conv2d(blurred, kernel.view(1, 1, -1, 1), padding=(radius, 0)).view_as(maps)
