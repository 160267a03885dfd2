"""The correlation of two feature maps: how alike every place of the first is to the places around it in the second.

Dosovitskiy, Fischer, Ilg, Häusser, Hazırbaş, Golkov, van der Smagt, Cremers, Brox: FlowNet, ICCV 2015,
arXiv:1504.06852, section 3 and equation 1, with patches of one unit:

    c(x, d) = 1/C SUM_channels f1(x) f2(x + d),    d over a square grid, f2 zero outside of its map

The paper's equation has no 1/C; the authors' layer divides, and weights trained with it need it.

Done by products of matrices. Displacements are multiples of the stride, so that units meet only units of their own
phase (rows and columns of equal remainder), and the maps fall into stride² problems of stride 1. There a tile of t x t
units of the first map against its surroundings of e x e in the second, e = t + 2 reach / stride, is one product. It
holds e² numbers per unit where (2 reach / stride + 1)² are wanted; those lie on diagonals, which one strided view
reads. Backwards the gradient is written into the same view of a matrix of zeros.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import UserError

TILES = (6, 8, 12, 16)
"""Sides that a tile may have. Larger ones waste products, smaller ones copy more of the surroundings."""

COPY = 100
"""Multiplications that take as long as copying one number; measured on a CPU."""

WORKSPACE = {"cpu": 2**20}
"""Numbers that surroundings and products of one round may hold, by device; a round is at least one pair. It bounds the
memory, whatever the batch; on a CPU it is what the cache holds."""
WORKSPACE_ELSEWHERE = 2**26
"""On a GPU, where small rounds wait for Python."""


def correlation(first: Tensor, second: Tensor, reach: int, stride: int = 1) -> Tensor:
    """Correlation of every unit of the first map with the units of the second within reach.

    Under autocast and for half precision it is computed and answered in float32. It can be differentiated once. While
    a network is exported or traced it is `correlation_by_shifts`, which consists of ordinary operations.

    Args:
        first, second: (B, C, H, W) each, any H and W.
        reach: largest displacement along x and along y, in units of the maps; a multiple of the stride.
        stride: between neighbouring displacements.

    Returns:
        (B, n², H, W) float32 (float64 for float64), n = 2 reach / stride + 1. Displacements are ordered by rows, dy
        slow: channel k is dx = (k mod n) stride - reach and dy = ⌊k / n⌋ stride - reach.

    Raises:
        UserError: the maps differ in shape, or the reach is no multiple of the stride.
    """
    first, second = _checked(first, second, reach, stride)
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return correlation_by_shifts(first, second, reach, stride)
    return _correlation(first, second, reach, stride)


def correlation_by_shifts(first: Tensor, second: Tensor, reach: int, stride: int = 1) -> Tensor:
    """The definition, one displacement after the other: pad, shift, multiply, mean, stack. See `correlation`."""
    first, second = _checked(first, second, reach, stride)
    height, width = first.shape[-2:]
    padded = functional.pad(second, (reach,) * 4)
    steps = range(0, 2 * reach + 1, stride)
    return torch.stack([(first * padded[..., y : y + height, x : x + width]).mean(1) for y in steps for x in steps], 1)


def _checked(first: Tensor, second: Tensor, reach: int, stride: int) -> tuple[Tensor, Tensor]:
    """Both maps, in float32 at least."""
    if first.shape != second.shape or first.dim() != 4:
        shapes = " and ".join("x".join(map(str, maps.shape)) for maps in (first, second))
        raise UserError(f"A correlation takes two maps of one shape (B, C, H, W), not {shapes}.")
    if stride < 1 or reach < 0 or reach % stride:
        raise UserError(f"A correlation's reach is a multiple of its stride; {reach} is none of {stride}.")
    precise = torch.float64 if torch.float64 in (first.dtype, second.dtype) else torch.float32
    return first.to(precise), second.to(precise)


# An operator of its own, so that torch.compile calls it as it stands instead of looking into its strided views.
@torch.library.custom_op("densevision::correlation", mutates_args=())
def _correlation(first: Tensor, second: Tensor, reach: int, stride: int) -> Tensor:
    plan = _Plan(first, reach, stride)
    made = first.new_empty(plan.answer)
    with torch.autocast(first.device.type, enabled=False):
        for part in plan.rounds:
            products = plan.tiles(first[part] / plan.channels) @ plan.windows(second[part]).mT
            made[part] = plan.cropped(plan.diagonals(products).reshape(len(products), *plan.padded))
    return made


@torch.library.custom_op("densevision::correlation_backward", mutates_args=())
def _correlation_backward(
    gradient: Tensor, first: Tensor, second: Tensor, reach: int, stride: int
) -> tuple[Tensor, Tensor]:
    plan = _Plan(first, reach, stride)
    to_first, to_second = torch.empty_like(first), torch.empty_like(second)
    # Every round writes all diagonals anew, so that the zeros around them serve all rounds.
    zeros = first.new_zeros(plan.rounds[0].stop if plan.rounds else 0, *plan.products)
    with torch.autocast(first.device.type, enabled=False):
        for part in plan.rounds:
            filled = functional.pad(gradient[part] / plan.channels, plan.beyond)
            products = zeros[: len(filled)]
            diagonals = plan.diagonals(products)
            diagonals.copy_(filled.reshape(diagonals.shape))
            to_first[part] = plan.from_tiles(products @ plan.windows(second[part]))
            to_second[part] = plan.from_windows(products.mT @ plan.tiles(first[part]))
    return to_first, to_second


@_correlation.register_fake
def _(first: Tensor, second: Tensor, reach: int, stride: int) -> Tensor:
    return first.new_empty(len(first), (2 * reach // stride + 1) ** 2, *first.shape[2:])


@_correlation_backward.register_fake
def _(gradient: Tensor, first: Tensor, second: Tensor, reach: int, stride: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(first), torch.empty_like(second)


def _remember(ctx, inputs, output) -> None:
    first, second, ctx.reach, ctx.stride = inputs
    ctx.save_for_backward(first, second)


def _differentiate(ctx, gradient: Tensor):
    return (*_correlation_backward(gradient, *ctx.saved_tensors, ctx.reach, ctx.stride), None, None)


_correlation.register_autograd(_differentiate, setup_context=_remember)


class _Plan:
    """How maps are cut into phases and tiles, and put together again.

    Attributes:
        channels: of the maps.
        answer: shape of the correlation.
        side, window: of a tile (t), and of its surroundings (e).
        rows, columns: tiles of one phase.
        beyond: how far tiles reach beyond the map, as `functional.pad` takes it.
        rounds: the batch in parts whose surroundings and products fit into the workspace.
    """

    def __init__(self, maps: Tensor, reach: int, stride: int) -> None:
        batch, self.channels, self.height, self.width = maps.shape
        self.reach, self.stride = reach, stride
        around = reach // stride
        self.n = 2 * around + 1
        self.answer = (batch, self.n**2, self.height, self.width)

        def tiling(side: int) -> tuple[int, int]:
            return math.ceil(self.height / (side * stride)), math.ceil(self.width / (side * stride))

        self.side = min(TILES, key=lambda t: math.prod(tiling(t)) * (t + 2 * around) ** 2 * (t * t + COPY))
        self.rows, self.columns = tiling(self.side)
        self.window = self.side + 2 * around
        below = self.rows * self.side * stride - self.height
        right = self.columns * self.side * stride - self.width
        self.beyond = (0, right, 0, below)
        self.padded = (self.n**2, self.height + below, self.width + right)
        self.products = (stride**2, self.rows, self.columns, self.side**2, self.window**2)

        numbers = stride**2 * self.rows * self.columns * self.window**2 * (self.channels + self.side**2)
        part = max(1, WORKSPACE.get(maps.device.type, WORKSPACE_ELSEWHERE) // numbers)
        self.rounds = [slice(start, min(start + part, batch)) for start in range(0, batch, part)]

    def cropped(self, maps: Tensor) -> Tensor:
        """Without what lies beyond the map."""
        return maps[..., : self.height, : self.width]

    def tiles(self, maps: Tensor) -> Tensor:
        """(b, C, H, W) to (b, stride², rows, columns, t², C), zero beyond the map."""
        t, s = self.side, self.stride
        cut = functional.pad(maps, self.beyond).reshape(-1, self.channels, self.rows, t, s, self.columns, t, s)
        return cut.permute(0, 4, 7, 2, 5, 3, 6, 1).reshape(-1, s * s, self.rows, self.columns, t * t, self.channels)

    def from_tiles(self, tiles: Tensor) -> Tensor:
        """The inverse of `tiles`."""
        t, s = self.side, self.stride
        cut = tiles.reshape(-1, s, s, self.rows, self.columns, t, t, self.channels).permute(0, 7, 3, 5, 1, 4, 6, 2)
        return self.cropped(cut.reshape(-1, self.channels, *self.padded[1:]))

    def windows(self, maps: Tensor) -> Tensor:
        """(b, C, H, W) to the surroundings of every tile, (b, stride², rows, columns, e², C)."""
        e, s, reach = self.window, self.stride, self.reach
        _, right, _, below = self.beyond
        padded = functional.pad(maps, (reach, right + reach, reach, below + reach))
        phases = padded.unflatten(3, (-1, s)).unflatten(2, (-1, s)).permute(0, 3, 5, 2, 4, 1).contiguous()
        windows = phases.unfold(3, e, self.side).unfold(4, e, self.side).movedim(5, -1)
        return windows.reshape(-1, s * s, self.rows, self.columns, e * e, self.channels)

    def from_windows(self, windows: Tensor) -> Tensor:
        """What `windows` read, added up where surroundings overlap: its gradient."""
        t, e, s, reach = self.side, self.window, self.stride, self.reach
        blocks = math.ceil(e / t)
        height, width = self.rows + blocks - 1, self.columns + blocks - 1
        windows = windows.reshape(-1, s * s, self.rows, self.columns, e, e, self.channels)
        phases = windows.new_zeros(len(windows), s * s, height, t, width, t, self.channels)
        for y in range(blocks):
            for x in range(blocks):
                block = windows[..., y * t : (y + 1) * t, x * t : (x + 1) * t, :].transpose(3, 4)
                there = phases[:, :, y : y + self.rows, : block.shape[3], x : x + self.columns, : block.shape[5]]
                there += block
        maps = phases.reshape(-1, s, s, height * t, width * t, self.channels).permute(0, 5, 3, 1, 4, 2)
        maps = maps.reshape(-1, self.channels, height * t * s, width * t * s)
        return maps[..., reach : reach + self.height, reach : reach + self.width]

    def diagonals(self, products: Tensor) -> Tensor:
        """The wanted entries of (b, stride², rows, columns, t², e²), a view of shape
        (b, n, n, rows, t, stride, columns, t, stride): flattened, a correlation with what lies beyond the map."""
        t, e, s = self.side, self.window, self.stride
        # Unit (i, j) of a tile is row i t + j; the unit displaced by (u, v) from it is column (i + u) e + (j + v).
        down, across = t * e * e + e, e * e + 1
        tile = t * t * e * e
        row = self.columns * tile
        phase = self.rows * row
        sizes = (len(products), self.n, self.n, self.rows, t, s, self.columns, t, s)
        return products.as_strided(sizes, (s * s * phase, e, 1, row, down, s * phase, tile, across, phase))
