"""The training loop: for batch in stream, for phase in phases, log, evaluate, save. Every task uses this one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ...datasets.dataset import Dataset
from ...datasets.randomness import Purpose, generator
from ...errors import UserError
from ..task import Task, Terms
from .assembly import Run, assemble
from .interruption import stop_politely
from .optimizers import set_learning_rate
from .options import Options
from .schedules import learning_rate


def train(
    task: str | Task,
    options: Options | None = None,
    *,
    data: Dataset | str | None = None,
    eval_data: Dataset | str | None = None,
    on_step: Callable[[int], None] | None = None,
    **stated: Any,
) -> dict[str, Any]:
    """Train a task.

    >>> train("depth", data=my_dataset, steps=1000, out="runs/mine")  # doctest: +SKIP

    Args:
        task: a name, or a task with its own options.
        options: every choice; what it leaves out comes from the recipe, then from `options.Settled`.
        data: the training set by name, or an opened split of any `Dataset`.
        eval_data: likewise the set to evaluate on; needed beside an opened `data`.
        on_step: called after every whole optimizer step with the number of steps done.
        stated: options by name, over `options`.

    Returns:
        What stands in the run folder's result.json.

    Raises:
        UserError: a choice that cannot be.
        KeyboardInterrupt: the run was stopped; its state is saved.
    """
    threads = torch.get_num_threads()
    run = assemble(task, options or Options(), data, eval_data, stated)
    with stop_politely() as stop:
        try:
            return follow(run, stop, on_step)
        finally:
            run.log.close()
            torch.set_num_threads(threads)


def follow(run: Run, stop: Callable[[], bool], on_step: Callable[[int], None] | None) -> dict[str, Any]:
    """From the step a run stands at to its end."""
    options, batches = run.options, iter(run.batches())
    run.log.say(run.describe())
    if run.out_of_patience:
        return run.finish()
    for step in range(run.step, run.steps):
        run.advance(optimizer_step(run, step, batches))
        if on_step is not None:
            on_step(run.step)
        stopping, finished = run.agreed(stop()), run.step == run.steps
        if run.step % options.log_every == 0 or finished:
            run.report()
        if run.evaluates_now():
            finished = run.evaluate() or finished
        if run.step % options.save_every == 0 or finished or stopping:
            run.save()
        if finished:
            break
        if stopping:
            run.log.say(f"Stopped after step {run.step}. Go on with: {run.resume_command()}")
            raise KeyboardInterrupt
    return run.finish()


def optimizer_step(run: Run, step: int, batches: Any) -> Terms:
    """One whole step: every micro-batch through every phase, then one update per phase.

    Raises:
        UserError: a loss term that is not finite, with the step and its name; not enough memory.
    """
    options, accelerator = run.options, run.accelerator
    rate = options.lr * learning_rate(options.schedule, step, run.steps, options.warmup)
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
                    if (sentence := run.out_of_memory(error, batch)) is not None:
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
    """Raises: UserError: the term is nan or infinite."""
    if not torch.isfinite(value):
        raise UserError(
            f"The loss term '{name}' became {float(value)} at step {step + 1}: lower --lr, set --clip 1 or --amp off."
        )
