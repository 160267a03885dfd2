"""What neural style compares: activations place by place for content, how channels occur together for style.

Gatys, Ecker, Bethge: A Neural Algorithm of Artistic Style. 2015, arXiv:1508.06576, equations 1 to 5. Of a level with N
channels and M places, F is the N x M matrix of activations, and

    content  1/2 sum (F - P)^2                  style  sum (F F' - A)^2 / (4 N^2 M^2)

Here the Gram matrix is F F' / M, which gives the same number where both pictures have as many places, and compares
what can be compared where they have not. The authors' later code takes 4000 / N^2 of the paper's style term, and ports
that divide the Gram matrix by N M take 4 / N^2 of it.
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


def gram(maps: Tensor) -> Tensor:
    """F F' / M of (B, N, h, w), each sample's own: (B, N, N)."""
    flat = maps.flatten(2)
    return flat @ flat.mT / flat.shape[2]


def style_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """sum (G - A)^2 / (4 N^2) of two `gram` matrices (1, N, N)."""
    return (made - wanted).square().sum() / (4 * made.shape[1] ** 2)


def content_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """1/2 sum (F - P)^2 of two maps (1, N, h, w)."""
    return (made - wanted).square().sum() / 2


def roughness(pixels: Tensor) -> Tensor:
    """Total variation of (1, C, H, W): the mean square difference of neighbours along both axes, added."""
    return pixels.diff(dim=-1).square().mean() + pixels.diff(dim=-2).square().mean()


@contextmanager
def averaging_pools() -> Iterator[None]:
    """While it lasts, every max pool that runs averages instead, over the same window. Networks are not touched.

    Padding is left out of the means, as it is left out of maxima.
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


def paper_layers(trunk: Backbone | None) -> dict[str, str]:
    """The layers of a VGG by the papers' names ("conv1_1", "relu1_1"), with their submodules; none of other trunks.

    Layers behind the end of the weights are left out.
    """
    named: dict[str, str] = {}
    if not isinstance(trunk, VGG):
        return named
    block, number = 1, 0
    for index, layer in enumerate(trunk.convolutions):
        if isinstance(layer, nn.MaxPool2d):
            block, number = block + 1, 0
        elif isinstance(layer, nn.Conv2d):
            if not layer.weight.is_meta and bool(layer.weight.isnan().any()):
                break
            number += 1
            named[f"conv{block}_{number}"] = f"convolutions.{index}"
        elif isinstance(layer, nn.ReLU):
            named[f"relu{block}_{number}"] = f"convolutions.{index}"
    return named


def usual_layers(trunk: Backbone) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The layers of content and of style, where nobody names others.

    Of a VGG the paper's, as far as the weights go: relu4_2 or the deepest there is, and relu1_1 to relu5_1 (the paper
    says conv, and its authors' code takes the ReLUs). Of other trunks the last level but one, and all but the last.
    """
    relus = [name for name in paper_layers(trunk) if name.startswith("relu")]
    if relus:
        return ("relu4_2" if "relu4_2" in relus else relus[-1],), tuple(name for name in relus if name.endswith("_1"))
    names = [level.name for level in trunk.levels]
    return (names[max(len(names) - 2, 0)],), tuple(names[:-1] or names)
