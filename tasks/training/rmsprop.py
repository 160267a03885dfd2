"""RMSProp with a floor under the root mean square, as DeepPrior's released code has it (Oberweger et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

FLOOR = 0.01


class FlooredRMSprop(torch.optim.Optimizer):
    """A step by lr g / max(rms, 0.01), where rms² <- decay rms² + (1 - decay) g².

    Gradients below the floor are multiplied by at most 100 lr: where torch's RMSprop enlarges the noise of a flat
    region without bound, this one takes small steps. The first root mean square is that of (1 - decay) g².

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        decay: of the mean square.
    """

    def __init__(self, params: Iterable[Any], lr: float, decay: float) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient; a closure is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad.add(parameter, alpha=group["weight_decay"])
                state = self.state[parameter]
                if not state:
                    state["mean_square"] = torch.zeros_like(parameter)
                mean_square = state["mean_square"].lerp_(gradient.square(), 1 - group["decay"])
                parameter.addcdiv_(gradient, mean_square.sqrt().clamp_(min=FLOOR), value=-group["lr"])
