"""`densevision train TASK`: one command per task, with the options of every training and those of the task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

from cyclopts import App, Parameter

from ..tasks import list_tasks, task_class
from ..tasks.task import Task
from ..tasks.training.options import Options, ResolvedOptions

app = App(name="train", help="Train a model on synthetic data or your own dataset.")
FLAT = Parameter(name="*", negative_iterable=())
SET_BY_RUN = ("backbone_lr_factor", "resume", "find_lr", "overfit_one_batch", "compile", "freeze_backbone", "freeze_bn")
"""Options whose default depends on others, and switches that are off."""


def command_of(name: str) -> Callable[..., Any]:
    """The training command of a task, whose signature defines its options."""
    task = task_class(name)
    options_class = options_with_defaults(task)

    def with_task_options(*, options: Any = None, task: Any = None) -> None:
        run(task or task_class(name)(), options or Options())

    def without_task_options(*, options: Any = None) -> None:
        run(task(), options or Options())

    command = with_task_options if dataclasses.fields(task) else without_task_options  # type: ignore[arg-type]
    command.__annotations__ = {
        "options": Annotated[options_class | None, FLAT],
        "task": Annotated[task | None, FLAT],
    }
    command.__doc__ = f"{task.title}. {task.paper}."
    return command


def options_with_defaults(task: type[Task]) -> type[Options]:
    """`Options` whose help prints the defaults of a task's training: of its default recipe, else the general ones.

    The values stay None, so that a recipe chosen by the user takes precedence.
    """
    base = {field.name: field.default for field in dataclasses.fields(ResolvedOptions)}
    recipe, photo_recipe = task.recipes[task.defaults.recipe], task.defaults.photo_recipe
    defaults = dataclasses.asdict(task.defaults)
    if photo_recipe is not None:
        defaults["recipe"] += f"; {photo_recipe} for real images"
    displayed = {**base, **defaults, "loss": task.losses[0], **recipe.explicit()}
    hints = get_type_hints(Options)
    annotations = {
        name: Annotated[
            hints[name],
            Parameter(show_default=lambda _, value=value: text(value), consume_multiple=name == "milestones"),
        ]
        for name, value in displayed.items()
        if name in hints and value is not None and name not in SET_BY_RUN
    }
    values = {"__annotations__": annotations, "__module__": Options.__module__, **dict.fromkeys(annotations)}
    return dataclasses.dataclass(frozen=True)(type("Options", (Options,), values))


def text(value: Any) -> str:
    """A default value as on the command line."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def run(task: Task, options: Options) -> None:
    from ..tasks.training.loop import train

    train(task, Options(**options.explicit()))


for _name in list_tasks():
    app.command(command_of(_name), name=_name)
