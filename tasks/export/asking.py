"""A network as it is exported, and the inputs with which it and its file are asked: always the same ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...datasets.fields import Kind, OneHot
from ...datasets.geometry import Size
from ..heads.head import resize
from ..task import Network

OTHER_HEIGHT, OTHER_WIDTH = 0.7, 1.3
"""Sides of the second size to compare at, of the training's: another aspect."""
CLOUDS = (5, 7)
"""Places between which the pictures to compare with change smoothly."""
GRAIN = 0.2
"""Share of noise in them."""


@dataclass(frozen=True)
class Freedom:
    """What may differ from question to question; the rest is one at a time, at the size of the training."""

    batch: bool
    sides: bool


class Asked(nn.Module):
    """A network on the CPU in fp32 as inference asks it: its answer at the size of the inputs where it is their map.

    Args:
        network: taken over and put into evaluation mode.
        trained: (height, width) of its training.

    Attributes:
        multiple: what sides of inputs are multiples of.
        usual, other: sizes to compare at: the training's, in whole multiples; and another one in odd multiples.
    """

    def __init__(self, network: Network, trained: Size) -> None:
        super().__init__()
        self.network = network
        exact = network.takes == "exact"
        # What takes pictures exactly as they come takes those of the training, whatever their sides are.
        self.multiple = 1 if exact and any(side % network.stride for side in trained) else network.stride
        height, width = (math.ceil(side / self.multiple) * self.multiple for side in trained)
        self.usual: Size = (height, width)
        self.other: Size = (
            odd_multiple(OTHER_HEIGHT * height, self.multiple),
            odd_multiple(OTHER_WIDTH * width, self.multiple),
        )
        if self.other == self.usual:
            self.other = (self.other[0], self.other[1] + 2 * self.multiple)
        self.float().eval().requires_grad_(False)
        self.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue] - stubs lag

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, C, H, W) each to (B, C', ...) float32."""
        answer = self.network(*inputs).float()
        if self.network.takes == "exact":
            return answer
        return resize(answer, (inputs[0].shape[-2], inputs[0].shape[-1]))


def odd_multiple(side: float, of: int) -> int:
    """The odd multiple of a number that is about as long as a side."""
    return (2 * max(0, round((side / of - 1) / 2)) + 1) * of


def drawn(kinds: dict[str, Kind], batch: int, size: Size, seed: int = 0) -> list[Tensor]:
    """Inputs as the network takes them: clouds with grain, or labels at random.

    Args:
        kinds: of the inputs, as the task's `prepared` has them.
        batch: how many of each.
        size: (height, width).
        seed: the same one draws the same.
    """
    draws = torch.Generator().manual_seed(seed)
    made = []
    for kind in kinds.values():
        if isinstance(kind, OneHot):
            labels = torch.randint(kind.channels, (batch, *size), generator=draws)
            made.append(kind.arrive(labels).contiguous())
            continue
        channels = getattr(kind, "channels", 3)
        clouds = functional.interpolate(torch.rand(batch, channels, *CLOUDS, generator=draws), size, mode="bilinear")
        made.append((1 - GRAIN) * clouds + GRAIN * torch.rand(clouds.shape, generator=draws))
    return made


def first_sentence(error: BaseException) -> str:
    """What an error says, in one line; its type where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].split(" For more information")[0] if lines else type(error).__name__
