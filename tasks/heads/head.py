"""Head: the contract of decoders from backbone levels to a map at the size of the image."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones.backbone import Backbone, Level, levels_are_aligned


class Head(nn.Module):
    """A decoder on any backbone.

    Subclasses select levels by stride, never by position (VGG has a level of stride 1, ResNet has not), and take every
    feature map at its real size, so that images of odd sizes are valid.

    Args:
        levels: levels that the backbone's `features` returns, fine to coarse.
        channels: number of output channels.

    Attributes:
        input_policy: "tiled": tiles of an image give the same output as the complete image; "whole": an operation
            depends on the extent of the image (global pooling, resampling with aligned corners).
        channels: number of output channels.
        stride: images whose height and width are multiples of it are decoded without resampling by odd factors; at
            least the stride of the coarsest level.
        predict: last layer, linear with bias. Tasks initialize it for an average pixel.
    """

    input_policy: ClassVar[Literal["tiled", "whole"]] = "tiled"
    predict: nn.Conv2d

    def __init__(self, levels: tuple[Level, ...], channels: int) -> None:
        super().__init__()
        self.levels = levels
        self.channels = channels
        self.stride = levels[-1].stride

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Decode feature maps to a map at the size of the image.

        Args:
            features: one (B, level.channels, h, w) per entry of `levels`.
            size: (height, width) of the image.

        Returns:
            (B, channels, height, width) without activation, of any range.
        """
        raise NotImplementedError


def distinct_strides(levels: tuple[Level, ...]) -> list[int]:
    """Index of the deepest level of every stride, fine to coarse."""
    return list({level.stride: index for index, level in enumerate(levels)}.values())


def used_levels(head: Head) -> list[int]:
    """Indices of the levels on which a head's output depends, found by gradients on the meta device."""
    length = 8 * head.stride
    maps = [
        torch.empty(
            2, level.channels, length // level.stride, length // level.stride, device="meta", requires_grad=True
        )
        for level in head.levels
    ]
    state = {**dict(head.named_parameters()), **dict(head.named_buffers())}
    meta_state = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    output = torch.func.functional_call(head, meta_state, (maps, (length, length)))
    gradients = torch.autograd.grad(output.sum(), maps, allow_unused=True)
    return [index for index, gradient in enumerate(gradients) if gradient is not None]


def combined_input_policy(backbone: Backbone, head: Head) -> Literal["tiled", "whole"]:
    """Input policy of backbone and head: "tiled" only if the head is, and the backbone's levels are aligned."""
    return "tiled" if head.input_policy == "tiled" and levels_are_aligned(backbone) else "whole"


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of (B, C, h, w) to (B, C, *size) between pixel centers; the same tensor if it has that size.

    Corners are not aligned: an exact doubling is then the same at every position, and tiles equal one pass.
    """
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def init_prediction(layer: nn.Conv2d, value: float | Tensor = 0.0, std: float = 0.01) -> None:
    """Initialize a last layer such that its output is about `value`, of one channel or (channels,), before training."""
    assert layer.bias is not None
    with torch.no_grad():
        nn.init.normal_(layer.weight, 0.0, std)
        layer.bias.copy_(torch.as_tensor(value))
