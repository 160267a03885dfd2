"""Out of memory: an error message with a batch size that fits."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import torch

from ...errors import UserError
from ..network import Batch, LossTerms

if TYPE_CHECKING:
    from .trainer import Trainer


def out_of_memory_error(trainer: Trainer, error: RuntimeError, batch: Batch) -> UserError | None:
    """An error that names a batch size that fits, if memory ran out; None for any other error."""
    if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
        return None
    # The stack frames of the failed step keep its activations alive as long as the error exists.
    traceback.clear_frames(error.__traceback__)
    for optimizer in trainer.optimizers:
        optimizer.zero_grad(set_to_none=True)
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()
    fits = find_fitting_batch_size(trainer, batch)
    hint = (
        f"--batch-size {fits} fits (with --grad-accum-steps to keep the effective batch size)"
        if fits
        else "even one image does not fit"
    )
    return UserError(
        f"Memory ran out with --batch-size {trainer.options.batch_size}: {hint}; a smaller --image-size helps too."
    )


def find_fitting_batch_size(trainer: Trainer, batch: Batch) -> int:
    """The largest of half, a quarter, ... of a batch with which a step succeeds; 0 if one image does not fit."""
    # Without DDP: the other processes do not take part.
    phase_runner = trainer.accelerator.unwrap_model(trainer.phase_runner)
    count = len(next(iter(batch.values()))) // 2
    while count:
        try:
            part = {name: tensor[:count] for name, tensor in batch.items()}
            cache: dict[str, Any] = {}
            for index in range(len(trainer.phases)):
                trainer.set_requires_grad(index)
                terms: LossTerms = phase_runner(index, part, cache)
                torch.stack(list(terms.values())).sum().backward()
            return count
        except (RuntimeError, ValueError) as error:
            # ValueError: BatchNorm with one value per channel.
            traceback.clear_frames(error.__traceback__)
            count //= 2
        finally:
            for optimizer in trainer.optimizers:
                optimizer.zero_grad(set_to_none=True)
    return 0
