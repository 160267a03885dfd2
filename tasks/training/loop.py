"""The training loop of all tasks: step, log, evaluate, save."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...datasets.dataset import Dataset
from ..task import Task
from .lr_finder import find_lr
from .options import Options
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
        UserError: invalid options, or a damaged sample (`SampleError` if reading it failed).
        KeyboardInterrupt: the run was interrupted, with the signal as argument; its state is saved.
    """
    threads = torch.get_num_threads()
    trainer = build_trainer(task, options or Options(), data, eval_data, options_by_name)
    with graceful_interrupt() as trainer.interruption, trainer.log.heartbeat():
        try:
            return find_lr(trainer) if trainer.options.find_lr else run_loop(trainer, on_step)
        finally:
            trainer.close()
            torch.set_num_threads(threads)


def run_loop(trainer: Trainer, on_step: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Run a trainer from its current step to the end and return the contents of result.json.

    If anything fails or a stop is requested, the state after the last complete step is saved first.
    """
    batches = trainer.data_loader()
    for line in (trainer.describe(), *trainer.notes):
        trainer.log.info(line)
    try:
        while True:
            # A resumed run may have been interrupted between a step and its evaluation.
            trainer.stop_if_requested()
            if trainer.should_evaluate():
                trainer.evaluate()
            if trainer.should_save():
                trainer.save()
            if trainer.finished:
                return trainer.finish()
            trainer.after_step(optimizer_step(trainer, trainer.step, batches, trainer.learning_rate()))
            if on_step is not None:
                call_back(trainer, on_step)
    except BaseException:
        trainer.save_after_failure()
        raise


def call_back(trainer: Trainer, on_step: Callable[[int], None]) -> None:
    """Call `on_step`; a KeyboardInterrupt that it raises requests to stop, as Ctrl-C does."""
    try:
        on_step(trainer.step)
    except KeyboardInterrupt:
        if not trainer.interruption():
            trainer.interruption.request()
