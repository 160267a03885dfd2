"""Toy map: the gradient of the target, averaged over the colors. No paper."""

from __future__ import annotations

from typing import Any

from densevision.visualize.core.result import Visualization


def toymap(model: Any, image: Any, target: Any, *, power: int = 1) -> Visualization:
    """Draw the mean gradient over the colors.

    Args:
        model: see `inspect_model`.
        image: see `InspectedModel.take`.
        target: see `resolve_target`.
        power: power of the gradient, 1 or 2.

    Returns:
        array: (P, H, W) float32 for each of the P inputs.
    """
    import torch

    from densevision.datasets.core.drawing import diverging_map
    from densevision.visualize.core.objectives import gradients
    from densevision.visualize.core.targets import attribution_inputs

    inputs = attribution_inputs(model, image, target)
    maps = [gradient.mean(1) ** power for gradient in gradients(inputs.model, inputs.pixels, inputs.objective)]
    array = torch.cat(maps).detach().float().cpu().numpy()
    return Visualization(array, inputs.draw(diverging_map(each) for each in array))
