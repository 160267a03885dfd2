"""Maps that differ from a clean picture's in a window each: only the windows are computed.

`Changed` is a tensor to the network that reads it: (B, C, H, W), a map for each of B covered pictures. Inside it is
the clean picture's map, which all of them share, and a small tile for each. Convolutions and pools read a crop of the
clean map with the tile pasted in, and beyond the map's true border what they pad with; additions and the like work on
tiles. So any Python in a network is followed. What is not known here (a mean over places, attention) reads the maps in
full, and everything behind it is computed in full.

A window that has grown to `PAYS` of its map becomes the map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .occlusion_windows import Windows

PAYS = 0.8
"""Larger shares of a map are not worth the cutting and pasting."""


@dataclass
class Step:
    """One operation's result.

    Attributes:
        clean: (1, C, H, W), the clean picture's.
        rows, columns: where the covered pictures' may differ from it.
    """

    clean: Tensor
    rows: Windows
    columns: Windows

    @property
    def whole(self) -> bool:
        """Whether tiles are maps."""
        return self.rows.whole and self.columns.whole


@dataclass
class Trail:
    """What all batches of patches share: the operations' results on the clean picture, in the order in which they ran.

    Attributes:
        steps: of the first batch; the others find them here.
        chosen: (B,) which patches the batch at hand covers.
        position: how many operations of this batch have run.
        left_at: the first operation that read maps in full while tiles were still smaller; None: there was none.
    """

    steps: list[Step] = field(default_factory=list)
    chosen: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    position: int = 0
    left_at: str | None = None

    def begin(self, chosen: Tensor) -> None:
        """The next batch."""
        self.chosen, self.position = chosen, 0

    def step(self, make: Callable[[], Step]) -> Step:
        """The next operation's."""
        if self.position == len(self.steps):
            made = make()
            if made.rows.size * made.columns.size >= PAYS * made.rows.extent * made.columns.extent:
                made = Step(made.clean, made.rows.everything(), made.columns.everything())
            self.steps.append(made)
        self.position += 1
        return self.steps[self.position - 1]


class Changed(Tensor):
    """(B, C, H, W) maps, of which tiles are stored.

    Attributes:
        tiles: (B, C, h, w), the maps in the windows of `step` that `trail` has chosen.
        step: the clean map and all windows.
        trail: of the pass that this belongs to.
    """

    tiles: Tensor
    step: Step
    trail: Trail

    @staticmethod
    def __new__(cls, tiles: Tensor, step: Step, trail: Trail) -> Changed:
        shape = (len(tiles), *step.clean.shape[1:])
        made: Changed = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=tiles.dtype, device=tiles.device)
        made.tiles, made.step, made.trail = tiles, step, trail
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"Changed({tuple(self.tiles.shape)} of {tuple(self.shape)})"

    def whole(self) -> Tensor:
        """The maps in full, as a usual tensor."""
        return self.within(self.step.rows.everything(), self.step.columns.everything())

    def fill_up(self) -> None:
        """Store the maps in full and laid out as usual, so that their views are views of what is stored."""
        self.tiles = self.whole().contiguous()
        self.step = Step(self.step.clean, self.step.rows.everything(), self.step.columns.everything())

    def within(self, rows: Windows, columns: Windows) -> Tensor:
        """(B, C, h, w): the maps in other windows."""
        if rows.same_as(self.step.rows) and columns.same_as(self.step.columns):
            return self.tiles
        chosen = self.trail.chosen
        return self.crop((rows.start[chosen], rows.size), (columns.start[chosen], columns.size))

    def crop(self, rows: tuple[Tensor, int], columns: tuple[Tensor, int], fill: float = 0.0) -> Tensor:
        """(B, C, h, w): the maps in windows that may reach beyond them.

        Args:
            rows, columns: (B,) where the windows start, and their size.
            fill: what is beyond.
        """
        chosen = self.trail.chosen
        batch, _, high, wide = self.tiles.shape
        ys, xs = (start[:, None] + torch.arange(size, device=start.device) for start, size in (rows, columns))
        made = cut(self.step.clean, ys, xs, fill)
        ys, xs = ys - self.step.rows.start[chosen, None], xs - self.step.columns.start[chosen, None]
        inside = ((ys >= 0) & (ys < high))[:, :, None] & ((xs >= 0) & (xs < wide))[:, None, :]
        number = torch.arange(batch, device=ys.device)[:, None, None]
        sources = ((number * high + ys[:, :, None]) * wide + xs[:, None, :])[inside]
        _table(made)[inside.flatten()] = _table(self.tiles).index_select(0, sources)
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        from .occlusion_rules import AS_A_WHOLE, place_by_place

        if func in AS_A_WHOLE:
            return place_by_place(func, args, kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        from .occlusion_rules import follow

        return follow(func, args, kwargs or {})


def cut(clean: Tensor, ys: Tensor, xs: Tensor, fill: float = 0.0) -> Tensor:
    """(B, C, h, w) out of one map.

    Args:
        clean: (1, C, H, W).
        ys, xs: (B, h) rows and (B, w) columns, which may lie beyond the map.
        fill: what is beyond.
    """
    channels, height, width = clean.shape[1:]
    places = ys.clamp(0, height - 1)[:, :, None] * width + xs.clamp(0, width - 1)[:, None, :]
    made = _table(clean).index_select(0, places.flatten())
    beyond = ((ys < 0) | (ys >= height))[:, :, None] | ((xs < 0) | (xs >= width))[:, None, :]
    if bool(beyond.any()):
        made[beyond.flatten()] = fill
    return made.view(len(ys), ys.shape[1], xs.shape[1], channels).permute(0, 3, 1, 2)


def covered_maps(
    picture: Tensor, cover: Tensor, corners: tuple[Tensor, Tensor], patch: tuple[int, int], trail: Trail
) -> Callable[[Tensor], Changed]:
    """Batches of covered pictures, by the numbers of their patches.

    Args:
        picture: (1, C, H, W), the clean one.
        cover: (1, C, H, W), what it is covered with.
        corners: (N,) the patches' first rows, and their first columns.
        patch: their (height, width).
        trail: a new one.
    """
    windows = [
        Windows(start, start + side - 1, extent)
        for start, side, extent in zip(corners, patch, picture.shape[-2:], strict=True)
    ]
    # Places are cut and pasted, so their channels lie side by side.
    step = Step(picture.contiguous(memory_format=torch.channels_last), windows[0], windows[1])

    def cover_some(chosen: Tensor) -> Changed:
        trail.begin(chosen)
        ys, xs = (
            start[chosen, None] + torch.arange(side, device=start.device)
            for start, side in zip(corners, patch, strict=True)
        )
        return Changed(cut(cover, ys, xs), step, trail)

    return cover_some


def _table(maps: Tensor) -> Tensor:
    """(places, channels) of (B, channels, h, w)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
