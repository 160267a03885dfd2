"""Gradient of an objective with respect to the pixels, from which most methods start."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ...errors import UserError
from .model import ForwardResult, InspectedModel
from .objectives import Channel, Neuron, Objective


def evaluate_objective(
    model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective, levels: Iterable[str] = ()
) -> tuple[Tensor, ForwardResult]:
    """Value of the objective for every image, (B,), differentiable, and the forward pass.

    Args:
        model: the model.
        pixels: (B, C, H, W) in [0, 1] each.
        objective: function of the forward pass.
        levels: further levels to capture.
    """
    result = model.forward(pixels, (*objective.levels, *levels), run_output=objective.needs_output)
    return objective(result), result


def gradients(model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective) -> tuple[Tensor, ...]:
    """Gradient of the objective with respect to the pixels, (B, C, H, W) each; may be 0."""
    inputs = tuple(each.detach().to(model.device).requires_grad_() for each in pixels)
    with torch.enable_grad():
        values, _ = evaluate_objective(model, inputs, objective)
        if not values.requires_grad:
            return tuple(torch.zeros_like(each) for each in inputs)
        grads = torch.autograd.grad(values.sum(), inputs, allow_unused=True)
    return tuple(torch.zeros_like(each) if g is None else g for each, g in zip(inputs, grads, strict=True))


def check_nonzero_gradient(
    model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective, grads: Iterable[Tensor]
) -> None:
    """Refuse to visualize a gradient that is 0 everywhere.

    Args:
        model, pixels, objective: as in `evaluate_objective`.
        grads: the gradients.

    Raises:
        UserError: all of them are 0; for a channel, with the nearest active channels.
    """
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
