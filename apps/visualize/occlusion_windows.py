"""Which units of a map a covered patch can change: the arithmetic, along one axis, for all patches at once.

Of the pixels first ... last, a layer of kernel k, stride s, padding p and dilation d, with k' = d (k - 1) + 1, changes
the units

    ceil((first + p - k' + 1) / s) ... floor((last + p) / s)

clipped to the map. Whatever lies outside of them is the clean picture's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Windows:
    """Along one axis of a map: the units that may have changed, for every patch.

    Attributes:
        first, last: (N,) whole numbers, both inclusive, inside the map.
        extent: how many units the map has.
    """

    first: Tensor
    last: Tensor
    extent: int

    @cached_property
    def size(self) -> int:
        """One size for all patches, so that they can be computed together: that of the widest."""
        return int((self.last - self.first).max()) + 1

    @cached_property
    def start(self) -> Tensor:
        """(N,) where windows of that size start; near the end of the map they start earlier."""
        return self.first.clamp_max(self.extent - self.size)

    @property
    def whole(self) -> bool:
        """Whether the windows are the map."""
        return self.size == self.extent

    def through(self, kernel: int, stride: int, padding: int, dilation: int, extent: int) -> Windows:
        """Behind a layer whose map has `extent` units."""
        reach = dilation * (kernel - 1)
        first = -((reach - padding - self.first) // stride)
        last = (self.last + padding) // stride
        first = first.clamp(0, extent - 1)
        # A stride may jump over the only changed unit; the window then holds one that did not change.
        return Windows(first, torch.maximum(last.clamp(0, extent - 1), first), extent)

    def joined(self, other: Windows) -> Windows:
        """Where two branches meet: from the first unit of either to the last of either."""
        if self is other:
            return self
        return Windows(torch.minimum(self.first, other.first), torch.maximum(self.last, other.last), self.extent)

    def everything(self) -> Windows:
        """The map itself."""
        return Windows(torch.zeros_like(self.first), torch.full_like(self.last, self.extent - 1), self.extent)

    def same_as(self, other: Windows) -> bool:
        """Whether both have the same windows."""
        if self is other:
            return True
        return self.size == other.size and self.extent == other.extent and torch.equal(self.start, other.start)
