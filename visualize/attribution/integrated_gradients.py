"""`densevision visualize input-x-gradient` and `integrated-gradients`: signed contribution of every pixel.

Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks. ICML 2017, arXiv:1703.01365, equation 1. Input times
gradient is the same with the gradient at the image only: the first term of the Taylor series about the baseline, exact
for models that are linear between the two.

The baseline is "black", 0 in pixels, or "gray", the mean of the preprocessing, which is 0 in the normalized input. The
I * dS/dI of the papers, on the normalized input, is input times gradient about gray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from cyclopts import Parameter

from ..core.options import AttributionInputs, AttributionOptions

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..core.model import InspectedModel
    from ..core.objectives import Objective

Baseline = Literal["black", "gray"]


class Attribution(NamedTuple):
    """Contributions of the pixels.

    Attributes:
        maps: (P, H, W) float32, signed, summed over channels, for each of the P inputs.
        difference: S(I) - S(I'), to which the maps of integrated gradients sum (completeness).
    """

    maps: np.ndarray
    difference: float

    @property
    def delta(self) -> float:
        """Convergence delta: |sum - difference| / max(|sum|, |difference|); the paper recommends at most 0.05."""
        total = float(self.maps.sum(dtype="float64"))
        return abs(total - self.difference) / max(abs(self.difference), abs(total), 1e-12)


def baseline_images(model: InspectedModel, pixels: tuple[Tensor, ...], baseline: Baseline) -> tuple[Tensor, ...]:
    """Baseline images for the inputs: (1, C, H, W) each.

    Raises:
        UserError: an unknown baseline.
    """
    from ...errors import unknown_name

    if baseline == "black":
        return tuple(each.new_zeros(each.shape) for each in pixels)
    if baseline != "gray":
        raise unknown_name("baseline", baseline, ("black", "gray"))
    return tuple(each.new_tensor(model.neutral_color).view(1, -1, 1, 1).expand_as(each) for each in pixels)


def input_x_gradient(
    model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective, baseline: Baseline = "gray"
) -> Attribution:
    """(I - I') * dS/dI, summed over channels.

    Args:
        model: the model.
        pixels: (1, C, H, W) in [0, 1] each.
        objective: S.
        baseline: I'.

    Raises:
        UserError: the gradient is 0 everywhere.
    """
    from ..core.gradients import check_nonzero_gradient, gradients

    baselines = baseline_images(model, pixels, baseline)
    grads = gradients(model, pixels, objective)
    check_nonzero_gradient(model, pixels, objective, grads)
    products = [(each.to(grad.device) - base) * grad for each, base, grad in zip(pixels, baselines, grads, strict=True)]
    return _attribution(model, pixels, baselines, objective, products)


def integrated_gradients(
    model: InspectedModel,
    pixels: tuple[Tensor, ...],
    objective: Objective,
    steps: int = 50,
    baseline: Baseline = "black",
) -> Attribution:
    """(I - I') times the mean gradient on the straight path from I' to I, summed over channels.

    Args:
        model: the model.
        pixels: (1, C, H, W) in [0, 1] each.
        objective: S.
        steps: nodes of the Gauss-Legendre quadrature at which the gradient is evaluated; the paper uses 20 to 300.
        baseline: I'.

    Raises:
        UserError: the gradient is 0 on the entire path, or `steps` below 1.
    """
    import numpy as np

    from ...errors import UserError
    from ..core.gradients import check_nonzero_gradient, gradients

    if steps < 1:
        raise UserError(f"--steps is {steps}; it must be at least 1.")
    baselines = baseline_images(model, pixels, baseline)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    mean_grads = [each.new_zeros(each.shape) for each in pixels]
    for start in range(0, steps, model.max_batch):
        batch = slice(start, start + model.max_batch)
        alpha = pixels[0].new_tensor((nodes[batch] + 1) / 2).view(-1, 1, 1, 1)
        weight = pixels[0].new_tensor(weights[batch] / 2).view(-1, 1, 1, 1)
        interpolated = tuple(base + alpha * (each - base) for each, base in zip(pixels, baselines, strict=True))
        grads = gradients(model, interpolated, objective)
        mean_grads = [
            mean_grad + (weight * grad).sum(0, keepdim=True) for mean_grad, grad in zip(mean_grads, grads, strict=True)
        ]
    check_nonzero_gradient(model, pixels, objective, mean_grads)
    products = [(each - base) * mean_grad for each, base, mean_grad in zip(pixels, baselines, mean_grads, strict=True)]
    return _attribution(model, pixels, baselines, objective, products)


def _attribution(
    model: InspectedModel,
    pixels: tuple[Tensor, ...],
    baselines: tuple[Tensor, ...],
    objective: Objective,
    products: list[Tensor],
) -> Attribution:
    import torch

    from ..core.gradients import evaluate_objective

    with torch.no_grad():
        score, baseline_score = (
            float(evaluate_objective(model, each, objective)[0].detach()) for each in (pixels, baselines)
        )
    return Attribution(
        torch.cat([each.sum(1) for each in products]).detach().float().cpu().numpy(), score - baseline_score
    )


def show_input_x_gradient(
    options: Annotated[AttributionOptions, Parameter(name="*")], *, baseline: Baseline = "gray"
) -> None:
    """Draw input times gradient over the image: red raises the target score, blue lowers it.

    Args:
        baseline: Baseline image: black, or gray, the mean of the preprocessing.
    """
    inputs = options.open()
    _write_overlay(options, inputs, input_x_gradient(inputs.model, inputs.pixels, inputs.objective, baseline))


def show_integrated_gradients(
    options: Annotated[AttributionOptions, Parameter(name="*")], *, steps: int = 50, baseline: Baseline = "black"
) -> None:
    """Draw integrated gradients over the image: red raises the target score, blue lowers it.

    Args:
        steps: Number of steps on the path from the baseline to the image.
        baseline: Baseline image: black, or gray, the mean of the preprocessing.
    """
    inputs = options.open()
    attribution = integrated_gradients(inputs.model, inputs.pixels, inputs.objective, steps, baseline)
    total, difference, delta = attribution.maps.sum(), attribution.difference, attribution.delta
    print(f"Attributions sum to {total:.4g}; score difference to the baseline {difference:.4g}: delta {delta:.2%}.")
    if delta > 0.05:
        print("The paper recommends a delta of at most 5%; increase --steps.")
    _write_overlay(options, inputs, attribution)


def _write_overlay(options: AttributionOptions, inputs: AttributionInputs, attribution: Attribution) -> None:
    import numpy as np

    from ..core.render import overlay_diverging, to_uint8_image

    overlays = [
        overlay_diverging(to_uint8_image(each), values)
        for each, values in zip(inputs.pixels, attribution.maps, strict=True)
    ]
    options.write(inputs.mark(np.concatenate(overlays, axis=1)), attribution.maps)
