"""Objectives: differentiable scores of a forward pass, one number per image; and their gradients.

Positions of pixels and units are fixed: they do not follow the image content.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from .model import ForwardResult, InspectedModel, ModelInput

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

    def on_image(self, model_input: ModelInput) -> Objective:
        """The objective with positions in pixels of the original image, instead of pixels of the model input.

        Raises:
            UserError: a position outside of the image.
        """
        return self

    @property
    def has_position(self) -> bool:
        """Whether `positions` returns any."""
        return False

    def positions(self, result: ForwardResult) -> list[tuple[float, float]]:
        """Positions (x, y) of the objective in the first image, in pixels of the model input; empty if it has none."""
        return []

    def __add__(self, other: Objective) -> Objective:
        return Sum((*_terms(self), *_terms(other)))

    def __sub__(self, other: Objective) -> Objective:
        return self + -1.0 * other

    def __rmul__(self, factor: float) -> Objective:
        return Sum(tuple((factor * own, objective) for own, objective in _terms(self)))

    def __neg__(self) -> Objective:
        return -1.0 * self


@dataclass(frozen=True)
class OutputValue(Objective):
    """A value of the output (B, values) for an image."""

    name: str
    index: int

    def __call__(self, result: ForwardResult) -> Tensor:
        logits = result.output
        if logits.ndim < 2 or not 0 <= self.index < logits.shape[1]:
            raise UserError(
                f"{self} is not in the output of shape {tuple(logits.shape)}, which has to be (B, classes)."
            )
        # The mean over the positions of a map of classes.
        return logits[:, self.index].reshape(len(logits), -1).mean(1)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ClassLogit(OutputValue):
    """Logit of a class. It is taken before the softmax, through which the score would depend on the other classes."""

    def __str__(self) -> str:
        return f"class:{self.name}"


@dataclass(frozen=True)
class FunctionTarget(Objective):
    """A function of the model's output, which returns one score for every image, (B,)."""

    function: Callable[[Any], object]

    def __call__(self, result: ForwardResult) -> Tensor:
        scores, count = self.function(result.prediction), len(result.pixels[0])
        if not isinstance(scores, Tensor) or scores.shape != (count,):
            returned = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
            raise UserError(f"{self} returned {returned}; it must return one score for every image, shape ({count},).")
        return scores

    def __str__(self) -> str:
        return getattr(self.function, "__name__", "the function")


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
class L2Activation(LayerObjective):
    """Half the sum of the squared activations of a level, whose gradient at the level is the level itself."""

    def __call__(self, result: ForwardResult) -> Tensor:
        # A backbone that reads the two images of a sample separately has twice as many maps, the first images' first.
        maps = result.levels[self.level].float()
        return maps.square().flatten(1).sum(1).view(-1, len(result.pixels[0])).sum(0) / 2

    def __str__(self) -> str:
        return self.level


@dataclass(frozen=True, eq=False)
class GuidedSimilarity(L2Activation):
    """Sum over the positions of a level of the maximum dot product with the guide's activations.

    Attributes:
        guide: (C, N), the guide's activations at its N positions.
    """

    guide: Tensor

    def __call__(self, result: ForwardResult) -> Tensor:
        maps = result.levels[self.level].float().flatten(2)
        # The gradient at a position is the guide's activation with the maximum product.
        products = torch.einsum("bcm,cn->bmn", maps, self.guide.to(maps))
        return products.amax(2).sum(1).view(-1, len(result.pixels[0])).sum(0)

    def __str__(self) -> str:
        return f"{self.level} similar to the guide"


@dataclass(frozen=True)
class PositionedObjective(Objective):
    """Objective with a position in pixels of the model input or, after `on_image`, of the original image."""

    image: ModelInput | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def has_position(self) -> bool:
        return True

    def on_image(self, model_input: ModelInput) -> Objective:
        return replace(self, image=model_input)


@dataclass(frozen=True)
class Region(PositionedObjective):
    """Mean of a channel of a dense prediction over a box of pixels.

    A box of the original image covers the pixels of the prediction whose centers are inside, at least one.
    """

    name: str
    index: int
    x: int
    y: int
    width: int = 1
    height: int = 1

    def on_image(self, model_input: ModelInput) -> Objective:
        self._check_inside("image", model_input.image_size)
        return super().on_image(model_input)

    def __call__(self, result: ForwardResult) -> Tensor:
        output = result.output[:, self.index]
        left, top, right, bottom = self._edges(output)
        rows, columns = _covered(top, bottom, output.shape[-2]), _covered(left, right, output.shape[-1])
        return output[:, rows, columns].mean((1, 2))

    def positions(self, result: ForwardResult) -> list[tuple[float, float]]:
        left, top, right, bottom = self._edges(result.output)
        return [((left + right) / 2, (top + bottom) / 2)]

    def _edges(self, output: Tensor) -> tuple[float, float, float, float]:
        """Outer edges of the box in pixels of the output, left, top, right, bottom, with pixel centers at integers."""
        corners = np.array([[self.x, self.x + self.width], [self.y, self.y + self.height]]) - 0.5
        size = (output.shape[-2], output.shape[-1])
        if self.image is None:
            self._check_inside("model input", size)
        else:
            corners = np.array([self.image.to_input_pixel(*corner) for corner in corners.T]).T
            # The output has another size than the model input in the octaves of DeepDream.
            scale = np.array(size[::-1]) / self.image.pixels[0].shape[:-3:-1]
            corners = (corners + 0.5) * scale[:, None] - 0.5
        (left, right), (top, bottom) = corners.tolist()
        if min(right, bottom) < -0.5 or left > size[1] - 0.5 or top > size[0] - 0.5:
            raise UserError(f"{self} is in a part of the image that is cropped before the network; choose another one.")
        return left, top, right, bottom

    def _check_inside(self, what: str, size: tuple[int, int]) -> None:
        height, width = size
        if min(self.x, self.y) < 0 or self.x + self.width > width or self.y + self.height > height:
            raise UserError(f"{self} is outside of the {what}, which is {width} wide and {height} high.")

    def __str__(self) -> str:
        box = f",{self.width},{self.height}" if (self.width, self.height) != (1, 1) else ""
        return f"{self.name}@{self.x},{self.y}{box}"


@dataclass(frozen=True)
class Keypoint(PositionedObjective):
    """Coordinate of a keypoint along an axis, in pixels of the model input or of the original image.

    For heat maps it is the mean position under the map (soft-argmax), which is differentiable where the argmax is not.
    """

    name: str
    index: int
    axis: str

    def __call__(self, result: ForwardResult) -> Tensor:
        points, axis = self._points(result), "xy".index(self.axis)
        if self.image is None:
            return points[:, axis]
        x_factor, y_factor, shift = np.linalg.inv(self.image.matrix)[axis].tolist()
        return x_factor * points[:, 0] + y_factor * points[:, 1] + shift

    def positions(self, result: ForwardResult) -> list[tuple[float, float]]:
        x, y = self._points(result)[0].tolist()
        return [(x, y)]

    def _points(self, result: ForwardResult) -> Tensor:
        """(B, 2): x and y in pixels of the model input."""
        from ...tasks.pose.heatmaps import cells_to_pixels

        output = result.output
        if output.ndim == 3:
            return output[:, self.index, :2]
        maps = output[:, self.index]
        weights = (SHARPNESS * maps.flatten(1)).softmax(1).view_as(maps)
        cells = [torch.arange(count, device=maps.device, dtype=maps.dtype) for count in maps.shape[:0:-1]]
        means = [(weights.sum(1) * cells[0]).sum(1), (weights.sum(2) * cells[1]).sum(1)]
        return cells_to_pixels(torch.stack(means, dim=1))

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

    def on_image(self, model_input: ModelInput) -> Objective:
        return Sum(tuple((factor, objective.on_image(model_input)) for factor, objective in self.parts))

    @property
    def has_position(self) -> bool:
        return any(objective.has_position for _, objective in self.parts)

    def positions(self, result: ForwardResult) -> list[tuple[float, float]]:
        return [position for _, objective in self.parts for position in objective.positions(result)]

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


def _covered(start: float, end: float, length: int) -> slice:
    """Pixels of an axis whose centers are between two positions; the nearest one if there is none."""
    first, last = max(math.ceil(start), 0), min(math.floor(end), length - 1)
    if first > last:
        first = last = min(max(round((start + end) / 2), 0), length - 1)
    return slice(first, last + 1)


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.parts if isinstance(objective, Sum) else ((1.0, objective),)


def evaluate_objective(
    model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective, levels: Iterable[str] = ()
) -> tuple[Tensor, ForwardResult]:
    """Scores of an objective, (B,), differentiable, for pixels (B, C, H, W) in [0, 1], and the forward pass."""
    result = model.forward(pixels, (*objective.levels, *levels), run_output=objective.needs_output)
    return objective(result), result


def gradients(model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective) -> tuple[Tensor, ...]:
    """Gradient of the objective with respect to the pixels, (B, C, H, W) each; may be 0."""
    return scores_and_gradients(model, pixels, objective)[1]


def scores_and_gradients(
    model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective, bf16: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Scores (B,), and their gradients with respect to the pixels, (B, C, H, W) each; may be 0."""
    inputs = tuple(each.detach().to(model.device).requires_grad_() for each in pixels)
    with torch.enable_grad():
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            scores, _ = evaluate_objective(model, inputs, objective)
        if not scores.requires_grad:
            return scores, tuple(torch.zeros_like(each) for each in inputs)
        grads = torch.autograd.grad(scores.sum(), inputs, allow_unused=True)
    return scores.detach(), tuple(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True))


def check_nonzero_gradient(
    model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective, grads: Iterable[Tensor]
) -> None:
    """Refuse a gradient that is 0 everywhere; the error of a channel names the nearest active ones."""
    if any(bool(each.any()) for each in grads):
        return
    message = f"No pixel changes {objective} on this image"
    if not isinstance(objective, Channel):
        raise UserError(f"{message}: its gradient is 0; choose another target or image.")
    with torch.no_grad():
        maps = model.forward(pixels, objective.levels, run_output=False).levels[objective.level][: len(pixels[0])]
    if isinstance(objective, Neuron) and maps.ndim == 4:
        maps = maps[:, :, objective.y : objective.y + 1, objective.x : objective.x + 1]
    active = (maps.movedim(1, 0).flatten(1) > 0).any(1).nonzero().flatten().tolist()
    position = f"@{objective.x},{objective.y}" if isinstance(objective, Neuron) else ""
    near = sorted(active, key=lambda index: (abs(index - objective.index), index))[:3]
    names = ", ".join(f"{objective.level}:{index}{position}" for index in near)
    hint = f"nearest active ones: {names}" if near else "no other channel is active either; choose another image"
    raise UserError(f"{message}: it is not active; {hint}.")
