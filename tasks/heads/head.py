"""The contract of a head: the levels of a trunk in, an answer for every pixel out."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...backbones.backbone import Backbone, Level, levels_divide


class Head(nn.Module):
    """A decoder on any trunk.

    Subclasses ask the levels for strides, never for positions (VGG has a level of stride 1, ResNet has not), and
    meet every feature map at its real size, so that odd pictures are legal.

    Args:
        levels: what the trunk's `features` returns, fine to coarse.
        channels: channels of the answer.

    Attributes:
        takes: "tiled" where tiles of a picture give what the whole gives; "whole" where an operation depends on the
            picture's extent (pooling over all of it, resampling between its corners).
        channels: channels of the answer.
        stride: pictures whose sides are multiples of it are decoded without resampling by odd factors; the coarsest
            level's, or more.
        predict: the last layer, linear and biased. Tasks start it at what they expect of an average pixel.
    """

    takes: ClassVar[Literal["tiled", "whole"]] = "tiled"
    predict: nn.Conv2d

    def __init__(self, levels: tuple[Level, ...], channels: int) -> None:
        super().__init__()
        self.levels = levels
        self.channels = channels
        self.stride = levels[-1].stride

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """The answer at the picture's size.

        Args:
            features: one (B, level.channels, h, w) per entry of `levels`.
            size: (height, width) of the picture.

        Returns:
            (B, channels, height, width), linear: no activation, any range.
        """
        raise NotImplementedError


def distinct_strides(levels: tuple[Level, ...]) -> list[int]:
    """Position of the deepest level of every stride that a trunk has, fine to coarse."""
    return list({level.stride: position for position, level in enumerate(levels)}.values())


def levels_read(head: Head) -> list[int]:
    """Positions of the levels on which a head's answer depends, found without numbers: the others get no gradient."""
    side = 8 * head.stride
    maps = [
        torch.empty(2, level.channels, side // level.stride, side // level.stride, device="meta", requires_grad=True)
        for level in head.levels
    ]
    state = {**dict(head.named_parameters()), **dict(head.named_buffers())}
    stand_ins = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    answer = torch.func.functional_call(head, stand_ins, (maps, (side, side)))
    gradients = torch.autograd.grad(answer.sum(), maps, allow_unused=True)
    return [place for place, gradient in enumerate(gradients) if gradient is not None]


def takes(backbone: Backbone, head: Head) -> Literal["tiled", "whole"]:
    """What a trunk and a head take together: tiles only where the head does and the trunk's levels divide evenly."""
    return "tiled" if head.takes == "tiled" and levels_divide(backbone) else "whole"


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) to (B, C, *size), bilinear between pixel centres; the same tensor where the size is right.

    Corners are not aligned: then an exact doubling treats every place alike, and tiles equal the whole.
    """
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
