"""Several processes that train one network."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError


def create_accelerator(device: torch.device, phases: int) -> Any:
    """Accelerate on this device, one process or torchrun's.

    Raises:
        UserError: torchrun started several processes and they did not find each other.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    # Accelerate keeps the first choice of device for the life of the process; a second training may want another.
    AcceleratorState._reset_state(reset_partial_state=True)
    # Without `cpu=`, torchrun on a machine without a GPU starts trainings that know nothing of each other.
    # Statistics follow each process's own pictures; `share_buffers` evens them out when they are used.
    wrapping = DistributedDataParallelKwargs(find_unused_parameters=phases > 1, broadcast_buffers=False)
    wanted, accelerator = int(os.environ.get("WORLD_SIZE", "1")), None
    try:
        accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[wrapping])
    except ValueError:
        if wanted == 1:
            raise
    if accelerator is None or accelerator.num_processes != wanted:
        found = "none" if accelerator is None else accelerator.num_processes
        raise UserError(
            f"The launch asked for {wanted} processes (WORLD_SIZE), but {found} found each other; "
            "check --device and MASTER_ADDR, or launch with torchrun."
        )
    return accelerator


def share_buffers(model: nn.Module, average: dict[str, Tensor]) -> None:
    """Give every process the statistics of the first, which are those that are saved; for evaluating together.

    Args:
        model: whose buffers followed each process's own pictures.
        average: its moving average, empty without one.
    """
    for tensor in [*model.buffers(), *average.values()]:
        torch.distributed.broadcast(tensor, 0)
