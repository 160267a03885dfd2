"""Initial weights by name, each rule in its origin's exact form. Biases start at 0, normalizations at the identity.

| name           | variance of a weight | origin                                                             |
| -------------- | -------------------- | ------------------------------------------------------------------ |
| gaussian       | 0.01²                | Krizhevsky, Sutskever, Hinton 2012 (AlexNet)                       |
| glorot_normal  | 2 / (n_in + n_out)   | Glorot, Bengio 2010, eq. 12; their "xavier"                        |
| glorot_uniform | the same, bound √(6 / (n_in + n_out)) | eq. 16                                            |
| caffe_xavier   | 1 / n_in, uniform    | Caffe's filler "xavier" at its default FAN_IN: not Glorot's rule   |
| he_fan_in      | 2 / n_in             | He, Zhang, Ren, Sun 2015 (arXiv:1502.01852), eq. 10                |
| he_fan_out     | 2 / n_out            | eq. 14; the choice of torchvision's ResNets                        |
| lecun          | 1.92 / n_in², uniform | LeCun, Bottou, Bengio, Haffner 1998: bound 2.4 / n_in, no root    |

Through layers with ReLUs, he_fan_in keeps the second moment on the way forward, he_fan_out on the way backward.
n_in = k² c_in / groups and n_out = k² c_out / groups. torch's own `fan_out` forgets the groups: for the 2012
AlexNet's second convolution it reports 6400 where each group has 3200.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from ..registry import lookup

GAUSSIAN_STD = 0.01  # AlexNet, section 5


def fans(weight: Tensor, groups: int = 1, transposed: bool = False) -> tuple[int, int]:
    """Connections into one output unit and out of one input unit.

    Args:
        weight: (out, in / groups, ...) of a convolution or (out, in) of a linear layer;
            (in, out / groups, ...) of a transposed convolution.
        groups: groups of the convolution.
        transposed: whether the layer is a transposed convolution.

    Returns:
        n_in, n_out. Strides are left aside, as in the papers.
    """
    taps = math.prod(weight.shape[2:])
    if transposed:
        return taps * weight.shape[0] // groups, taps * weight.shape[1]
    return taps * weight.shape[1], taps * weight.shape[0] // groups


def gaussian(weight: Tensor, std: float = GAUSSIAN_STD) -> None:
    """N(0, std²), whatever the layer's size."""
    nn.init.normal_(weight, 0.0, std)


def uniform(weight: Tensor, bound: float) -> None:
    """Uniform in ±bound, of the variance bound² / 3."""
    nn.init.uniform_(weight, -bound, bound)


RULES: dict[str, Callable[[Tensor, int, int], None]] = {
    "caffe_xavier": lambda weight, n_in, n_out: uniform(weight, math.sqrt(3 / n_in)),
    "gaussian": lambda weight, n_in, n_out: gaussian(weight),
    "glorot_normal": lambda weight, n_in, n_out: gaussian(weight, math.sqrt(2 / (n_in + n_out))),
    "glorot_uniform": lambda weight, n_in, n_out: uniform(weight, math.sqrt(6 / (n_in + n_out))),
    "he_fan_in": lambda weight, n_in, n_out: gaussian(weight, math.sqrt(2 / n_in)),
    "he_fan_out": lambda weight, n_in, n_out: gaussian(weight, math.sqrt(2 / n_out)),
    "lecun": lambda weight, n_in, n_out: uniform(weight, 2.4 / n_in),
}
"""Name to function of a weight, n_in and n_out that draws it in place."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm, nn.LayerNorm)


def initialize(module: nn.Module, rule: str) -> None:
    """Start every convolution and linear layer below `module` by one rule, biases at 0, normalizations at identity.

    Whatever a network treats differently (a residual branch that starts at 0) it sets after this call, never before.

    Args:
        module: any module; changed in place.
        rule: a key of `RULES`.

    Raises:
        UserError: there is no such rule.
    """
    initialize_weight = lookup("initialization", rule, RULES)
    for layer in module.modules():
        if isinstance(layer, (*_CONVOLUTIONS, nn.Linear)):
            groups, transposed = (1, False) if isinstance(layer, nn.Linear) else (layer.groups, layer.transposed)
            initialize_weight(layer.weight, *fans(layer.weight, groups, transposed))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, _NORMALIZATIONS) and layer.weight is not None:
            nn.init.ones_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
