"""`densevision visualize saliency`: which pixels, changed a little, change the answer most.

Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks. 2013, arXiv:1312.6034, section 3: the largest
absolute gradient over the colour channels. Smilkov, Thorat, Kim, Viégas, Wattenberg: SmoothGrad. 2017,
arXiv:1706.03825: the mean of that map over noisy copies of the picture.

Deviations: the first paper averages its maps over ten crops; here one picture is looked at. Gradient and noise are
those of pixels in [0, 1], not of the normalised picture, whose channels have other units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .asked import Asked

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .measures import Probe
    from .subject import Subject


def saliency(
    subject: Subject,
    pixels: tuple[Tensor, ...],
    probe: Probe,
    smooth: int = 0,
    noise: float = 0.15,
    seed: int = 0,
) -> np.ndarray:
    """max over channels of |dS / dI|.

    Args:
        subject: the network.
        pixels: (1, C, H, W) in [0, 1] each, as `subject.pixels` makes them.
        probe: S.
        smooth: noisy copies over which the map is averaged (SmoothGrad; 50 is usual); 0: none, the picture itself.
        noise: standard deviation of their noise, as a share of the picture's range; the paper takes 0.1 to 0.2.
        seed: of the noise.

    Returns:
        (P, H, W) float32 from 0 up, a map for each of the P pictures that go in.

    Raises:
        UserError: no pixel changes the probe, or a number that makes no sense.
    """
    import torch

    from ...errors import UserError
    from .sensitivity import gradients, require_alive

    if smooth < 0 or noise < 0:
        raise UserError(f"--smooth {smooth} --noise {noise:g}: neither may be below 0.")
    if not smooth:
        found = gradients(subject, pixels, probe)
        require_alive(subject, pixels, probe, found)
        return _maps([gradient.abs().amax(1) for gradient in found])
    # Drawn on the CPU, one copy after the other: a GPU and another batch give the same.
    stream = torch.Generator("cpu").manual_seed(seed)
    sums = [torch.zeros_like(each[:, 0]) for each in pixels]
    done = 0
    while done < smooth:
        count = min(subject.together, smooth - done)
        noisy = []
        for each in pixels:
            spread = noise * float(each.max() - each.min())
            drawn = torch.randn(count, *each.shape[1:], generator=stream) * spread
            noisy.append(each + drawn.to(each.device))
        found = gradients(subject, tuple(noisy), probe)
        sums = [total + gradient.abs().amax(1).sum(0) for total, gradient in zip(sums, found, strict=True)]
        done += count
    require_alive(subject, pixels, probe, sums)
    return _maps([total / smooth for total in sums])


def _maps(maps: list[Tensor]) -> np.ndarray:
    import torch

    return torch.cat(maps).detach().float().cpu().numpy()


def show_saliency(
    asked: Annotated[Asked, Parameter(name="*")], *, smooth: int = 0, noise: float = 0.15, seed: int = 0
) -> None:
    """Draw which pixels, changed a little, change the probe most: white where it is most.

    Args:
        smooth: Noisy copies over which the map is averaged (SmoothGrad; 50 is usual); default: none.
        noise: Standard deviation of their noise, as a share of the picture's range; default: 0.15.
        seed: Of the noise; default: 0.
    """
    import numpy as np

    from .drawing import brightness

    opened = asked.opened()
    maps = saliency(opened.subject, opened.pixels, opened.probe, smooth, noise, seed)
    asked.write(np.concatenate([brightness(each) for each in maps], axis=1), maps)
