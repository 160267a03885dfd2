"""ExportModule: a network in its exported form, and example inputs for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...datasets.core.geometry import Size
from ...datasets.field_types import FieldType, SegmentationMask
from ..heads.head import resize
from ..network import Network

OTHER_HEIGHT, OTHER_WIDTH = 0.7, 1.3
"""Height and width of the second size for comparisons, relative to the training size: another aspect ratio."""
COARSE_SIZE = (5, 7)
"""(height, width) of the random image that is enlarged smoothly to an example image."""
NOISE = 0.2
"""Weight of pixel noise in example images."""


@dataclass(frozen=True)
class DynamicAxes:
    """Axes of the inputs that may vary: batch size (else 1), and height and width (else the training size)."""

    batch: bool
    size: bool


class ExportModule(nn.Module):
    """A network on the CPU in fp32, whose output has the size of the inputs if it is a map of them.

    Args:
        network: the network; it is modified (evaluation mode, fp32, no gradients).
        trained_size: (height, width) of its training images.

    Attributes:
        multiple: height and width of inputs must be multiples of it.
        training_size: training size, rounded up to multiples.
        other_size: a second size for comparisons, in odd multiples.
        has_same_padding: whether layers of timm pad as TensorFlow does, by their input size.
    """

    def __init__(self, network: Network, trained_size: Size) -> None:
        super().__init__()
        self.network = network
        fixed = network.input_policy == "fixed"
        # Networks with fixed input sizes take the training size, even if it is not a multiple of the stride.
        self.multiple = 1 if fixed and any(length % network.stride for length in trained_size) else network.stride
        height, width = (math.ceil(length / self.multiple) * self.multiple for length in trained_size)
        self.training_size: Size = (height, width)
        self.other_size: Size = (
            odd_multiple(OTHER_HEIGHT * height, self.multiple),
            odd_multiple(OTHER_WIDTH * width, self.multiple),
        )
        if self.other_size == self.training_size:
            self.other_size = (self.other_size[0], self.other_size[1] + 2 * self.multiple)
        self.has_same_padding = any(type(layer).__name__.endswith("Same") for layer in network.modules())
        self.float().eval().requires_grad_(False)
        self.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue] - stubs lag

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs (B, C, H, W) to the raw output (B, C', ...) float32."""
        output = self.network(*inputs).float()
        if self.network.input_policy == "fixed":
            return output
        return resize(output, (inputs[0].shape[-2], inputs[0].shape[-1]))


def odd_multiple(length: float, base: int) -> int:
    """The odd multiple of `base` nearest to a length."""
    return (2 * max(0, round((length / base - 1) / 2)) + 1) * base


def example_inputs(field_types: dict[str, FieldType], batch: int, size: Size, seed: int = 0) -> list[Tensor]:
    """Random inputs of the network, of a (height, width): smooth images with noise, or random labels."""
    rng = torch.Generator().manual_seed(seed)
    inputs = []
    for field_type in field_types.values():
        if isinstance(field_type, SegmentationMask):
            labels = torch.randint(field_type.input_channels, (batch, *size), generator=rng)
            inputs.append(field_type.to_input(labels).contiguous())
            continue
        coarse = torch.rand(batch, field_type.input_channels, *COARSE_SIZE, generator=rng)
        smooth = functional.interpolate(coarse, size, mode="bilinear")
        inputs.append((1 - NOISE) * smooth + NOISE * torch.rand(smooth.shape, generator=rng))
    return inputs


def first_line(error: BaseException) -> str:
    """First line of an error message; the type of the error if the message is empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].split(" For more information")[0] if lines else type(error).__name__
