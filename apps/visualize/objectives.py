"""Objectives: differentiable scores of a forward pass, one number per image.

Positions of pixels and units are fixed: they do not follow the image content.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import UserError
from .model import ForwardResult

SHARPNESS = 20.0
"""Factor of the soft-argmax: a keypoint is at the mean position under softmax(20 * heat map), with peaks of about 1."""


class Objective:
    """Score of a forward pass, one number per image. Objectives can be added, subtracted and multiplied by numbers.

    Attributes:
        levels: levels that `InspectedModel.forward` must capture.
        needs_output: whether the prediction is needed.
    """

    @property
    def levels(self) -> tuple[str, ...]:
        return ()

    @property
    def needs_output(self) -> bool:
        return True

    def __call__(self, result: ForwardResult) -> Tensor:
        """Scores (B,), differentiable.

        Raises:
            UserError: a position outside of the image or the level.
        """
        raise NotImplementedError

    def __add__(self, other: Objective) -> Objective:
        return Sum((*_terms(self), *_terms(other)))

    def __sub__(self, other: Objective) -> Objective:
        return self + -1.0 * other

    def __rmul__(self, factor: float) -> Objective:
        return Sum(tuple((factor * own, objective) for own, objective in _terms(self)))

    def __neg__(self) -> Objective:
        return -1.0 * self


@dataclass(frozen=True)
class ClassLogit(Objective):
    """Logit of a class. It is taken before the softmax, through which the score would depend on the other classes."""

    name: str
    index: int

    def __call__(self, result: ForwardResult) -> Tensor:
        return result.output[:, self.index]

    def __str__(self) -> str:
        return f"class:{self.name}"


@dataclass(frozen=True)
class LayerObjective(Objective):
    """Objective that depends on one level only."""

    level: str

    @property
    def levels(self) -> tuple[str, ...]:
        return (self.level,)

    @property
    def needs_output(self) -> bool:
        return False


@dataclass(frozen=True)
class Channel(LayerObjective):
    """Mean of a channel over all positions of a level; for a layer without positions, one unit."""

    index: int

    def __call__(self, result: ForwardResult) -> Tensor:
        channel = self.activation_map(result)
        return channel.reshape(len(channel), -1).mean(1)

    def activation_map(self, result: ForwardResult) -> Tensor:
        """Activations of the channel: (B, h, w), or (B,) for a layer without positions."""
        # A backbone that reads the two images of a sample separately has twice as many maps, the first images' first.
        maps = result.levels[self.level][: len(result.pixels[0])]
        if not 0 <= self.index < maps.shape[1]:
            raise UserError(f"{self.level} has the channels 0 to {maps.shape[1] - 1}, not {self.index}.")
        return maps[:, self.index]

    def __str__(self) -> str:
        return f"{self.level}:{self.index}"


@dataclass(frozen=True)
class Neuron(Channel):
    """One unit of a level: a channel at position x, y, in units of the level."""

    x: int
    y: int

    def __call__(self, result: ForwardResult) -> Tensor:
        channel = self.activation_map(result)
        height, width = channel.shape[1:] if channel.ndim == 3 else (1, 1)
        if not (0 <= self.x < width and 0 <= self.y < height):
            raise UserError(
                f"{self} is outside of {self.level}, which is {width} wide and {height} high for this image."
            )
        return channel.reshape(-1, height, width)[:, self.y, self.x]

    def __str__(self) -> str:
        return f"{self.level}:{self.index}@{self.x},{self.y}"


@dataclass(frozen=True)
class Region(Objective):
    """Mean of a channel of a dense prediction over a box, in pixels of the model input."""

    name: str
    index: int
    x: int
    y: int
    width: int = 1
    height: int = 1

    def __call__(self, result: ForwardResult) -> Tensor:
        output = result.output[:, self.index]
        height, width = output.shape[-2:]
        is_inside = self.x >= 0 and self.y >= 0 and self.x + self.width <= width and self.y + self.height <= height
        if not is_inside:
            raise UserError(f"{self} is outside of the model input, which is {width} wide and {height} high.")
        return output[:, self.y : self.y + self.height, self.x : self.x + self.width].mean((1, 2))

    def __str__(self) -> str:
        box = f",{self.width},{self.height}" if (self.width, self.height) != (1, 1) else ""
        return f"{self.name}@{self.x},{self.y}{box}"


@dataclass(frozen=True)
class Keypoint(Objective):
    """Coordinate of a keypoint along an axis, in pixels of the model input.

    For heat maps it is the mean position under the map (soft-argmax), which is differentiable where the argmax is not.
    """

    name: str
    index: int
    axis: str

    def __call__(self, result: ForwardResult) -> Tensor:
        from ...tasks.pose.heatmaps import cells_to_pixels

        output = result.output
        axis = "xy".index(self.axis)
        if output.ndim == 3:
            return output[:, self.index, axis]
        maps = output[:, self.index]
        weights = (SHARPNESS * maps.flatten(1)).softmax(1).view_as(maps)
        along = weights.sum(1 if self.axis == "x" else 2)
        return cells_to_pixels((along * torch.arange(along.shape[1], device=along.device, dtype=along.dtype)).sum(1))

    def __str__(self) -> str:
        return f"{self.name} {self.axis}"


@dataclass(frozen=True)
class Sum(Objective):
    """Weighted sum of objectives."""

    parts: tuple[tuple[float, Objective], ...]

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(level for _, objective in self.parts for level in objective.levels))

    @property
    def needs_output(self) -> bool:
        return any(objective.needs_output for _, objective in self.parts)

    def __call__(self, result: ForwardResult) -> Tensor:
        return torch.stack([factor * objective(result) for factor, objective in self.parts]).sum(0)

    def __str__(self) -> str:
        text = ""
        for factor, objective in self.parts:
            coefficient = "" if abs(factor) == 1 else f"{abs(factor):g} * "
            sign = " - " if factor < 0 else " + "
            text += (sign if text else sign.strip().strip("+")) + coefficient + str(objective)
        return text


@dataclass(frozen=True)
class PerImage(Objective):
    """A separate objective for every image of a batch, in order."""

    objectives: tuple[Objective, ...]

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(level for objective in self.objectives for level in objective.levels))

    @property
    def needs_output(self) -> bool:
        return any(objective.needs_output for objective in self.objectives)

    def __call__(self, result: ForwardResult) -> Tensor:
        return torch.stack([objective(result)[number] for number, objective in enumerate(self.objectives)])

    def __str__(self) -> str:
        return ", ".join(map(str, self.objectives))


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.parts if isinstance(objective, Sum) else ((1.0, objective),)
