"""Distributed training: the accelerator and shared buffers."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError


def create_accelerator(device: torch.device, phases: int) -> Any:
    """Accelerate's `Accelerator` on a device, for one process or those of torchrun.

    Raises:
        UserError: torchrun started several processes, but they did not connect.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    # Accelerate keeps the first device for the life of the process; a second run may use another.
    AcceleratorState._reset_state(reset_partial_state=True)
    # Without `cpu=`, torchrun on a machine without a GPU starts independent trainings.
    # BatchNorm statistics follow each process's own images; `share_buffers` makes them equal for evaluation.
    ddp_kwargs = DistributedDataParallelKwargs(find_unused_parameters=phases > 1, broadcast_buffers=False)
    world_size, accelerator = int(os.environ.get("WORLD_SIZE", "1")), None
    try:
        accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[ddp_kwargs])
    except ValueError:
        if world_size == 1:
            raise
    if accelerator is None or accelerator.num_processes != world_size:
        connected = "none" if accelerator is None else accelerator.num_processes
        raise UserError(
            f"WORLD_SIZE requests {world_size} processes, but {connected} connected; "
            "check --device and MASTER_ADDR, or launch with torchrun."
        )
    return accelerator


def share_buffers(model: nn.Module, average: dict[str, Tensor]) -> None:
    """Copy the buffers of the first process to all others: what is evaluated is then what is saved.

    Args:
        model: model whose BatchNorm statistics followed each process's own images.
        average: its moving average of weights, empty without one.
    """
    for tensor in [*model.buffers(), *average.values()]:
        torch.distributed.broadcast(tensor, 0)
