"""Guided backpropagation and deconvnet: gradients with a modified backward rule of the ReLU.

Springenberg, Dosovitskiy, Brox, Riedmiller: Striving for Simplicity. 2014, arXiv:1412.6806, section 3.4: guided
backpropagation. Zeiler, Fergus: Visualizing and Understanding Convolutional Networks. ECCV 2014, arXiv:1311.2901,
section 2.1: the deconvolutional network, which projects an activation back through the switches of the max pools.

Both are the gradient except for the backward rule of the ReLU with input a and incoming signal R:

    gradient    R [a > 0]
    guided      R [a > 0] [R > 0]
    deconvnet   R         [R > 0]

The gradient of a max pool passes every signal back to the position of the maximum: these are the switches. The
deconvnet treats response normalization as the identity, as in the paper. The rule applies to every ReLU: modules,
functions, in place or re-used (captum 0.9 handles modules only). Other activation functions keep their gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from ..core.result import Visualization

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.model import InspectedModel
    from ..core.objectives import Neuron, Objective
    from ..core.targets import AttributionInputs

Rule = Literal["guided", "deconvnet"]


@contextmanager
def relu_backward_rule(rule: Rule) -> Iterator[None]:
    """Context in which every ReLU uses another backward rule (module docstring); the model is not changed."""
    import torch
    from torch import Tensor
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            # Save the sign only: an in-place ReLU may overwrite its input.
            ctx.save_for_backward(x > 0)
            return x.clamp_min(0)

        @staticmethod
        def backward(ctx: Any, *signals: Tensor) -> Tensor:
            (positive,), (signal,) = ctx.saved_tensors, signals
            positive_signal = signal.clamp_min(0)
            return positive_signal * positive if rule == "guided" else positive_signal

    class StraightThrough(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, output: Tensor) -> Tensor:
            return output.clone()

        @staticmethod
        def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None]:
            return signals[0], None

    out_of_place = {functional.relu, torch.relu, Tensor.relu}
    in_place = {functional.relu_, torch.relu_, Tensor.relu_}

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}
            if func in out_of_place or func in in_place:
                x = args[0] if args else kwargs["input"]
                output: Tensor = Relu.apply(x)  # type: ignore[assignment]
                overwrites = (
                    func in in_place or kwargs.get("inplace") or (func is functional.relu and args[1:] == (True,))
                )
                return x.copy_(output) if overwrites else output
            if rule == "deconvnet" and func is functional.local_response_norm:
                x = args[0] if args else kwargs["input"]
                return StraightThrough.apply(x, func(*args, **kwargs).detach())
            return func(*args, **kwargs)

    with Mode():
        yield


def guided_backprop(model: Any, image: Any, target: Any) -> Visualization:
    """Draw the guided backpropagation of a target in RGB; gray is 0.

    Args:
        model: see `inspect_model`.
        image: see `InspectedModel.take`.
        target: what is backpropagated, see `resolve_target`.

    Returns:
        array: (P, C, H, W) float32, signed, for each of the P inputs.

    Raises:
        UserError: the result is 0 everywhere.
    """
    from ..core.objectives import gradients
    from ..core.targets import attribution_inputs

    inputs = attribution_inputs(model, image, target)
    with relu_backward_rule("guided"):
        grads = gradients(inputs.model, inputs.pixels, inputs.objective)
    return _draw(inputs, grads)


def deconvnet(model: Any, image: Any, target: Any) -> Visualization:
    """Project an activation back to the pixels through the pooling switches, and draw it in RGB; gray is 0.

    All other units of its level are set to 0. For a channel (layer3:17), its most active unit is used. For targets that
    are not in a level the signal is 1, as for a gradient.

    Args:
        model: see `inspect_model`.
        image: see `InspectedModel.take`.
        target: a unit, whose activation is the signal, or a channel; see `resolve_target`.

    Returns:
        array: (P, C, H, W) float32, signed, for each of the P inputs.

    Raises:
        UserError: the neuron is not active.
    """
    from ..core.objectives import Channel, gradients
    from ..core.targets import attribution_inputs

    inputs = attribution_inputs(model, image, target)
    if isinstance(inputs.objective, Channel):
        inputs = inputs._replace(objective=most_active_neuron(inputs.model, inputs.pixels, inputs.objective))
    with relu_backward_rule("deconvnet"):
        grads = gradients(inputs.model, inputs.pixels, inputs.objective)
    if not isinstance(inputs.objective, Channel):
        return _draw(inputs, grads)
    result = inputs.model.forward(inputs.pixels, inputs.objective.levels, run_output=False)
    activation = float(inputs.objective(result).detach())
    # The signal of an inactive unit is 0.
    grads = tuple(gradient * max(activation, 0.0) for gradient in grads)
    return _draw(inputs, grads, f"{inputs.objective}: {activation:.4g}")


def most_active_neuron(model: InspectedModel, pixels: tuple[Tensor, ...], objective: Objective) -> Neuron:
    """The most active neuron of a channel on this image; a neuron is returned unchanged."""
    import torch

    from ..core.objectives import Channel, Neuron

    if isinstance(objective, Neuron):
        return objective
    assert isinstance(objective, Channel)
    with torch.no_grad():
        channel = objective.activation_map(model.forward(pixels, objective.levels, run_output=False))[0].detach()
    y, x = divmod(int(channel.argmax()), channel.shape[-1]) if channel.ndim == 2 else (0, 0)
    return Neuron(objective.level, objective.index, x, y)


def _draw(inputs: AttributionInputs, grads: tuple[Tensor, ...], *notes: str) -> Visualization:
    import torch

    from ..core.images import to_rgb
    from ..core.objectives import check_nonzero_gradient

    check_nonzero_gradient(inputs.model, inputs.pixels, inputs.objective, grads)
    array = torch.cat(grads).detach().float().cpu().numpy()
    return Visualization(array, inputs.draw(to_rgb(each) for each in array), notes)
