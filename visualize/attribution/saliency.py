"""Saliency map, the absolute gradient of the target; and SmoothGrad.

Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks. 2013, arXiv:1312.6034, section 3: the maximum
absolute gradient over the color channels. Smilkov, Thorat, Kim, Viégas, Wattenberg: SmoothGrad. 2017,
arXiv:1706.03825: the mean of this map over noisy copies of the image.

Deviations: the first paper averages its maps over ten crops, this implementation uses one image. Gradient and noise
refer to pixels in [0, 1], not to the normalized image, whose channels have other units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.result import Visualization

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.targets import AttributionInputs


def saliency(
    model: Any,
    image: Any,
    target: Any,
    *,
    smoothgrad_samples: int = 0,
    noise_std: float = 0.15,
    seed: int = 0,
) -> Visualization:
    """Draw the saliency map of a target, max over channels of |dS / dI|; white is the maximum.

    Args:
        model: see `inspect_model`.
        image: see `InspectedModel.take`.
        target: S, see `resolve_target`.
        smoothgrad_samples: number of noisy copies that SmoothGrad averages (usually 50); 0: the plain gradient.
        noise_std: standard deviation of the SmoothGrad noise, as a fraction of the image's range; the paper uses 0.1 to
            0.2.
        seed: random seed of the noise.

    Returns:
        array: (P, H, W) float32, non-negative, one map for each of the P inputs.

    Raises:
        UserError: a gradient that is 0 everywhere, or a negative argument.
    """
    import torch

    from ...errors import UserError
    from ..core.images import intensity_map
    from ..core.objectives import check_nonzero_gradient, gradients
    from ..core.targets import attribution_inputs

    if smoothgrad_samples < 0 or noise_std < 0:
        raise UserError(f"--smoothgrad-samples {smoothgrad_samples} --noise-std {noise_std:g}: neither may be below 0.")
    inputs = attribution_inputs(model, image, target)
    maps = (
        _smoothgrad(inputs, smoothgrad_samples, noise_std, seed)
        if smoothgrad_samples
        else [gradient.abs().amax(1) for gradient in gradients(inputs.model, inputs.pixels, inputs.objective)]
    )
    check_nonzero_gradient(inputs.model, inputs.pixels, inputs.objective, maps)
    array = torch.cat(maps).detach().float().cpu().numpy()
    return Visualization(array, inputs.draw(intensity_map(each) for each in array))


def _smoothgrad(inputs: AttributionInputs, samples: int, noise_std: float, seed: int) -> list[Tensor]:
    """Mean map over noisy copies, (1, H, W) for every input."""
    import torch

    from ..core.objectives import gradients

    model, pixels, objective = inputs.model, inputs.pixels, inputs.objective
    # Sampled on the CPU, copy by copy: the noise depends neither on the device nor on the batch size.
    generator = torch.Generator("cpu").manual_seed(seed)
    sums = [torch.zeros_like(each[:, 0]) for each in pixels]
    done = 0
    while done < samples:
        count = min(model.max_batch, samples - done)
        noisy = []
        for each in pixels:
            spread = noise_std * float(each.max() - each.min())
            noise = torch.randn(count, *each.shape[1:], generator=generator) * spread
            noisy.append(each + noise.to(each.device))
        grads = gradients(model, tuple(noisy), objective)
        sums = [total + gradient.abs().amax(1).sum(0) for total, gradient in zip(sums, grads, strict=True)]
        done += count
    return [total / samples for total in sums]
