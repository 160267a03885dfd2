"""Input times gradient, and integrated gradients: signed contribution of every pixel.

Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks. ICML 2017, arXiv:1703.01365, equation 1. Input times
gradient is the same with the gradient at the image only: the first term of the Taylor series about the baseline, exact
for models that are linear between the two.

The baseline is "black", 0 in pixels, or "gray", the mean of the preprocessing, which is 0 in the normalized input. The
I * dS/dI of the papers, on the normalized input, is input times gradient about gray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ..core.result import Visualization

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.model import InspectedModel
    from ..core.targets import AttributionInputs

Baseline = Literal["black", "gray"]
MAX_DELTA = 0.05
"""The paper recommends at most this convergence delta."""


@dataclass(frozen=True, eq=False)
class Attribution(Visualization):
    """Contributions of the pixels: `array` is (P, H, W) float32, signed, summed over channels, for each of P inputs.

    Attributes:
        difference: S(I) - S(I'), to which the maps of integrated gradients sum (completeness).
        delta: convergence delta, |sum - difference| / max(|sum|, |difference|).
    """

    difference: float = 0.0
    delta: float = 0.0


def baseline_images(model: InspectedModel, pixels: tuple[Tensor, ...], baseline: Baseline) -> tuple[Tensor, ...]:
    """Baseline images for the inputs: (1, C, H, W) each."""
    from ...errors import unknown_name

    if baseline == "black":
        return tuple(each.new_zeros(each.shape) for each in pixels)
    if baseline != "gray":
        raise unknown_name("baseline", baseline, ("black", "gray"))
    return tuple(each.new_tensor(model.neutral_color).view(1, -1, 1, 1).expand_as(each) for each in pixels)


def input_x_gradient(model: Any, image: Any, target: Any, *, baseline: Baseline = "gray") -> Attribution:
    """Draw input times gradient over the image, (I - I') * dS/dI: red raises the target score, blue lowers it.

    Args:
        model: see `inspect_model`.
        image: I, see `InspectedModel.take`.
        target: S, see `resolve_target`.
        baseline: baseline image I': black, or gray, the mean of the preprocessing.

    Raises:
        UserError: the gradient is 0 everywhere.
    """
    from ..core.objectives import gradients
    from ..core.targets import attribution_inputs

    inputs = attribution_inputs(model, image, target)
    baselines = baseline_images(inputs.model, inputs.pixels, baseline)
    grads = gradients(inputs.model, inputs.pixels, inputs.objective)
    return _attribution(inputs, baselines, grads)


def integrated_gradients(
    model: Any, image: Any, target: Any, *, steps: int = 50, baseline: Baseline = "black"
) -> Attribution:
    """Draw integrated gradients over the image: red raises the target score, blue lowers it.

    (I - I') times the mean gradient on the straight path from I' to I, summed over channels.

    Args:
        model: see `inspect_model`.
        image: I, see `InspectedModel.take`.
        target: S, see `resolve_target`.
        steps: number of steps on the path from the baseline to the image; the paper uses 20 to 300.
        baseline: baseline image I': black, or gray, the mean of the preprocessing.

    Raises:
        UserError: the gradient is 0 on the entire path, or `steps` below 1.
    """
    import numpy as np

    from ...errors import UserError
    from ..core.objectives import gradients
    from ..core.targets import attribution_inputs

    if steps < 1:
        raise UserError(f"--steps is {steps}; it must be at least 1.")
    inputs = attribution_inputs(model, image, target)
    pixels, max_batch = inputs.pixels, inputs.model.max_batch
    baselines = baseline_images(inputs.model, pixels, baseline)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    mean_grads = [each.new_zeros(each.shape) for each in pixels]
    for start in range(0, steps, max_batch):
        batch = slice(start, start + max_batch)
        alpha = pixels[0].new_tensor((nodes[batch] + 1) / 2).view(-1, 1, 1, 1)
        weight = pixels[0].new_tensor(weights[batch] / 2).view(-1, 1, 1, 1)
        interpolated = tuple(base + alpha * (each - base) for each, base in zip(pixels, baselines, strict=True))
        grads = gradients(inputs.model, interpolated, inputs.objective)
        mean_grads = [
            mean_grad + (weight * grad).sum(0, keepdim=True) for mean_grad, grad in zip(mean_grads, grads, strict=True)
        ]
    result = _attribution(inputs, baselines, mean_grads)
    total = result.array.sum()
    notes = [
        f"Attributions sum to {total:.4g}; score difference to the baseline {result.difference:.4g}: "
        f"delta {result.delta:.2%}."
    ]
    if result.delta > MAX_DELTA:
        notes.append(f"The paper recommends a delta of at most {MAX_DELTA:.0%}; increase --steps.")
    return replace(result, notes=tuple(notes))


def _attribution(inputs: AttributionInputs, baselines: tuple[Tensor, ...], grads: Sequence[Tensor]) -> Attribution:
    """(I - I') times the gradients."""
    import torch

    from ...datasets.core.drawing import overlay_diverging
    from ..core.objectives import check_nonzero_gradient, evaluate_objective

    check_nonzero_gradient(inputs.model, inputs.pixels, inputs.objective, grads)
    products = [
        ((each.to(grad.device) - base) * grad).sum(1)
        for each, base, grad in zip(inputs.pixels, baselines, grads, strict=True)
    ]
    with torch.no_grad():
        score, baseline_score = (
            float(evaluate_objective(inputs.model, each, inputs.objective)[0].detach())
            for each in (inputs.pixels, baselines)
        )
    array = torch.cat(products).detach().float().cpu().numpy()
    total, difference = float(array.sum(dtype="float64")), score - baseline_score
    delta = abs(total - difference) / max(abs(difference), abs(total), 1e-12)
    overlays = (overlay_diverging(photo, values) for photo, values in zip(inputs.photos, array, strict=True))
    return Attribution(array, inputs.draw(overlays), (), difference, delta)
