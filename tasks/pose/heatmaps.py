"""Heat maps of joints: made from places, and read back to fractions of a cell.

Xiao, Wu, Wei: Simple Baselines for Human Pose Estimation and Tracking. ECCV 2018, arXiv:1804.06208: a Gaussian of
peak 1 around the joint, and a quarter of a cell in reading. Zhang, Zhu, Dai, Ye, Zhu: Distribution-Aware Coordinate
Representation for Human Pose Estimation. CVPR 2020, arXiv:1910.06278 ("DARK"): a Gaussian whose centre is not rounded,
and a Taylor step in reading.

Convention: a cell is a square of `STRIDE` x `STRIDE` pixels, and centres of cells and of pixels lie at integers. A
pixel x lies at (x + 1/2) / 4 - 1/2 in cells, and the maps of a mirrored picture are the mirrored maps where its width
is a multiple of 4. Xiao's code has x / 4 instead, for which they always have to be moved, by a column, before they are
averaged.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

Decoding = Literal["dark", "quarter", "argmax"]
DECODINGS: tuple[Decoding, ...] = get_args(Decoding)

STRIDE = 4
"""Pixels from cell to cell."""
SIGMA = 2.0
"""Standard deviation of the Gaussians in cells: Xiao's for pictures of 256 x 192; he takes 3 for 384 x 288."""
WINDOW = 3.0
"""Beyond so many standard deviations to any side a rounded Gaussian is 0."""
QUARTER = 0.25
SMALLEST = 1e-10
"""Before the logarithm."""


def to_cells(pixels: Tensor) -> Tensor:
    """Places in pixels of the picture as places in cells of its maps."""
    return (pixels + 0.5) / STRIDE - 0.5


def from_cells(cells: Tensor) -> Tensor:
    """Places in cells of the maps as places in pixels of the picture."""
    return (cells + 0.5) * STRIDE - 0.5


def encode(
    joints: Tensor, mask: Tensor, size: tuple[int, int], sigma: float = SIGMA, rounded: bool = False
) -> tuple[Tensor, Tensor]:
    """A Gaussian of peak 1 around every known joint.

    Args:
        joints: (B, J, 2), x and y in cells.
        mask: (B, J), which of them are known.
        size: (height, width) of the maps.
        sigma: standard deviation in cells.
        rounded: Xiao's form, centred on the joint's cell and cut off at 3 sigma; it forgets where in the cell the
            joint is. Else DARK's, centred on the joint.

    Returns:
        (B, J, height, width), and (B, J): which joints are known and on the map. Maps of the others are 0. Xiao keeps
        a joint outside whose window reaches the map; here it is unknown, as the joint of a picture that was cut.
    """
    height, width = size
    cells = (joints + 0.5).floor()
    inside = (cells >= 0).all(-1) & (cells < cells.new_tensor([width, height])).all(-1)
    known = mask & inside
    centres = torch.where(known[..., None], cells if rounded else joints, 0.0)
    sides = []
    for axis, cells_along in enumerate((width, height)):
        away = torch.arange(cells_along, device=joints.device, dtype=centres.dtype) - centres[..., axis, None]
        side = torch.exp(-away.square() / (2 * sigma**2))
        sides.append(torch.where(away.abs() <= WINDOW * sigma, side, 0.0) if rounded else side)
    across, down = sides
    return down[..., :, None] * across[..., None, :] * known[..., None, None], known


def decode(maps: Tensor, decoding: Decoding = "dark", sigma: float = SIGMA) -> Tensor:
    """The joint that every map shows.

    Args:
        maps: (B, J, h, w).
        decoding: "argmax" is the largest cell; "quarter" goes a quarter of a cell from there toward the larger
            neighbour, in x and in y (Xiao); "dark" goes to the peak of the parabola through the logarithms of the
            blurred map. Both keep the cell at the rim of the map.
        sigma: standard deviation that the maps were made with, in cells, and of DARK's blur.

    Returns:
        (B, J, 3): x and y in cells, and the height of the peak, clipped to [0, 1], as confidence. A map that is
        nowhere above 0 shows nothing: 0, 0, 0.
    """
    maps = maps if maps.dtype == torch.float64 else maps.float()
    width = maps.shape[-1]
    peak, place = maps.flatten(2).max(-1)
    column, row = place % width, place.div(width, rounding_mode="floor")
    cell = torch.stack((column, row), dim=-1).to(maps.dtype)
    if decoding == "quarter":
        cell = cell + _quarter_step(maps, column, row)
    elif decoding == "dark":
        cell = cell + _taylor_step(maps, column, row, sigma)
    return torch.where((peak > 0)[..., None], torch.cat((cell, peak.clamp(0, 1)[..., None]), dim=-1), 0.0)


def in_pixels(found: Tensor) -> Tensor:
    """What `decode` found, (B, J, 3), in pixels of the picture instead of cells; what shows nothing stays 0, 0, 0."""
    places, confidence = found[..., :2], found[..., 2:]
    return torch.cat((torch.where(confidence > 0, from_cells(places), 0.0), confidence), dim=-1)


def mirrored(maps: Tensor, width: int) -> Tensor:
    """The maps of a mirrored picture, mirrored back.

    The last column of maps reaches beyond a picture whose width is no multiple of `STRIDE`, in the mirror on the
    picture's other side: its cells lie beside ours by a part of a cell, and ours lie between them.

    Args:
        maps: (B, J, h, ⌈width / 4⌉).
        width: of the picture, pixels.
    """
    beyond = -width % STRIDE / STRIDE
    turned = maps.flip(-1)
    return torch.lerp(turned, torch.cat((turned[..., 1:], turned[..., -1:]), dim=-1), beyond) if beyond else turned


def _quarter_step(maps: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """(B, J, 2) ±1/4 in x and y; nothing beside the rim, whose first two cells the authors leave out."""
    height, width = maps.shape[-2:]
    rise = torch.stack(
        (
            _at(maps, column + 1, row) - _at(maps, column - 1, row),
            _at(maps, column, row + 1) - _at(maps, column, row - 1),
        ),
        dim=-1,
    )
    inner = (column > 1) & (column < width - 1) & (row > 1) & (row < height - 1)
    return QUARTER * rise.sign() * inner[..., None]


def _taylor_step(maps: Tensor, column: Tensor, row: Tensor, sigma: float) -> Tensor:
    """(B, J, 2), -H⁻¹ g of the blurred map's logarithm, with the differences of DARK's released code.

    The logarithm of a Gaussian is a parabola, so that the step is exact for one. Where the map is no hill at its
    largest cell there is no step, and none is longer than a cell, which the code does not say.
    """
    height, width = maps.shape[-2:]
    logs = _blurred(maps, sigma).clamp_min(SMALLEST).log()

    def at(x: int, y: int) -> Tensor:
        return _at(logs, column + x, row + y)

    here = at(0, 0)
    gx, gy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    hxx, hyy = (at(2, 0) - 2 * here + at(-2, 0)) / 4, (at(0, 2) - 2 * here + at(0, -2)) / 4
    hxy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    determinant = hxx * hyy - hxy.square()
    inner = (column > 1) & (column < width - 2) & (row > 1) & (row < height - 2)
    hill = inner & (hxx < 0) & (determinant > 0)
    safe = torch.where(hill, determinant, 1.0)
    step = torch.stack(((hxy * gy - hyy * gx) / safe, (hxy * gx - hxx * gy) / safe), dim=-1)
    return torch.where(hill[..., None], step.clamp(-1, 1), 0.0)


def _at(maps: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """(B, J) values of each map at its own cell; cells outside are the nearest inside."""
    height, width = maps.shape[-2:]
    place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    return maps.flatten(2).gather(2, place[..., None]).squeeze(2)


def _blurred(maps: Tensor, sigma: float) -> Tensor:
    """Every map convolved with a Gaussian; beyond the map there is 0."""
    radius = math.ceil(WINDOW * sigma)
    taps = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    taps = torch.exp(-taps.square() / (2 * sigma**2))
    taps = taps / taps.sum()
    single = maps.flatten(0, 1)[:, None]
    single = functional.conv2d(single, taps.view(1, 1, 1, -1), padding=(0, radius))
    return functional.conv2d(single, taps.view(1, 1, -1, 1), padding=(radius, 0)).view_as(maps)
