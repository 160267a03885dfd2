"""Content and style losses of neural style transfer.

Gatys, Ecker, Bethge: A Neural Algorithm of Artistic Style. 2015, arXiv:1508.06576, equations 1 to 5. For a level with N
channels and M positions, F is the N x M matrix of activations, and

    content  1/2 sum (F - P)^2                  style  sum (F F' - A)^2 / (4 N^2 M^2)

Here the Gram matrix is F F' / M, which gives the same loss if both images have the same number of positions, and is
comparable if they do not. The authors' later code uses 4000 / N^2 times the paper's style loss, and ports that divide
the Gram matrix by N M use 4 / N^2 times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ...backbones.backbone import Backbone
from ...backbones.vgg import VGG


def gram_matrix(maps: Tensor) -> Tensor:
    """Gram matrix F F' / M of (B, N, h, w), per sample: (B, N, N)."""
    flat = maps.flatten(2)
    return flat @ flat.mT / flat.shape[2]


def style_loss(output: Tensor, target: Tensor) -> Tensor:
    """sum (G - A)^2 / (4 N^2) of two Gram matrices (1, N, N)."""
    return (output - target).square().sum() / (4 * output.shape[1] ** 2)


def content_loss(output: Tensor, target: Tensor) -> Tensor:
    """1/2 sum (F - P)^2 of two maps (1, N, h, w)."""
    return (output - target).square().sum() / 2


def mean_total_variation(pixels: Tensor) -> Tensor:
    """Total variation of (1, C, H, W): mean squared differences of adjacent pixels, summed over both axes."""
    return pixels.diff(dim=-1).square().mean() + pixels.diff(dim=-2).square().mean()


@contextmanager
def average_pooling() -> Iterator[None]:
    """Context in which every max pool averages over the same window; the model is not changed.

    Padding is excluded from the means, as it is from the maxima.
    """

    def average(
        x: Tensor,
        kernel: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        **_: Any,
    ) -> Tensor:
        return functional.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad=False)

    pools: set[Callable[..., Any]] = {functional.max_pool2d, torch.max_pool2d}

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = dict(kwargs or {})
            if func not in pools:
                return func(*args, **kwargs)
            named = [kwargs.pop(name) for name in ("input", "kernel_size") if name in kwargs]
            return average(*args, *named, **kwargs)

    with Mode():
        yield


def vgg_layer_names(backbone: Backbone | None) -> dict[str, str]:
    """Submodules of a VGG by the paper's layer names ("conv1_1", "relu1_1"); empty for other backbones.

    Layers after the end of partial weights are left out.
    """
    names: dict[str, str] = {}
    if not isinstance(backbone, VGG):
        return names
    block, number = 1, 0
    for index, layer in enumerate(backbone.convolutions):
        if isinstance(layer, nn.MaxPool2d):
            block, number = block + 1, 0
        elif isinstance(layer, nn.Conv2d):
            if not layer.weight.is_meta and bool(layer.weight.isnan().any()):
                break
            number += 1
            names[f"conv{block}_{number}"] = f"convolutions.{index}"
        elif isinstance(layer, nn.ReLU):
            names[f"relu{block}_{number}"] = f"convolutions.{index}"
    return names


def default_layers(backbone: Backbone) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Default layers of content and style.

    For a VGG those of the paper, as far as the weights go: relu4_2 or the deepest layer, and relu1_1 to relu5_1 (the
    paper says conv, its authors' code uses ReLUs). For other backbones the last level but one, and all but the last.
    """
    relus = [name for name in vgg_layer_names(backbone) if name.startswith("relu")]
    if relus:
        return ("relu4_2" if "relu4_2" in relus else relus[-1],), tuple(name for name in relus if name.endswith("_1"))
    names = [level.name for level in backbone.levels]
    return (names[max(len(names) - 2, 0)],), tuple(names[:-1] or names)
