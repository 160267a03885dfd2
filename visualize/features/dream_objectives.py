"""Objectives of DeepDream: the L2 norm of a level, or its similarity to a guide image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import UserError
from ..core.model import ForwardResult, HeadlessBackbone, InspectedModel
from ..core.objectives import LayerObjective, Objective
from ..core.targets import parse_target


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


def without_classifier(model: InspectedModel, objective: Objective) -> InspectedModel:
    """The backbone alone if the objective needs no prediction: levels accept image sizes that classifiers refuse."""
    if (
        model.backbone is None
        or objective.needs_output
        or (model.task is not None and model.task.name != "classification")
    ):
        return model
    return InspectedModel(model.name, HeadlessBackbone(model.backbone), model.backbone, None, model.size)


def parse_dream_objective(text: str, model: InspectedModel, guide: tuple[Tensor, ...] | None = None) -> Objective:
    """Objective of a target string: the name of a level for the entire level, otherwise as in `parse_target`.

    Args:
        text: the target.
        model: defines the valid levels and channels.
        guide: pixels of the guide image, from `model.pixels`; None: no guide.

    Raises:
        UserError: an unknown target, or a guide with a target that is not a level.
    """
    text = text.strip()
    is_level = text in model.level_names()
    if guide is None:
        return L2Activation(text) if is_level else parse_target(text, model)
    if not is_level:
        raise UserError(
            f"--guide needs a level as target, and '{text}' is not one; give a level such as {_example_level(model)}."
        )
    with torch.no_grad():
        maps = model.forward(guide, (text,), run_output=False).levels[text]
    if maps.ndim != 4:
        raise UserError(
            f"'{text}' of {model.name} has no spatial positions; give a level with feature maps such as "
            f"{_example_level(model)}."
        )
    return GuidedSimilarity(text, maps.detach().float().movedim(1, 0).flatten(1))


def _example_level(model: InspectedModel) -> str:
    return model.level_names()[0]
