"""Correlation of two feature maps (cost volume): the similarity of every position to its surroundings in the other map.

Dosovitskiy, Fischer, Ilg, Häusser, Hazırbaş, Golkov, van der Smagt, Cremers, Brox: FlowNet, ICCV 2015,
arXiv:1504.06852, section 3 and equation 1, with patches of 1 x 1:

    c(x, d) = 1/C SUM_channels f1(x) f2(x + d),    d over a square grid, f2 zero outside its map

The paper's equation has no 1/C; the authors' layer divides by C, and weights trained with it need the factor.

Computed by matrix products. Displacements are multiples of the stride, so positions are compared only within their own
phase (equal remainders of row and column), and the maps split into stride² problems of stride 1. There, a tile of t x t
positions of the first map times its window of e x e in the second, e = t + 2 max_displacement / stride, is one product.
It has e² entries per position, of which (2 max_displacement / stride + 1)² are needed; they are on diagonals, which one
strided view reads. The backward pass writes the gradient into the same view of a zero matrix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import UserError

TILE_SIZES = (6, 8, 12, 16)
"""Candidate values of t. Larger tiles compute more unused products, smaller ones copy more of the windows."""

COPY_COST = 100
"""Number of multiplications that take as long as copying one value; measured on a CPU."""

WORKSPACE = {"cpu": 2**20}
"""Maximum number of values in the windows and products of one round, by device; a round has at least one pair. It
bounds the memory for any batch size; on a CPU it is the size of the cache."""
DEFAULT_WORKSPACE = 2**26
"""For GPUs, where small rounds are limited by the overhead of Python."""


def correlation(first: Tensor, second: Tensor, max_displacement: int, stride: int = 1) -> Tensor:
    """Correlate every position of the first map with the positions of the second within a maximum displacement.

    Under autocast and for half precision it is computed and returned in float32. It can be differentiated once. During
    export and tracing it is `correlation_by_shifts`, which consists of standard operators.

    Args:
        first, second: (B, C, H, W) each, any H and W.
        max_displacement: maximum displacement along x and along y, in pixels of the maps; a multiple of the stride.
        stride: step between neighboring displacements.

    Returns:
        (B, n², H, W) float32 (float64 for float64), n = 2 max_displacement / stride + 1. Displacements are ordered by
        rows, dx fastest: channel k is dx = (k mod n) stride - max_displacement and dy = ⌊k / n⌋ stride -
        max_displacement.

    Raises:
        UserError: the maps differ in shape, or the maximum displacement is not a multiple of the stride.
    """
    first, second = _to_float(first, second, max_displacement, stride)
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return correlation_by_shifts(first, second, max_displacement, stride)
    return _correlation(first, second, max_displacement, stride)


def correlation_by_shifts(first: Tensor, second: Tensor, max_displacement: int, stride: int = 1) -> Tensor:
    """Reference implementation by a loop over displacements: pad, shift, multiply, mean, stack. See `correlation`."""
    first, second = _to_float(first, second, max_displacement, stride)
    height, width = first.shape[-2:]
    padded = functional.pad(second, (max_displacement,) * 4)
    steps = range(0, 2 * max_displacement + 1, stride)
    return torch.stack([(first * padded[..., y : y + height, x : x + width]).mean(1) for y in steps for x in steps], 1)


def _to_float(first: Tensor, second: Tensor, max_displacement: int, stride: int) -> tuple[Tensor, Tensor]:
    """Check both maps and convert them to float32, or float64 if one of them is."""
    if first.shape != second.shape or first.dim() != 4:
        shapes = " and ".join("x".join(map(str, maps.shape)) for maps in (first, second))
        raise UserError(f"A correlation needs two maps of the same shape (B, C, H, W), not {shapes}.")
    if stride < 1 or max_displacement < 0 or max_displacement % stride:
        raise UserError(
            f"The maximum displacement of a correlation must be a multiple of its stride; {max_displacement} is not a "
            f"multiple of {stride}."
        )
    precise = torch.float64 if torch.float64 in (first.dtype, second.dtype) else torch.float32
    return first.to(precise), second.to(precise)


# A custom operator, which torch.compile calls without tracing into its strided views.
@torch.library.custom_op("densevision::correlation", mutates_args=())
def _correlation(first: Tensor, second: Tensor, max_displacement: int, stride: int) -> Tensor:
    plan = _Plan(first, max_displacement, stride)
    output = first.new_empty(plan.output_shape)
    with torch.autocast(first.device.type, enabled=False):
        for part in plan.rounds:
            products = plan.tiles(first[part] / plan.channels) @ plan.windows(second[part]).mT
            output[part] = plan.crop(plan.diagonals(products).reshape(len(products), *plan.padded_shape))
    return output


@torch.library.custom_op("densevision::correlation_backward", mutates_args=())
def _correlation_backward(
    gradient: Tensor, first: Tensor, second: Tensor, max_displacement: int, stride: int
) -> tuple[Tensor, Tensor]:
    plan = _Plan(first, max_displacement, stride)
    grad_first, grad_second = torch.empty_like(first), torch.empty_like(second)
    # Every round overwrites all diagonals, so the zeros around them are reused.
    zeros = first.new_zeros(plan.rounds[0].stop if plan.rounds else 0, *plan.product_shape)
    with torch.autocast(first.device.type, enabled=False):
        for part in plan.rounds:
            padded_gradient = functional.pad(gradient[part] / plan.channels, plan.padding)
            products = zeros[: len(padded_gradient)]
            diagonals = plan.diagonals(products)
            diagonals.copy_(padded_gradient.reshape(diagonals.shape))
            grad_first[part] = plan.from_tiles(products @ plan.windows(second[part]))
            grad_second[part] = plan.from_windows(products.mT @ plan.tiles(first[part]))
    return grad_first, grad_second


@_correlation.register_fake
def _(first: Tensor, second: Tensor, max_displacement: int, stride: int) -> Tensor:
    return first.new_empty(len(first), (2 * max_displacement // stride + 1) ** 2, *first.shape[2:])


@_correlation_backward.register_fake
def _(gradient: Tensor, first: Tensor, second: Tensor, max_displacement: int, stride: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(first), torch.empty_like(second)


def _setup_context(ctx, inputs, output) -> None:
    first, second, ctx.max_displacement, ctx.stride = inputs
    ctx.save_for_backward(first, second)


def _backward(ctx, gradient: Tensor):
    return (*_correlation_backward(gradient, *ctx.saved_tensors, ctx.max_displacement, ctx.stride), None, None)


_correlation.register_autograd(_backward, setup_context=_setup_context)


class _Plan:
    """Decomposition of maps into phases and tiles, and its inverse.

    Attributes:
        channels: channels of the maps.
        output_shape: shape of the correlation.
        tile, window: height and width of a tile (t) and of its window in the other map (e).
        rows, columns: number of tiles of one phase along y and x.
        padding: padding of the maps to complete tiles, for `functional.pad`.
        rounds: slices of the batch whose windows and products fit into the workspace.
    """

    def __init__(self, maps: Tensor, max_displacement: int, stride: int) -> None:
        batch, self.channels, self.height, self.width = maps.shape
        self.max_displacement, self.stride = max_displacement, stride
        radius = max_displacement // stride
        self.n = 2 * radius + 1
        self.output_shape = (batch, self.n**2, self.height, self.width)

        def tile_counts(tile: int) -> tuple[int, int]:
            return math.ceil(self.height / (tile * stride)), math.ceil(self.width / (tile * stride))

        def cost(tile: int) -> int:
            return math.prod(tile_counts(tile)) * (tile + 2 * radius) ** 2 * (tile * tile + COPY_COST)

        self.tile = min(TILE_SIZES, key=cost)
        self.rows, self.columns = tile_counts(self.tile)
        self.window = self.tile + 2 * radius
        bottom = self.rows * self.tile * stride - self.height
        right = self.columns * self.tile * stride - self.width
        self.padding = (0, right, 0, bottom)
        self.padded_shape = (self.n**2, self.height + bottom, self.width + right)
        self.product_shape = (stride**2, self.rows, self.columns, self.tile**2, self.window**2)

        values = stride**2 * self.rows * self.columns * self.window**2 * (self.channels + self.tile**2)
        part = max(1, WORKSPACE.get(maps.device.type, DEFAULT_WORKSPACE) // values)
        self.rounds = [slice(start, min(start + part, batch)) for start in range(0, batch, part)]

    def crop(self, maps: Tensor) -> Tensor:
        """Remove the padding."""
        return maps[..., : self.height, : self.width]

    def tiles(self, maps: Tensor) -> Tensor:
        """(b, C, H, W) to (b, stride², rows, columns, t², C), zero outside the map."""
        t, s = self.tile, self.stride
        cut = functional.pad(maps, self.padding).reshape(-1, self.channels, self.rows, t, s, self.columns, t, s)
        return cut.permute(0, 4, 7, 2, 5, 3, 6, 1).reshape(-1, s * s, self.rows, self.columns, t * t, self.channels)

    def from_tiles(self, tiles: Tensor) -> Tensor:
        """The inverse of `tiles`."""
        t, s = self.tile, self.stride
        cut = tiles.reshape(-1, s, s, self.rows, self.columns, t, t, self.channels).permute(0, 7, 3, 5, 1, 4, 6, 2)
        return self.crop(cut.reshape(-1, self.channels, *self.padded_shape[1:]))

    def windows(self, maps: Tensor) -> Tensor:
        """(b, C, H, W) to the window of every tile, (b, stride², rows, columns, e², C)."""
        e, s, d = self.window, self.stride, self.max_displacement
        _, right, _, bottom = self.padding
        padded = functional.pad(maps, (d, right + d, d, bottom + d))
        phases = padded.unflatten(3, (-1, s)).unflatten(2, (-1, s)).permute(0, 3, 5, 2, 4, 1).contiguous()
        windows = phases.unfold(3, e, self.tile).unfold(4, e, self.tile).movedim(5, -1)
        return windows.reshape(-1, s * s, self.rows, self.columns, e * e, self.channels)

    def from_windows(self, windows: Tensor) -> Tensor:
        """The adjoint of `windows` (its gradient): values are summed where windows overlap."""
        t, e, s, d = self.tile, self.window, self.stride, self.max_displacement
        blocks = math.ceil(e / t)
        height, width = self.rows + blocks - 1, self.columns + blocks - 1
        windows = windows.reshape(-1, s * s, self.rows, self.columns, e, e, self.channels)
        phases = windows.new_zeros(len(windows), s * s, height, t, width, t, self.channels)
        for y in range(blocks):
            for x in range(blocks):
                block = windows[..., y * t : (y + 1) * t, x * t : (x + 1) * t, :].transpose(3, 4)
                target = phases[:, :, y : y + self.rows, : block.shape[3], x : x + self.columns, : block.shape[5]]
                target += block
        maps = phases.reshape(-1, s, s, height * t, width * t, self.channels).permute(0, 5, 3, 1, 4, 2)
        maps = maps.reshape(-1, self.channels, height * t * s, width * t * s)
        return maps[..., d : d + self.height, d : d + self.width]

    def diagonals(self, products: Tensor) -> Tensor:
        """The needed entries of (b, stride², rows, columns, t², e²) as a view of shape
        (b, n, n, rows, t, stride, columns, t, stride): flattened, the correlation of the padded maps."""
        t, e, s = self.tile, self.window, self.stride
        # Position (i, j) of a tile is row i t + j; displaced by (u, v), it is column (i + u) e + (j + v).
        row_step, column_step = t * e * e + e, e * e + 1
        tile = t * t * e * e
        row = self.columns * tile
        phase = self.rows * row
        sizes = (len(products), self.n, self.n, self.rows, t, s, self.columns, t, s)
        return products.as_strided(sizes, (s * s * phase, e, 1, row, row_step, s * phase, tile, column_step, phase))
