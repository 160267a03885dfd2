"""What several papers' trunks share. A layer that one paper alone uses stands in that paper's file."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


def linear_as_convolution(linear: nn.Linear, maps: Tensor, side: int = 1) -> Tensor:
    """A fully connected layer at every place of a map where its input fits: the dense evaluation of Simonyan and
    Zisserman 2014 (arXiv:1409.1556), section 3.2.

    Args:
        linear: of `channels * side * side` inputs, flattened channels first, as torch's `flatten(1)` does.
        maps: (B, channels, h, w).
        side: of the square of units that the layer sees.

    Returns:
        (B, linear.out_features, h - side + 1, w - side + 1).
    """
    return functional.conv2d(maps, linear.weight.unflatten(1, (-1, side, side)), linear.bias)
