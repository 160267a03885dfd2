"""Where memory runs out: one sentence with the batch that fits."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import torch

from ...errors import UserError
from ..task import Batch, Terms

if TYPE_CHECKING:
    from .run import Run


def out_of_memory(run: Run, error: RuntimeError, batch: Batch) -> UserError | None:
    """The sentence with the batch that fits, where memory ran out; None for any other error."""
    if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
        return None
    # The frames of the failed step hold its activations for as long as the error lives.
    traceback.clear_frames(error.__traceback__)
    for optimizer in run.optimizers:
        optimizer.zero_grad(set_to_none=True)
    if run.device.type == "cuda":
        torch.cuda.empty_cache()
    fits = batch_that_fits(run, batch)
    way_out = f"--batch {fits} fits (with --accumulate to keep the sum)" if fits else "even one picture is too much"
    return UserError(f"Memory ran out with --batch {run.options.batch}: {way_out}; a smaller --size helps too.")


def batch_that_fits(run: Run, batch: Batch) -> int:
    """The largest of half, a quarter, ... of a batch of which a step can be taken; 0 where one picture is too much."""
    # Without DDP, whose other processes do not take part in this.
    stepper = run.accelerator.unwrap_model(run.stepper)
    count = len(next(iter(batch.values()))) // 2
    while count:
        try:
            part = {name: tensor[:count] for name, tensor in batch.items()}
            made: dict[str, Any] = {}
            for index in range(len(run.phases)):
                run.open_from(index)
                terms: Terms = stepper(index, part, made)
                torch.stack(list(terms.values())).sum().backward()
            return count
        except RuntimeError as error:
            traceback.clear_frames(error.__traceback__)
            count //= 2
        finally:
            for optimizer in run.optimizers:
                optimizer.zero_grad(set_to_none=True)
    return 0
