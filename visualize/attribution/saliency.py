"""`densevision visualize saliency`: saliency map, the absolute gradient of the target; and SmoothGrad.

Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks. 2013, arXiv:1312.6034, section 3: the maximum
absolute gradient over the color channels. Smilkov, Thorat, Kim, Viégas, Wattenberg: SmoothGrad. 2017,
arXiv:1706.03825: the mean of this map over noisy copies of the image.

Deviations: the first paper averages its maps over ten crops, this implementation uses one image. Gradient and noise
refer to pixels in [0, 1], not to the normalized image, whose channels have other units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..core.options import AttributionOptions

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..core.model import InspectedModel
    from ..core.objectives import Objective


def saliency(
    model: InspectedModel,
    pixels: tuple[Tensor, ...],
    objective: Objective,
    smoothgrad_samples: int = 0,
    noise_std: float = 0.15,
    seed: int = 0,
) -> np.ndarray:
    """max over channels of |dS / dI|.

    Args:
        model: the model.
        pixels: (1, C, H, W) in [0, 1] each, from `model.pixels`.
        objective: S.
        smoothgrad_samples: noisy copies over which the map is averaged (SmoothGrad; usually 50); 0: the plain gradient.
        noise_std: standard deviation of the noise, as a fraction of the image's range; the paper uses 0.1 to 0.2.
        seed: random seed of the noise.

    Returns:
        (P, H, W) float32, non-negative, one map for each of the P inputs.

    Raises:
        UserError: a gradient that is 0 everywhere, or a negative argument.
    """
    import torch

    from ...errors import UserError
    from ..core.gradients import check_nonzero_gradient, gradients

    if smoothgrad_samples < 0 or noise_std < 0:
        raise UserError(f"--smoothgrad-samples {smoothgrad_samples} --noise-std {noise_std:g}: neither may be below 0.")
    if not smoothgrad_samples:
        grads = gradients(model, pixels, objective)
        check_nonzero_gradient(model, pixels, objective, grads)
        return _maps([gradient.abs().amax(1) for gradient in grads])
    # Sampled on the CPU, copy by copy: the noise depends neither on the device nor on the batch size.
    generator = torch.Generator("cpu").manual_seed(seed)
    sums = [torch.zeros_like(each[:, 0]) for each in pixels]
    done = 0
    while done < smoothgrad_samples:
        count = min(model.max_batch, smoothgrad_samples - done)
        noisy = []
        for each in pixels:
            spread = noise_std * float(each.max() - each.min())
            noise = torch.randn(count, *each.shape[1:], generator=generator) * spread
            noisy.append(each + noise.to(each.device))
        grads = gradients(model, tuple(noisy), objective)
        sums = [total + gradient.abs().amax(1).sum(0) for total, gradient in zip(sums, grads, strict=True)]
        done += count
    check_nonzero_gradient(model, pixels, objective, sums)
    return _maps([total / smoothgrad_samples for total in sums])


def _maps(maps: list[Tensor]) -> np.ndarray:
    import torch

    return torch.cat(maps).detach().float().cpu().numpy()


def show_saliency(
    options: Annotated[AttributionOptions, Parameter(name="*")],
    *,
    smoothgrad_samples: int = 0,
    noise_std: float = 0.15,
    seed: int = 0,
) -> None:
    """Draw the saliency map of a target; white is the maximum.

    Args:
        smoothgrad_samples: Number of noisy copies that SmoothGrad averages (usually 50); 0: the plain gradient.
        noise_std: Standard deviation of the SmoothGrad noise, as a fraction of the image's range.
        seed: Random seed of the noise.
    """
    import numpy as np

    from ..core.render import intensity_map

    inputs = options.open()
    maps = saliency(inputs.model, inputs.pixels, inputs.objective, smoothgrad_samples, noise_std, seed)
    options.write(inputs.mark(np.concatenate([intensity_map(each) for each in maps], axis=1)), maps)
