"""Distributed processes: rank and number of processes, shares of a sequence, gathering, and training's accelerator.

Importing this module does not import torch: the help of the command line stays fast.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Item = TypeVar("Item")

GATHER_TIMEOUT = timedelta(days=30)
"""How long a finished process waits for the others. torchrun ends all of them when one fails."""


CGROUP = Path("/sys/fs/cgroup")
"""Limits of the container: the first version of control groups has two files, the second one."""


def available_cores() -> int:
    """CPU cores for this process: those that system and container grant, divided among the processes of torchrun."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((CGROUP / file).read_text() for file in files).split()
            if int(quota) > 0:
                cores = min(cores, -(-int(quota) // int(period)))
        except (OSError, ValueError):
            # No such file, or "max" for no limit.
            continue
    local_size = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, cores // int(local_size)) if local_size.isdecimal() and int(local_size) else cores


@dataclass(frozen=True)
class ProcessGroup:
    """Rank of this process and size of its group.

    Attributes:
        rank: index of this process, from 0.
        num_processes: size of the group.
        connected: whether the processes can communicate.
    """

    rank: int = 0
    num_processes: int = 1
    connected: bool = False

    @classmethod
    def current(cls) -> ProcessGroup:
        """The initialized group of `torch.distributed` (as in training); a single process without one."""
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size(), True)
        return cls()

    @classmethod
    def from_environment(cls) -> ProcessGroup:
        """The group by torchrun's variables RANK and WORLD_SIZE, not initialized; a single process if they are not set.

        Raises:
            UserError: the variables are not integers with 0 <= RANK < WORLD_SIZE.
        """
        values = {name: os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))}
        try:
            rank, size = (int(value) for value in values.values())
        except ValueError:
            rank = size = 0
        if not 0 <= rank < size:
            raise UserError(
                f"RANK is '{values['RANK']}' and WORLD_SIZE is '{values['WORLD_SIZE']}'; launch with torchrun."
            )
        return cls(rank, size, size > 1 and "MASTER_ADDR" in os.environ)

    def indices(self, count: int) -> range:
        """Every `num_processes`-th index of a sequence of so many items, starting at `rank`."""
        return range(self.rank, count, self.num_processes)

    def share(self, items: Iterator[Item]) -> Iterator[Item]:
        """Every `num_processes`-th item, starting at `rank`."""
        return islice(items, self.rank, None, self.num_processes)

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all processes by rank, once all have called it; only this one's if they cannot communicate.

        Connects the processes for this call if `torch.distributed` is not initialized. Call it before exiting with an
        error: torchrun ends every process as soon as one does.
        """
        if not self.connected:
            return [value]
        from torch import distributed

        temporary = not distributed.is_initialized()
        if temporary:
            distributed.init_process_group("gloo", timeout=GATHER_TIMEOUT)
        try:
            values: list[Any] = [None] * self.num_processes
            distributed.all_gather_object(values, value)
            return values
        finally:
            if temporary:
                distributed.destroy_process_group()


def create_accelerator(device: torch.device, phases: int, timeout: float = 600.0) -> Any:
    """Accelerate's `Accelerator` on a device, for one process or those of torchrun.

    Args:
        device: device of the model.
        phases: optimizers of a step.
        timeout: seconds that a process waits for the others.

    Raises:
        UserError: torchrun started several processes, but they did not connect.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState

    # Accelerate keeps the first device for the life of the process; a second run may use another.
    AcceleratorState._reset_state(reset_partial_state=True)
    # Without `cpu=`, torchrun on a machine without a GPU starts independent trainings.
    # The BatchNorm statistics are those of the main process; `broadcast_buffers` makes them equal for evaluation.
    ddp_kwargs = DistributedDataParallelKwargs(find_unused_parameters=phases > 1, broadcast_buffers=False)
    group_kwargs = InitProcessGroupKwargs(timeout=timedelta(seconds=timeout))
    world_size, accelerator = int(os.environ.get("WORLD_SIZE", "1")), None
    try:
        accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[ddp_kwargs, group_kwargs]
        )
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


def synchronize_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Make the BatchNorm layers of a model take their statistics in training from the images of all processes.

    Raises:
        UserError: there are several processes without GPUs, for which PyTorch has no such layer; or a normalization
            has a meaning of its own.
    """
    from timm.layers import BatchNormAct2d, convert_sync_batchnorm
    from torch import nn

    if device.type != "cuda" and ProcessGroup.from_environment().num_processes > 1:
        raise UserError(f"--sync-bn needs GPUs, and the device is {device.type}: leave it out, or use --freeze-bn.")
    known = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, BatchNormAct2d)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and type(module) not in known:
            raise UserError(f"--sync-bn cannot replace the normalization {type(module).__name__} of this model.")
    for name, child in model.named_children():
        setattr(model, name, convert_sync_batchnorm(child))


def require_shared_folder(accelerator: Any, folder: Path) -> None:
    """Check that all processes of an accelerator see one folder, which the main process has created.

    Raises:
        UserError: they do not.
    """
    from accelerate.utils import broadcast_object_list

    if os.environ.get("LOCAL_WORLD_SIZE") == str(accelerator.num_processes) or accelerator.num_processes == 1:
        return
    # A name that no file system has cached.
    (name,) = broadcast_object_list([f".seen-{secrets.token_hex(8)}"])
    if accelerator.is_main_process:
        (folder / name).touch()
    accelerator.wait_for_everyone()
    missing = any_process(accelerator, not (folder / name).exists())
    if accelerator.is_main_process:
        (folder / name).unlink()
    if missing:
        raise UserError(f"The processes do not share {folder}: give an --out that all machines see at the same path.")


def any_process(accelerator: Any, flag: bool) -> bool:
    """Whether the flag is set in any process of an accelerator (a request to stop, for example), known to each."""
    if accelerator.num_processes == 1:
        return flag
    import torch

    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device)) > 0)


def broadcast_buffers(model: nn.Module, average: dict[str, Tensor]) -> None:
    """Copy the buffers of the first process to all others: what is evaluated is then what is saved.

    Args:
        model: model whose BatchNorm statistics only the first process follows.
        average: its moving average of weights, empty without one.
    """
    from torch import distributed

    for tensor in [*model.buffers(), *average.values()]:
        distributed.broadcast(tensor, 0)
