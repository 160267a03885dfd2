"""Base class of optical flow models."""

from __future__ import annotations

from torch import Tensor

from ..network import Network


class FlowNetwork(Network):
    """Model that estimates the flow between two images, at one or several resolutions.

    Attributes:
        input_policy: "whole": large motion is found in a large receptive field, which tiles would cut off.
        stride: stride of the coarsest level.
    """

    input_policy = "whole"

    def pyramid(self, first: Tensor, second: Tensor) -> list[Tensor]:
        """Flow at every resolution at which it is estimated, for a loss on each of them.

        Args:
            first, second: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 2, h, w) float32 each, coarse to fine; x then y, in pixels of the *input* whatever h and w are.
        """
        raise NotImplementedError

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow at the finest resolution, (B, 2, h, w) float32, in pixels of the input; see `pyramid`."""
        return self.pyramid(first, second)[-1]
