"""What every network of this task gives: motion at several resolutions, of which the last is the answer."""

from __future__ import annotations

from torch import Tensor

from ..task import Network


class FlowNetwork(Network):
    """Two pictures in, motion in pixels out.

    Attributes:
        takes: "whole": what moves far is found by looking far, so that tiles would lose it.
        stride: of the coarsest level.
    """

    takes = "whole"

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """The motion at every resolution at which it is estimated, for a loss on each.

        Args:
            first, second: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 2, h, w) float32 each, coarse to fine, x then y, in pixels of the *input* whatever h and w are.
        """
        raise NotImplementedError

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The finest motion, (B, 2, h, w) float32 pixels of the input; see `pyramid`."""
        return self.pyramid(first, second)[-1]
