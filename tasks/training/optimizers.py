"""Optimizers over parameter groups, and the moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .freezing import trunk_parameters
from .options import Settled


def parameter_groups(module: nn.Module, options: Settled, trunk_rate: float) -> list[dict]:
    """Every trainable parameter in exactly one group: trunk or not, decayed or not.

    Unless everything decays, weight decay spares what has one axis (biases, scales of norms): there it would only fight
    the normalisation. Each group's `relative` is its learning rate relative to the run's.
    """
    trunk = {id(parameter) for parameter in trunk_parameters(module)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in module.parameters():
        if parameter.requires_grad:
            decayed = options.decay == "all" or parameter.ndim > 1
            groups.setdefault((id(parameter) in trunk, decayed), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": options.weight_decay if decayed else 0.0,
            "relative": trunk_rate if in_trunk else 1.0,
        }
        for (in_trunk, decayed), parameters in groups.items()
    ]


def create_optimizer(module: nn.Module, options: Settled, trunk_rate: float) -> torch.optim.Optimizer:
    """The optimizer of one phase, fused where the device has it."""
    groups = parameter_groups(module, options, trunk_rate)
    device = groups[0]["params"][0].device.type
    fused = device in ("cpu", "cuda")
    rate, momentum = options.lr, options.momentum
    match options.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=fused)
        case "sgd-1986":
            for group in groups:
                group["rate_inside"] = True
            return torch.optim.SGD(groups, lr=rate, momentum=momentum, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=rate, betas=(momentum, 0.999), fused=fused)
        case _:
            return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The run's rate now, each group in its relation to it.

    Two forms of momentum differ where the rate changes. torch's keeps b <- m b + g and steps by lr b: a new rate acts
    on old gradients at once. The papers' (Rumelhart et al. 1986; Krizhevsky et al. 2012, section 5) keeps
    v <- m v + lr g and steps by v: old gradients coast on at the rate they came with. Since v = lr b, the second is the
    first with b scaled by old rate / new rate at every change.
    """
    for group in optimizer.param_groups:
        old, new = group["lr"], rate * group["relative"]
        if group.get("rate_inside") and old != new and new > 0:
            for parameter in group["params"]:
                velocity = optimizer.state[parameter].get("momentum_buffer")
                if velocity is not None:
                    velocity.mul_(old / new)
        group["lr"] = new


class MovingAverage:
    """ema <- decay ema + (1 - decay) weights, after every step; integer buffers and the first steps are copied.

    Source: Polyak & Juditsky 1992; the decay grows as (1 + n) / (10 + n) up to its value, so that early weights fade.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of a step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged weights, and with its own again afterwards."""
        own: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.average)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state(self) -> dict:
        """For the training state."""
        return {"updates": self.updates, "average": self.average}

    def restore(self, state: dict) -> None:
        """From the training state."""
        self.updates = state["updates"]
        for name, value in state["average"].items():
            self.average[name].copy_(value)
