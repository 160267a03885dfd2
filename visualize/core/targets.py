"""Parser of target strings: which output or unit of a model is visualized.

    class:tabby             logit of a class, before the softmax; class:281 is the same
    layer3:17               mean of a channel of a level, or of any submodule
    layer3:17@12,8          one unit of the channel, at x, y of the level
    depth@120,80            dense prediction at a pixel of the original image
    depth@10,10,50,40       its mean over a box: x, y, width, height
    left wrist x            coordinate of a keypoint
    class:dog - class:cat   sums and differences, with factors: 0.5 * layer3:17 + layer3:18

The names are those of the channels in `Task.output_spec`, whose layout says which of these forms they take; a number
per image is its name alone. The objectives are defined in `objectives.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError, closest_names, unknown_name_with_suggestions
from .images import draw_crosses, to_uint8_image
from .model import InspectedModel, ModelInput, inspect_model
from .objectives import (
    Channel,
    ClassLogit,
    FunctionTarget,
    Keypoint,
    Neuron,
    Objective,
    OutputValue,
    Region,
    evaluate_objective,
)


class AttributionInputs(NamedTuple):
    """What an attribution method starts from: the model, its inputs and the objective to attribute."""

    model: InspectedModel
    model_input: ModelInput
    objective: Objective

    @property
    def pixels(self) -> tuple[Tensor, ...]:
        """Model inputs, (1, C, H, W) each, in [0, 1] unless given as tensors of another range."""
        return self.model_input.pixels

    @property
    def photos(self) -> list[np.ndarray]:
        """Model inputs to draw on, (H, W, 3) uint8 each; another range than [0, 1] is scaled to it."""
        low = min(0.0, *(float(each.min()) for each in self.pixels))
        high = max(1.0, *(float(each.max()) for each in self.pixels))
        return [to_uint8_image((each - low) / (high - low)) for each in self.pixels]

    def draw(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """Images of the inputs side by side, enlarged, with a cross at the target's pixel, box center or keypoint."""
        positions: list[tuple[float, float]] = []
        if self.objective.has_position:
            with torch.no_grad():
                _, result = evaluate_objective(self.model, self.pixels, self.objective)
            positions = self.objective.positions(result)
        return draw_crosses(np.concatenate(list(images), axis=1), positions)


def attribution_inputs(model: Any, image: Any, target: Any) -> AttributionInputs:
    """Load model and images, and find the objective; arguments as those of the attribution methods."""
    model = inspect_model(model)
    resolve_target(target, model)  # an invalid target is reported before the images are read
    model_input = model.take(image)
    return AttributionInputs(model, model_input, resolve_target(target, model, model_input))


def dense_channels(model: InspectedModel) -> dict[str, int]:
    """Names to indices of channels that can precede an @; empty for models without a dense prediction."""
    names = model.channels("map") or [f"class:{name}" for name in model.channels("class-map")]
    return {name: index for index, name in enumerate(names)}


def list_targets(model: Any) -> list[str]:
    """List the targets of a model; replace X, Y, WIDTH, HEIGHT, CHANNEL and INDEX by numbers.

    Args:
        model: see `inspect_model`.

    Returns:
        The backbone's levels (the modules directly inside any other module), then the task's channels or keypoints,
        then the classes.
    """
    model = inspect_model(model)
    if model.is_plain:
        children = [name for name, _ in model.module.named_children()]
        return [*(f"{name}:CHANNEL" for name in children), "class:INDEX"]
    levels = [] if model.backbone is None else [f"{each.name}:CHANNEL" for each in model.backbone.levels]
    return [
        *levels,
        *(f"{level}@X,Y" for level in levels),
        *(f"{name}@{position}" for name in dense_channels(model) for position in ("X,Y", "X,Y,WIDTH,HEIGHT")),
        *(f"{keypoint} {axis}" for keypoint in model.channels("keypoints") for axis in "xy"),
        *model.channels("values"),
        *(f"class:{name}" for name in model.classes),
    ]


def resolve_target(target: Any, model: InspectedModel, model_input: ModelInput | None = None) -> Objective:
    """Objective of anything that a method takes as a target.

    Args:
        target: a string as in `parse_target`, the index of a class, a function of the model's output that returns one
            score for every image, (B,), or an `Objective`, which is returned as it is.
        model: as in `parse_target`.
        model_input: as in `parse_target`.

    Raises:
        UserError: as `parse_target`.
    """
    if isinstance(target, Objective):
        return target
    if isinstance(target, str):
        return parse_target(target, model, model_input)
    return FunctionTarget(target) if callable(target) else _class_of_index(int(target), model)


def parse_target(text: str, model: InspectedModel, model_input: ModelInput | None = None) -> Objective:
    """Objective of a target string, see the module docstring; `str(objective)` is again a valid target string.

    Sums need spaces around + and -, factors around *. The model defines the valid classes, levels and channels. Pixels
    and keypoints are in pixels of the original image of `model_input`, or without it in those of the model input.

    Raises:
        UserError: an unknown target, with the closest valid ones, or a pixel outside of the original image.
    """
    objective = _parse_sum(text, model)
    return objective if model_input is None else objective.on_image(model_input)


def _parse_sum(text: str, model: InspectedModel) -> Objective:
    text = text.strip()
    if text.removeprefix("class:") in model.classes and text.startswith("class:"):
        return _class_logit(text.removeprefix("class:"), model)  # class names may contain " - "
    first, *others = re.split(r"(?:^| )([+-]) ", text)
    terms = [("+", first)] if first else []
    terms += zip(others[::2], others[1::2], strict=True)
    if not terms:
        raise UserError(f"The target is empty; give one, for example {_example(model)}.")
    total: Objective | None = None
    for sign, term in terms:
        factor, name = _split_factor(term.strip())
        factor = -factor if sign == "-" else factor
        objective = _parse_term(name, model)
        objective = objective if factor == 1 else factor * objective
        total = objective if total is None else total + objective
    assert total is not None
    return total


def _split_factor(term: str) -> tuple[float, str]:
    number, star, rest = term.partition(" * ")
    if not star:
        return (-1.0, term[1:]) if term.startswith("-") else (1.0, term)
    try:
        return float(number), rest.strip()
    except ValueError:
        raise UserError(f"'{number}' in '{term}' is not a number; write factors first: 0.5 * TARGET.") from None


def _parse_term(text: str, model: InspectedModel) -> Objective:
    name, at, position = text.rpartition("@") if "@" in text else (text, "", "")
    dense = dense_channels(model)
    if at and name in dense:
        return Region(name, dense[name], *_parse_position(text, position, (2, 4)))
    if name in dense:
        raise UserError(f"'{text}' has no position; add a pixel of the image: {name}@X,Y.")
    level, colon, index = name.rpartition(":")
    if text.startswith("class:") and not dense:
        return _class_logit(text.removeprefix("class:"), model)
    if colon and re.fullmatch(r"-?\d+", index):
        channel = Channel(_check_level(level, model), _check_channel(level, int(index), model))
        if not at:
            return channel
        x, y = _parse_position(text, position, (2,))
        return Neuron(channel.level, channel.index, x, y)
    if text in model.channels("values"):
        return OutputValue(text, model.channels("values").index(text))
    for keypoint in model.channels("keypoints"):
        for axis in "xy":
            if text.casefold() == f"{keypoint} {axis}".casefold():
                return Keypoint(keypoint, model.channels("keypoints").index(keypoint), axis)
    if colon and not level.startswith("class"):
        _check_level(level, model)
        raise UserError(f"'{index}' in '{text}' is not a channel; give its number: {level}:17.")
    raise _unknown_target(name, model)


def _class_of_index(index: int, model: InspectedModel) -> ClassLogit:
    names = model.classes
    return ClassLogit(names[index], index) if 0 <= index < len(names) else _class_logit(str(index), model)


def _class_logit(name: str, model: InspectedModel) -> ClassLogit:
    names = model.classes
    if model.is_plain and name.isdigit():
        return ClassLogit(name, int(name))
    if model.is_plain:
        raise UserError(f"{model.name} has no class names, hence no target class:{name}; give an index: class:3.")
    if not names:
        raise UserError(
            f"{model.name} has no classifier, hence no target class:{name}; choose a level: {_example(model)}."
        )
    if name in names:
        return ClassLogit(name, names.index(name))
    if name.isdigit():
        if int(name) >= len(names):
            raise UserError(f"{model.name} has the classes 0 to {len(names) - 1}, not {name}.")
        return ClassLogit(names[int(name)], int(name))
    matches = [one for one in names if one.casefold() == name.casefold()]
    if len(matches) == 1:
        return ClassLogit(matches[0], names.index(matches[0]))
    raise unknown_name_with_suggestions("class", name, names)


def _check_level(name: str, model: InspectedModel) -> str:
    names = model.level_names()
    if name not in names:
        raise unknown_name_with_suggestions(f"level of {model.name}", name, names)
    return name


def _check_channel(level: str, index: int, model: InspectedModel) -> int:
    """Check the channel of a backbone level; for other submodules, the forward pass checks it."""
    for each in model.backbone.levels if model.backbone is not None else ():
        if each.name == level and not 0 <= index < each.channels:
            raise UserError(f"{level} has the channels 0 to {each.channels - 1}, not {index}.")
    return index


def _parse_position(text: str, position: str, counts: Iterable[int]) -> tuple[int, ...]:
    try:
        numbers = tuple(int(number) for number in position.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in tuple(counts) or (len(numbers) == 4 and min(numbers[2:]) < 1):
        formats = " or ".join("X,Y" if count == 2 else "X,Y,WIDTH,HEIGHT" for count in counts)
        raise UserError(f"'{position}' in '{text}' is not a position; write integers with commas: {formats}.")
    return numbers


def _unknown_target(name: str, model: InspectedModel) -> UserError:
    names = [*dense_channels(model), *(f"{each} {axis}" for each in model.channels("keypoints") for axis in "xy")]
    names += [*model.channels("values"), *(f"{level}:0" for level in model.level_names()[:20])]
    closest = closest_names(name, [*names, *(f"class:{each}" for each in model.classes)]) or names[:3]
    hint = f"nearest: {', '.join(closest)}" if closest else f"try {_example(model)}"
    return UserError(f"'{name}' is not a target of {model.name}; {hint}; densevision visualize list-targets lists all.")


def _example(model: InspectedModel) -> str:
    targets = list_targets(model)
    return (
        targets[-1].replace("WIDTH,HEIGHT", "20,20").replace("X,Y", "10,10").replace("CHANNEL", "0")
        if targets
        else "LAYER:0"
    )
