"""The training loop: for batch in stream, for phase in phases, log, evaluate, save. Every task uses this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...datasets.dataset import Dataset
from ..task import Task
from .assembly import Run, assemble
from .interruption import stop_politely
from .options import Options
from .rate_test import test_rates
from .schedules import learning_rate
from .stepper import optimizer_step


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
        What stands in the run folder's result.json; with `find_lr`, what stands in its find-lr.json.

    Raises:
        UserError: a choice that cannot be.
        KeyboardInterrupt: the run was stopped; its state is saved.
    """
    threads = torch.get_num_threads()
    run = assemble(task, options or Options(), data, eval_data, stated)
    with stop_politely() as stop:
        try:
            return test_rates(run) if run.options.find_lr else follow(run, stop, on_step)
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
        rate = options.lr * learning_rate(options.schedule, step, run.steps, options.warmup)
        run.advance(optimizer_step(run, step, batches, rate))
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
