"""Gradients of a step: their sum over all micro-batches, equal to the bit on any number of processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


class GradientSum:
    """Sum of the gradients of all micro-batches of a step, whichever process computes them in whichever order.

    Values of fp32 are added in fp64 and rounded once. Four of them whose magnitudes differ by less than 2^28 have an
    exact sum in fp64; of others, the order changes the 53rd bit, which rounding to 24 bits hardly ever shows. Two
    values have the same sum in both orders, and are added in fp32.

    Attributes:
        dtype: type in which values are added.
    """

    def __init__(self, module: nn.Module, micro_batches: int, device: torch.device) -> None:
        """
        Args:
            module: what is trained; the processes of DistributedDataParallel exchange their gradients by this sum.
            micro_batches: of a step, over all processes.
            device: device of the module.
        """
        # MPS has no fp64, and one process, which adds in one order.
        self.dtype = torch.float64 if micro_batches > 2 and device.type != "mps" else torch.float32
        self.parameters, self._kept = list(module.parameters()), dict[Tensor, Tensor]()
        if isinstance(module, DistributedDataParallel):
            # DDP compares the annotations of a hook, which are text in this file.
            module.register_comm_hook(None, lambda _, bucket: self._exchange(bucket))

    def keep(self) -> None:
        """Add the gradients of a micro-batch that is not the last one of this process."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                grad, kept = parameter.grad.to(self.dtype), self._kept.get(parameter)
                self._kept[parameter] = grad if kept is None else kept.add_(grad)
                parameter.grad = None

    def finish(self) -> None:
        """Replace the gradients of the last micro-batch by the sum; of several processes, they are the sum already."""
        for parameter, kept in self._kept.items():
            total = kept if parameter.grad is None else kept.add_(parameter.grad)
            parameter.grad = total.to(parameter.dtype)
        self._kept.clear()

    def _exchange(self, bucket: distributed.GradBucket) -> torch.futures.Future[Any]:
        """The sum over all processes of what they kept and of a bucket, which has gradients of the last micro-batch."""
        buffer = bucket.buffer()
        total = buffer.to(self.dtype)
        for parameter, grad in zip(bucket.parameters(), bucket.gradients(), strict=True):
            if (kept := self._kept.pop(parameter, None)) is not None:
                # A bucket stores gradients in the memory format of their parameters, which `grad` does not know.
                total.as_strided(parameter.shape, parameter.stride(), grad.storage_offset()).add_(kept)
        exchanged: Any = distributed.all_reduce(total, async_op=True)
        return exchanged.get_future().then(lambda done: done.value()[0].to(buffer.dtype))
