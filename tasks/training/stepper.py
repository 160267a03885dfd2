"""All phases of a task behind one forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..task import Batch, Phase, Terms


class Stepper(nn.Module):
    """All phases behind one forward, so that DDP sees every use of the network and averages its gradients once."""

    def __init__(self, phases: tuple[Phase, ...], bf16: bool, device: str) -> None:
        super().__init__()
        self.phases, self.bf16, self.device = phases, bf16, device
        self.modules_of_phases = nn.ModuleList(phase.module for phase in phases)

    def forward(self, phase: int, batch: Batch, made: dict[str, Any]) -> Terms:
        """The named loss terms of one phase; losses themselves leave bf16 by their own `.float()`."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            return self.phases[phase].loss(batch, made)
