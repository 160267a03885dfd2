"""The training loop of all tasks: step, log, evaluate, save."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...datasets.dataset import Dataset
from ..task import Task
from .lr_finder import find_lr
from .options import Options
from .schedules import learning_rate
from .setup import Trainer, build_trainer
from .signals import graceful_interrupt
from .step import optimizer_step


def train(
    task: str | Task,
    options: Options | None = None,
    *,
    data: Dataset | str | None = None,
    eval_data: Dataset | str | None = None,
    on_step: Callable[[int], None] | None = None,
    **options_by_name: Any,
) -> dict[str, Any]:
    """Train a model.

    >>> train("depth", data=my_dataset, steps=1000, out="runs/mine")  # doctest: +SKIP

    Args:
        task: name of a task, or a task with its own options.
        options: training options; missing ones come from the recipe, then from `ResolvedOptions`.
        data: training dataset by name, or the training split as a `Dataset` object.
        eval_data: evaluation dataset in the same way; required if `data` is an object.
        on_step: called after every optimizer step with the number of steps done.
        options_by_name: options by name; they override `options`.

    Returns:
        The contents of result.json in the run folder; with `find_lr`, those of find-lr.json.

    Raises:
        UserError: invalid options.
        KeyboardInterrupt: the run was interrupted; its state is saved.
    """
    threads = torch.get_num_threads()
    trainer = build_trainer(task, options or Options(), data, eval_data, options_by_name)
    with graceful_interrupt() as stop:
        try:
            return find_lr(trainer) if trainer.options.find_lr else run_loop(trainer, stop, on_step)
        finally:
            trainer.log.close()
            torch.set_num_threads(threads)


def run_loop(trainer: Trainer, stop: Callable[[], bool], on_step: Callable[[int], None] | None) -> dict[str, Any]:
    """Run a trainer from its current step to the end and return the contents of result.json."""
    options, batches = trainer.options, iter(trainer.data_loader())
    trainer.log.info(trainer.describe())
    if trainer.out_of_patience:
        return trainer.finish()
    for step in range(trainer.step, trainer.steps):
        lr = options.lr * learning_rate(
            options.schedule, step, trainer.steps, options.warmup_steps, options.milestones, options.gamma
        )
        trainer.after_step(optimizer_step(trainer, step, batches, lr))
        if on_step is not None:
            on_step(trainer.step)
        interrupted, finished = trainer.any_rank(stop()), trainer.step == trainer.steps
        if trainer.step % options.log_every == 0 or finished:
            trainer.log_step()
        if trainer.should_evaluate():
            finished = trainer.evaluate() or finished
        if trainer.step % options.save_every == 0 or finished or interrupted:
            trainer.save()
        if finished:
            break
        if interrupted:
            trainer.log.info(f"Stopped after step {trainer.step}. Resume with: {trainer.resume_command()}")
            raise KeyboardInterrupt
    return trainer.finish()
