"""`densevision visualize gradient-input` and `integrated-gradients`: how much each pixel adds to the answer.

Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks. ICML 2017, arXiv:1703.01365, equation 1. Gradient
times input is the same with the gradient at the picture alone: the first term of Taylor's series about the baseline,
exact for networks that are linear between the two.

A baseline is the picture of nothing: "black", 0 in pixels, or "grey", the mean of the preprocessing, which is 0 for the
network. The papers' I * dS/dI on the network's own input is gradient times input about grey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from cyclopts import Parameter

from .asked import Asked

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .measures import Probe
    from .subject import Subject

Baseline = Literal["black", "grey"]


class Shares(NamedTuple):
    """What every pixel adds.

    Attributes:
        maps: (P, H, W) float32 of either sign, summed over channels, for each of the P pictures that go in.
        difference: S of the picture less S of the baseline, which the maps of integrated gradients add up to.
    """

    maps: np.ndarray
    difference: float

    @property
    def delta(self) -> float:
        """By how much the sum misses the difference, as a share of the larger of the two; the paper asks for 0.05."""
        total = float(self.maps.sum(dtype="float64"))
        return abs(total - self.difference) / max(abs(self.difference), abs(total), 1e-12)


def baseline_of(subject: Subject, pixels: tuple[Tensor, ...], baseline: Baseline) -> tuple[Tensor, ...]:
    """The pictures of nothing beside some pictures: (1, C, H, W) each.

    Raises:
        UserError: no such baseline.
    """
    from ...errors import unknown_name

    if baseline == "black":
        return tuple(each.new_zeros(each.shape) for each in pixels)
    if baseline != "grey":
        raise unknown_name("baseline", baseline, ("black", "grey"))
    return tuple(each.new_tensor(subject.grey).view(1, -1, 1, 1).expand_as(each) for each in pixels)


def gradient_times_input(
    subject: Subject, pixels: tuple[Tensor, ...], probe: Probe, baseline: Baseline = "grey"
) -> Shares:
    """(I - I') * dS/dI, summed over channels.

    Args:
        subject: the network.
        pixels: (1, C, H, W) in [0, 1] each.
        probe: S.
        baseline: I'.

    Raises:
        UserError: no pixel changes the probe.
    """
    from .sensitivity import gradients, require_alive

    nothing = baseline_of(subject, pixels, baseline)
    found = gradients(subject, pixels, probe)
    require_alive(subject, pixels, probe, found)
    products = [(each.to(one.device) - zero) * one for each, zero, one in zip(pixels, nothing, found, strict=True)]
    return _shares(subject, pixels, nothing, probe, products)


def integrated_gradients(
    subject: Subject, pixels: tuple[Tensor, ...], probe: Probe, steps: int = 50, baseline: Baseline = "black"
) -> Shares:
    """(I - I') times the mean gradient on the straight way from I' to I, summed over channels.

    Args:
        subject: the network.
        pixels: (1, C, H, W) in [0, 1] each.
        probe: S.
        steps: places of Gauss and Legendre's rule, at which the gradient is taken; the paper takes 20 to 300.
        baseline: I'.

    Raises:
        UserError: no pixel changes the probe anywhere on the way, or no steps.
    """
    import numpy as np

    from ...errors import UserError
    from .sensitivity import gradients, require_alive

    if steps < 1:
        raise UserError(f"--steps is {steps}; it must be at least 1.")
    nothing = baseline_of(subject, pixels, baseline)
    places, weights = np.polynomial.legendre.leggauss(steps)
    means = [each.new_zeros(each.shape) for each in pixels]
    for start in range(0, steps, subject.together):
        chosen = slice(start, start + subject.together)
        at = pixels[0].new_tensor((places[chosen] + 1) / 2).view(-1, 1, 1, 1)
        weight = pixels[0].new_tensor(weights[chosen] / 2).view(-1, 1, 1, 1)
        between = tuple(zero + at * (each - zero) for each, zero in zip(pixels, nothing, strict=True))
        found = gradients(subject, between, probe)
        means = [mean + (weight * one).sum(0, keepdim=True) for mean, one in zip(means, found, strict=True)]
    require_alive(subject, pixels, probe, means)
    products = [(each - zero) * mean for each, zero, mean in zip(pixels, nothing, means, strict=True)]
    return _shares(subject, pixels, nothing, probe, products)


def _shares(
    subject: Subject,
    pixels: tuple[Tensor, ...],
    nothing: tuple[Tensor, ...],
    probe: Probe,
    products: list[Tensor],
) -> Shares:
    import torch

    from .sensitivity import score

    with torch.no_grad():
        here, there = (float(score(subject, each, probe)[0].detach()) for each in (pixels, nothing))
    return Shares(torch.cat([each.sum(1) for each in products]).detach().float().cpu().numpy(), here - there)


def show_gradient_input(asked: Annotated[Asked, Parameter(name="*")], *, baseline: Baseline = "grey") -> None:
    """Draw the gradient times the picture, over it: red adds to the probe, blue takes away.

    Args:
        baseline: The picture of nothing: black, or grey, the mean of the preprocessing; default: grey.
    """
    opened = asked.opened()
    _draw(asked, opened.pixels, gradient_times_input(opened.subject, opened.pixels, opened.probe, baseline))


def show_integrated_gradients(
    asked: Annotated[Asked, Parameter(name="*")], *, steps: int = 50, baseline: Baseline = "black"
) -> None:
    """Draw how much every pixel adds on the way from nothing to the picture: red adds to the probe, blue takes away.

    Args:
        steps: Places on the way at which the gradient is taken; default: 50.
        baseline: The picture of nothing: black, or grey, the mean of the preprocessing; default: black.
    """
    opened = asked.opened()
    found = integrated_gradients(opened.subject, opened.pixels, opened.probe, steps, baseline)
    print(f"The shares add up to {found.maps.sum():.4g} of {found.difference:.4g}: delta {found.delta:.2%}.")
    if found.delta > 0.05:
        print("The paper asks for at most 5%; take more --steps.")
    _draw(asked, opened.pixels, found)


def _draw(asked: Asked, pixels: tuple[Tensor, ...], found: Shares) -> None:
    import numpy as np

    from .drawing import photograph, signed_over

    drawn = [signed_over(photograph(each), one) for each, one in zip(pixels, found.maps, strict=True)]
    asked.write(np.concatenate(drawn, axis=1), found.maps)
