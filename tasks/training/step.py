"""One optimizer step: forward and backward passes of all phases, and an update of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...datasets.core.randomness import Purpose, generator
from ...errors import UserError
from ..network import Batch, LossTerms, Phase
from .oom import out_of_memory_error
from .optimizers import set_learning_rate
from .options import ResolvedOptions

if TYPE_CHECKING:
    from .trainer import Trainer


class NonFiniteLoss(UserError):
    """A loss term became nan or infinite."""


class PhaseRunner(nn.Module):
    """All phases behind one `forward`, so that DDP sees every use of the network and averages its gradients once."""

    def __init__(self, phases: tuple[Phase, ...], bf16: bool, device: str) -> None:
        super().__init__()
        self.phases, self.bf16, self.device = phases, bf16, device
        self.phase_modules = nn.ModuleList(phase.module for phase in phases)

    def forward(self, phase: int, batch: Batch, cache: dict[str, Any]) -> LossTerms:
        """Loss terms of one phase; losses compute in fp32 by their own `.float()`."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            return self.phases[phase].loss(batch, cache)


def optimizer_step(trainer: Trainer, step: int, batches: Iterator[Batch], lr: float) -> LossTerms:
    """One optimizer step: every micro-batch through every phase, and one update per phase.

    Args:
        trainer: owner of the model and the optimizers.
        step: index of the step, which seeds the random numbers on the device.
        batches: iterator over micro-batches.
        lr: learning rate.

    Returns:
        All loss terms, averaged over the micro-batches.

    Raises:
        NonFiniteLoss: a loss term became nan or infinite.
        UserError: not enough memory, or too few values for a normalization.
        KeyboardInterrupt: a stop was requested before the step began; nothing has changed.
    """
    options, accelerator = trainer.options, trainer.accelerator
    with trainer.interruptible():
        micro_batches = [trainer.to_device(next(batches)) for _ in range(options.grad_accum_steps)]
    trainer.complete = False
    caches: list[dict[str, Any]] = [{} for _ in micro_batches]
    # Dropout and other random numbers on the device depend on (seed, step, rank) alone, so that resuming repeats them.
    # Seed after loading: a data loader uses the same generator when it starts.
    rng = generator(options.seed, step, accelerator.process_index, Purpose.DROPOUT)
    torch.manual_seed(int(rng.integers(2**62)))
    logged: LossTerms = {}
    for index, (phase, optimizer) in enumerate(zip(trainer.phases, trainer.optimizers, strict=True)):
        trainer.set_requires_grad(index)
        # Discard gradients that the loss of an earlier phase left in these parameters.
        optimizer.zero_grad(set_to_none=True)
        for number, (batch, cache) in enumerate(zip(micro_batches, caches, strict=True)):
            accumulating = number + 1 < len(micro_batches)
            with accelerator.no_sync(trainer.phase_runner) if accumulating else nullcontext():
                try:
                    terms = trainer.phase_runner(index, batch, cache)
                    accelerator.backward(sum(terms.values()) / len(micro_batches))
                except RuntimeError as error:
                    if (user_error := out_of_memory_error(trainer, error, batch)) is not None:
                        raise user_error from error
                    raise
                except ValueError as error:
                    if "Expected more than 1" not in str(error):
                        raise
                    raise UserError(too_few_values(options, str(error))) from error
            for name, value in terms.items():
                check_finite(value, name, step)
                logged[name] = logged.get(name, torch.zeros_like(value)) + value.detach() / len(micro_batches)
        if options.clip_grad_norm:
            accelerator.clip_grad_norm_(phase.module.parameters(), options.clip_grad_norm)
        set_learning_rate(optimizer, lr)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return logged


def too_few_values(options: ResolvedOptions, message: str) -> str:
    """Error message for BatchNorm with one value, or InstanceNorm with one pixel, per channel.

    Args:
        options: options of the run.
        message: that of torch, which ends in the size of the tensor.
    """
    height, width = options.image_size
    more = "a larger --image-size" if "spatial" in message else "--batch-size 2 or more, or a larger --image-size"
    return (
        f"A normalization gets one value per channel (a tensor of {message.rpartition('size ')[2]}) with --batch-size "
        f"{options.batch_size} and --image-size {height} {width}, and cannot compute a variance: use {more}."
    )


def check_finite(value: Tensor, name: str, step: int) -> None:
    """Refuse a loss term that is nan or infinite.

    Raises:
        NonFiniteLoss: naming the term and the step.
    """
    if not torch.isfinite(value):
        raise NonFiniteLoss(
            f"The loss term '{name}' became {float(value)} at step {step + 1}: lower --lr, set --clip-grad-norm 1 or "
            "--amp off."
        )
