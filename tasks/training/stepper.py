"""One step: all phases of a task behind one forward, and an update of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...datasets.randomness import Purpose, generator
from ...errors import UserError
from ..task import Batch, Phase, Terms
from .memory import out_of_memory
from .optimizers import set_learning_rate

if TYPE_CHECKING:
    from .run import Run


class NotFinite(UserError):
    """A loss term became nan or infinite."""


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


def optimizer_step(run: Run, step: int, batches: Iterator[Batch], rate: float) -> Terms:
    """One whole step: every micro-batch through every phase, then one update per phase.

    Args:
        run: whose networks and optimizers move.
        step: its number, of which what is drawn on the device depends.
        batches: where the micro-batches come from.
        rate: the learning rate.

    Raises:
        NotFinite: a loss term became nan or infinite.
        UserError: not enough memory.
    """
    options, accelerator = run.options, run.accelerator
    micro = [run.arrive(next(batches)) for _ in range(options.accumulate)]
    shared: list[dict[str, Any]] = [{} for _ in micro]
    # Dropout and whatever else draws on the device depends on (seed, step, rank) alone, so that resuming repeats it.
    # Only now: a loader draws from the same generator when it starts.
    rng = generator(options.seed, step, accelerator.process_index, Purpose.DROPOUT)
    torch.manual_seed(int(rng.integers(2**62)))
    logged: Terms = {}
    for index, (phase, optimizer) in enumerate(zip(run.phases, run.optimizers, strict=True)):
        run.open_from(index)
        # What an earlier phase's loss sent into these parameters is no gradient of this one.
        optimizer.zero_grad(set_to_none=True)
        for number, (batch, made) in enumerate(zip(micro, shared, strict=True)):
            waiting = number + 1 < len(micro)
            with accelerator.no_sync(run.stepper) if waiting else nullcontext():
                try:
                    terms = run.stepper(index, batch, made)
                    accelerator.backward(sum(terms.values()) / len(micro))
                except RuntimeError as error:
                    if (sentence := out_of_memory(run, error, batch)) is not None:
                        raise sentence from error
                    raise
            for name, value in terms.items():
                refuse_nan(value, name, step)
                logged[name] = logged.get(name, torch.zeros_like(value)) + value.detach() / len(micro)
        if options.clip:
            accelerator.clip_grad_norm_(phase.module.parameters(), options.clip)
        set_learning_rate(optimizer, rate)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return logged


def refuse_nan(value: Tensor, name: str, step: int) -> None:
    """Raises: NotFinite: the term is nan or infinite."""
    if not torch.isfinite(value):
        raise NotFinite(
            f"The loss term '{name}' became {float(value)} at step {step + 1}: lower --lr, set --clip 1 or --amp off."
        )
