"""`densevision train TASK`: one command per task, each with the options of every training and the task's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import App, Parameter

from ..tasks import list_tasks, task_class
from ..tasks.training.options import Options

app = App(
    name="train",
    help="Train a task: on its world, or on your data with --data depth-folders --root DIR (densevision list data).",
)
FLAT = Parameter(name="*", negative_iterable=())


def command_of(name: str) -> Callable[..., Any]:
    """The training command of a task: its signature is what the command line offers."""
    task = task_class(name)

    def with_own_options(*, options: Any = None, task: Any = None) -> None:
        run(task or task_class(name)(), options or Options())

    def without(*, options: Any = None) -> None:
        run(task(), options or Options())

    command = with_own_options if dataclasses.fields(task) else without  # type: ignore[arg-type]
    command.__annotations__ = {"options": Annotated[Options | None, FLAT], "task": Annotated[task | None, FLAT]}
    command.__doc__ = f"{task.title}. {task.paper}."
    return command


def run(task: Any, options: Options) -> None:
    """Train and say where the run lies."""
    from ..tasks.training.loop import train

    train(task, options)


for _name in list_tasks():
    app.command(command_of(_name), name=_name)
