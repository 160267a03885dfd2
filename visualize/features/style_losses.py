"""Content and style losses of neural style transfer, and preservation of colors.

Gatys, Ecker, Bethge: A Neural Algorithm of Artistic Style. 2015, arXiv:1508.06576, equations 1 to 5. For a level with N
channels and M positions, F is the N x M matrix of activations, and

    content  1/2 sum (F - P)^2                  style  sum (F F' - A)^2 / (4 N^2 M^2)

Here the Gram matrix is F F' / M, which gives the same loss if both images have the same number of positions, and is
comparable if they do not. The authors' later code uses 4000 / N^2 times the paper's style loss, and ports that divide
the Gram matrix by N M use 4 / N^2 times.

Color-preserving style transfer.

Gatys, Bethge, Hertzmann, Shechtman: Preserving Color in Neural Artistic Style Transfer. 2016, arXiv:1606.05897: the
style image takes the content's colors first (section 3), or only the luminance is transferred (section 4).
Images are (1, 3, H, W) in [0, 1].
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
from ...tasks.image_io import LUMINANCE

EPSILON = 1e-5
"""Added to the variances, which are 0 for an image of one color."""


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


def default_layers(backbone: Backbone | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Default layers of content and style.

    For a VGG those of the paper, as far as the weights go: relu4_2 or the deepest layer, and relu1_1 to relu5_1 (the
    paper says conv, its authors' code uses ReLUs). For other backbones the last level but one, and all but the last.
    Without a backbone there are none.
    """
    if backbone is None:
        return (), ()
    relus = [name for name in vgg_layer_names(backbone) if name.startswith("relu")]
    if relus:
        return ("relu4_2" if "relu4_2" in relus else relus[-1],), tuple(name for name in relus if name.endswith("_1"))
    names = [level.name for level in backbone.levels]
    return (names[max(len(names) - 2, 0)],), tuple(names[:-1] or names)


def match_colors(image: Tensor, reference: Tensor) -> Tensor:
    """Transform colors linearly to the mean and covariance of a reference image; not clipped to [0, 1].

    The map is C^(1/2) S^(-1/2) for the covariances C of the reference and S of the image; among all maps with this
    property it does not depend on a choice of axes.
    """
    colors, reference_colors = (each.double()[0].flatten(1) for each in (image, reference))
    mapped = (
        _root(_covariance(reference_colors), 0.5)
        @ _root(_covariance(colors), -0.5)
        @ (colors - colors.mean(1, keepdim=True))
    )
    return (mapped + reference_colors.mean(1, keepdim=True)).view_as(image).to(image.dtype)


def luminance(pixels: Tensor) -> Tensor:
    """Luminance (Rec. 601), (1, 1, H, W)."""
    return (pixels * pixels.new_tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)


def to_gray(pixels: Tensor, reference: Tensor | None = None) -> Tensor:
    """Gray image, (1, 3, H, W), with mean and standard deviation of the reference's luminance if one is given."""
    luma = luminance(pixels)
    if reference is not None:
        reference_colors = luminance(reference)
        luma = (luma - luma.mean()) * reference_colors.std() / luma.std().clamp_min(EPSILON) + reference_colors.mean()
    return luma.expand(-1, 3, -1, -1)


def with_luminance(pixels: Tensor, luma: Tensor) -> Tensor:
    """Replace the luminance, clipped to [0, 1].

    The same value is added to red, green and blue, so that I and Q of YIQ are unchanged.
    """
    return (pixels + luminance(luma) - luminance(pixels)).clamp(0, 1)


def _covariance(colors: Tensor) -> Tensor:
    return torch.cov(colors, correction=0) + EPSILON * torch.eye(len(colors), dtype=colors.dtype, device=colors.device)


def _root(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**power) @ vectors.mT
