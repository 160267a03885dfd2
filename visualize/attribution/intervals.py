"""Intervals of units that an occluded patch can change, along one axis, for all patches at once.

For changed pixels first ... last, a layer with kernel k, stride s, padding p and dilation d, and k' = d (k - 1) + 1,
changes the units

    ceil((first + p - k' + 1) / s) ... floor((last + p) / s)

clipped to the map. All other units are those of the clean image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Intervals:
    """Units along one axis of a map that may have changed, for every patch.

    Attributes:
        first, last: (N,) integers, both inclusive, inside the map.
        extent: number of units of the map.
    """

    first: Tensor
    last: Tensor
    extent: int

    @cached_property
    def size(self) -> int:
        """Common size of all windows, so that they form one batch: that of the widest interval."""
        return int((self.last - self.first).max()) + 1

    @cached_property
    def start(self) -> Tensor:
        """(N,) starts of the windows of this size; near the end of the map, windows start before their interval."""
        return self.first.clamp_max(self.extent - self.size)

    @property
    def is_full(self) -> bool:
        """Whether the windows cover the entire map."""
        return self.size == self.extent

    def apply_layer(self, kernel: int, stride: int, padding: int, dilation: int, extent: int) -> Intervals:
        """Intervals after a layer whose map has `extent` units."""
        reach = dilation * (kernel - 1)
        first = -((reach - padding - self.first) // stride)
        last = (self.last + padding) // stride
        first = first.clamp(0, extent - 1)
        # A stride may skip the only changed unit; the window then contains one unchanged unit.
        return Intervals(first, torch.maximum(last.clamp(0, extent - 1), first), extent)

    def union(self, other: Intervals) -> Intervals:
        """Smallest intervals that contain both, for operations with two inputs."""
        if self is other:
            return self
        return Intervals(torch.minimum(self.first, other.first), torch.maximum(self.last, other.last), self.extent)

    def full(self) -> Intervals:
        """Intervals that cover the entire map."""
        return Intervals(torch.zeros_like(self.first), torch.full_like(self.last, self.extent - 1), self.extent)

    def same_as(self, other: Intervals) -> bool:
        """Whether both have the same windows."""
        if self is other:
            return True
        return self.size == other.size and self.extent == other.extent and torch.equal(self.start, other.start)
