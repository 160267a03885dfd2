"""Loss scaling of fp16 training: small gradients would be zero in fp16, so the loss is multiplied by a large factor.

Micikevicius et al.: Mixed Precision Training. ICLR 2018, arXiv:1710.03740, section 3.2. The factor is that of torch's
`GradScaler`: it is halved after a step whose gradients overflow, which is skipped, and doubled after 2,000 others.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .interruption import NonFiniteLoss

MAX_SKIPPED = 30
"""Skipped steps in a row after which a run ends: the factor has fallen from 65,536 to below 1e-4."""


class LossScaler:
    """Loss scaling of one run; without effect if it is not enabled.

    A skipped step leaves weights, optimizers and BatchNorm statistics as they were.
    """

    def __init__(self, module: nn.Module, device: torch.device, enabled: bool) -> None:
        self.enabled, self.module, self.skipped = enabled, module, 0
        self.torch_scaler = torch.amp.GradScaler(device.type, enabled=enabled)
        self._buffers: list[Tensor] = []

    def begin_step(self) -> None:
        """Remember the buffers (BatchNorm statistics) before the forward passes of a step."""
        if self.enabled:
            self._buffers = [buffer.clone() for buffer in self.module.buffers()]

    def scale(self, loss: Tensor) -> Tensor:
        """The loss for the backward pass."""
        return self.torch_scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the factor, before they are clipped."""
        self.torch_scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer's step, unless its gradients overflowed."""
        self.torch_scaler.step(optimizer)

    def end_step(self) -> bool:
        """Adapt the factor, and return whether the step counts.

        Raises:
            NonFiniteLoss: `MAX_SKIPPED` steps in a row overflowed.
        """
        if not self.enabled:
            return True
        before = self.torch_scaler.get_scale()
        self.torch_scaler.update()
        if self.torch_scaler.get_scale() >= before:
            self.skipped = 0
            return True
        with torch.no_grad():
            for buffer, value in zip(self.module.buffers(), self._buffers, strict=True):
                buffer.copy_(value)
        self.skipped += 1
        if self.skipped == MAX_SKIPPED:
            raise NonFiniteLoss(
                f"The gradients overflowed fp16 in {MAX_SKIPPED} steps in a row: lower --lr, or train with --amp off."
            )
        return False

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers for the training state."""
        return {"factor": self.torch_scaler.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a training state; one of a run without scaling leaves the first factor."""
        if state["factor"]:
            self.torch_scaler.load_state_dict(state["factor"])
        self.skipped = state["skipped"]
