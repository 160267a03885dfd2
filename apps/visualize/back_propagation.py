"""`densevision visualize guided` and `deconvnet`: gradients whose ReLUs let less through, back to the pixels.

Springenberg, Dosovitskiy, Brox, Riedmiller: Striving for Simplicity. 2014, arXiv:1412.6806, section 3.4: guided
backpropagation. Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901,
section 2.1: the deconvolutional network, which leads one activation back through the pools' switches.

Both are the gradient but for what a ReLU of input a does with the signal R that comes back:

    gradient    R [a > 0]
    guided      R [a > 0] [R > 0]
    deconvnet   R         [R > 0]

A max pool's own gradient leads every signal back to where the maximum was: these are the switches. The deconvnet passes
response normalisation as if it were not there, as the paper does. Every ReLU is meant, whether a module, in place, used
twice or a function (captum 0.9 sees modules alone). Other activations keep their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from .asked import Asked

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .measures import Probe, Unit
    from .subject import Subject

Rule = Literal["guided", "deconvnet"]


@contextmanager
def other_relus(rule: Rule) -> Iterator[None]:
    """While it lasts, every ReLU that runs remembers another backward rule. Networks are not touched.

    Args:
        rule: "guided" or "deconvnet"; see the top of this file.
    """
    import torch
    from torch import Tensor
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            # The sign alone is kept: an in-place ReLU may then write over its input.
            ctx.save_for_backward(x > 0)
            return x.clamp_min(0)

        @staticmethod
        def backward(ctx: Any, *signals: Tensor) -> Tensor:
            (positive,), (signal,) = ctx.saved_tensors, signals
            passed = signal.clamp_min(0)
            return passed * positive if rule == "guided" else passed

    class AsItIs(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, made: Tensor) -> Tensor:
            return made.clone()

        @staticmethod
        def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None]:
            return signals[0], None

    fresh = {functional.relu, torch.relu, Tensor.relu}
    in_place = {functional.relu_, torch.relu_, Tensor.relu_}

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if func in fresh or func in in_place:
                x = args[0] if args else kwargs["input"]
                made: Tensor = Relu.apply(x)  # type: ignore[assignment]
                overwrites = (
                    func in in_place or kwargs.get("inplace") or (func is functional.relu and args[1:] == (True,))
                )
                return x.copy_(made) if overwrites else made
            if rule == "deconvnet" and func is functional.local_response_norm:
                x = args[0] if args else kwargs["input"]
                return AsItIs.apply(x, func(*args, **kwargs).detach())
            return func(*args, **kwargs)

    with Mode():
        yield


def guided_backpropagation(subject: Subject, pixels: tuple[Tensor, ...], probe: Probe) -> np.ndarray:
    """The gradient that flows through units that are active and want more, and through no others.

    Args:
        subject: the network.
        pixels: (1, C, H, W) in [0, 1] each.
        probe: what is led back.

    Returns:
        (P, C, H, W) float32 of either sign, for each of the P pictures that go in.

    Raises:
        UserError: nothing comes back.
    """
    from .sensitivity import gradients, require_alive

    with other_relus("guided"):
        found = gradients(subject, pixels, probe)
    require_alive(subject, pixels, probe, found)
    return _stacked(found)


def deconvnet(subject: Subject, pixels: tuple[Tensor, ...], probe: Probe) -> np.ndarray:
    """What in the picture an activation was made of: the activation itself led back, all others zeroed.

    Args:
        subject: the network.
        pixels: (1, C, H, W) in [0, 1] each.
        probe: a unit of a level, whose activation is led back. A channel stands for its most active unit; of any other
            probe the number 1 is led back, as its gradient would be.

    Returns:
        (P, C, H, W) float32 of either sign, for each of the P pictures that go in.

    Raises:
        UserError: the unit is not active, so that there is nothing to lead back.
    """
    from .measures import Channel
    from .sensitivity import gradients, require_alive

    probe = strongest_unit(subject, pixels, probe) if isinstance(probe, Channel) else probe
    with other_relus("deconvnet"):
        found = gradients(subject, pixels, probe)
    if isinstance(probe, Channel):
        activation = _activation(subject, pixels, probe)
        # What an inactive unit would lead back is 0, whatever lies below it.
        found = tuple(gradient * max(activation, 0.0) for gradient in found)
    require_alive(subject, pixels, probe, found)
    return _stacked(found)


def strongest_unit(subject: Subject, pixels: tuple[Tensor, ...], probe: Probe) -> Unit:
    """The most active unit of a channel on this picture; a unit is itself."""
    import torch

    from .measures import Channel, Unit

    if isinstance(probe, Unit):
        return probe
    assert isinstance(probe, Channel)
    with torch.no_grad():
        channel = probe.of(subject.look(pixels, probe.levels, answer=False))[0].detach()
    y, x = divmod(int(channel.argmax()), channel.shape[-1]) if channel.ndim == 2 else (0, 0)
    return Unit(probe.level, probe.index, x, y)


def _activation(subject: Subject, pixels: tuple[Tensor, ...], probe: Probe) -> float:
    return float(probe.measure(subject.look(pixels, probe.levels, answer=False)).detach())


def _stacked(found: tuple[Tensor, ...]) -> np.ndarray:
    import torch

    return torch.cat(found).detach().float().cpu().numpy()


def show_guided(asked: Annotated[Asked, Parameter(name="*")]) -> None:
    """Draw the gradient that flows through active units that want more, in the picture's colours; grey is 0."""
    import numpy as np

    from .drawing import in_colour

    opened = asked.opened()
    maps = guided_backpropagation(opened.subject, opened.pixels, opened.probe)
    asked.write(np.concatenate([in_colour(each) for each in maps], axis=1), maps)


def show_deconvnet(asked: Annotated[Asked, Parameter(name="*")]) -> None:
    """Draw what of the picture an activation was made of, led back through the pools' switches; grey is 0.

    A channel (layer3:17) stands for its most active unit.
    """
    import numpy as np

    from .drawing import in_colour
    from .measures import Channel

    opened = asked.opened()
    probe = opened.probe
    if isinstance(probe, Channel):
        probe = strongest_unit(opened.subject, opened.pixels, probe)
        print(f"{probe}: {_activation(opened.subject, opened.pixels, probe):.4g}")
    maps = deconvnet(opened.subject, opened.pixels, probe)
    asked.write(np.concatenate([in_colour(each) for each in maps], axis=1), maps)
