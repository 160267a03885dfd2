"""Callbacks: what is called at the events of a run, and loggers to Weights & Biases and MLflow.

TensorBoard needs none: every run writes its events to the run folder (`tensorboard --logdir runs`).
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError

if TYPE_CHECKING:
    from .trainer import Trainer

EVENTS = ("on_step", "on_evaluate", "on_save", "on_exception", "on_finish")


class Callback:
    """What is called at the events of a run; a subclass overrides what it needs. Any object with such methods will do.

    `run` is the trainer: `run.step`, `run.steps`, `run.options`, `run.folder`, `run.model`, `run.main` (whether this is
    the process that writes files), and `run.stop(reason)`, which ends the run after the current step with an evaluation
    and its result; it can be resumed. An exception ends the run and is passed on; a KeyboardInterrupt saves the state,
    as Ctrl-C does.
    """

    def on_step(self, run: Trainer, terms: dict[str, float]) -> None:
        """After every optimizer step, with its loss terms."""

    def on_evaluate(self, run: Trainer, metrics: dict[str, float]) -> None:
        """After every evaluation, with its scores."""

    def on_save(self, run: Trainer, path: Path) -> None:
        """After a checkpoint is written: best.safetensors, last/checkpoint.safetensors, or one in best/ or steps/."""

    def on_exception(self, run: Trainer, error: BaseException) -> None:
        """When the run ends by an error or an interruption; the state is saved."""

    def on_finish(self, run: Trainer, result: dict[str, Any]) -> None:
        """At the end, with the contents of result.json."""


class Logger(Callback):
    """Base of loggers: losses and the learning rate every --log-every steps, scores at evaluations."""

    def on_step(self, run: Trainer, terms: dict[str, float]) -> None:
        if run.step % run.options.log_every == 0:
            self.log(run, "train", {**terms, "lr": run.learning_rate()})

    def on_evaluate(self, run: Trainer, metrics: dict[str, float]) -> None:
        self.log(run, "eval", metrics)

    def log(self, run: Trainer, kind: str, values: dict[str, float]) -> None:
        """Log values by name at the current step, `kind` being train or eval."""
        raise NotImplementedError


class WandB(Logger):
    """Log a run to Weights & Biases: losses, learning rate and scores by step, options as the configuration.

    Args:
        project: project of Weights & Biases.
        options: further arguments of `wandb.init`.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, project: str = "densevision", **options: Any) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports] - optional
        except ImportError as error:
            raise _missing("wandb") from error
        self.wandb: Any = wandb
        self.options: dict[str, Any] = {"project": project, **options}
        self.logged: Any = None

    def log(self, run: Trainer, kind: str, values: dict[str, float]) -> None:
        if run.main:
            if self.logged is None:
                own = {"name": run.folder.name, "dir": str(run.folder), **self.options}
                self.logged = self.wandb.init(config=_plain_options(run), **own)
            self.logged.log({f"{kind}/{name}": value for name, value in values.items()}, step=run.step)

    def on_exception(self, run: Trainer, error: BaseException) -> None:
        if self.logged is not None:
            self.logged.finish(exit_code=1)

    def on_finish(self, run: Trainer, result: dict[str, Any]) -> None:
        if self.logged is not None:
            self.logged.summary.update({f"best/{name}": value for name, value in (result["best"] or {}).items()})
            self.logged.finish()


class MLflow(Logger):
    """Log a run to MLflow: losses, learning rate and scores by step, options as parameters.

    Args:
        experiment: experiment of MLflow.
        options: further arguments of `mlflow.start_run`.

    Raises:
        UserError: mlflow is not installed.
    """

    def __init__(self, experiment: str = "densevision", **options: Any) -> None:
        try:
            import mlflow  # pyright: ignore[reportMissingImports] - optional
        except ImportError as error:
            raise _missing("mlflow") from error
        self.mlflow: Any = mlflow
        self.experiment, self.options, self.started = experiment, options, False

    def log(self, run: Trainer, kind: str, values: dict[str, float]) -> None:
        if run.main:
            if not self.started:
                self.mlflow.set_experiment(self.experiment)
                self.mlflow.start_run(**{"run_name": run.folder.name, **self.options})
                self.mlflow.log_params(_plain_options(run))
                self.started = True
            self.mlflow.log_metrics({f"{kind}/{name}": value for name, value in values.items()}, step=run.step)

    def on_exception(self, run: Trainer, error: BaseException) -> None:
        if self.started:
            self.mlflow.end_run(status="FAILED")

    def on_finish(self, run: Trainer, result: dict[str, Any]) -> None:
        if self.started:
            self.mlflow.end_run()


def require_callbacks(callbacks: Any) -> list[Any]:
    """Check that callbacks are objects with at least one event."""
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise UserError(f"callbacks is a {type(callbacks).__name__}; it must be a list of callbacks.")
    for callback in callbacks:
        if isinstance(callback, type):
            raise UserError(f"A callback is the class {callback.__name__}; give an instance: {callback.__name__}(...).")
        if not any(callable(getattr(callback, event, None)) for event in EVENTS):
            raise UserError(
                f"A callback is a {type(callback).__name__} without any of the methods {', '.join(EVENTS)}; derive it "
                "from densevision.tasks.training.callbacks.Callback."
            )
    return list(callbacks)


def _missing(name: str) -> UserError:
    return UserError(f"{name} is not installed; install it with: pip install 'densevision[{name}]'")


def _plain_options(run: Trainer) -> dict[str, Any]:
    """The options of a run as plain values, for a logger."""
    options = {"task": run.task.name, **run.resolved_options().explicit()}
    return {name: value if isinstance(value, (numbers.Number, str)) else str(value) for name, value in options.items()}
