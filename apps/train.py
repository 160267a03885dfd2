"""`densevision train TASK`: one command per task, with the options of every training and those of the task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

from cyclopts import App, Parameter

from ..tasks import list_tasks, task_class
from ..tasks.distributed import ProcessGroup
from ..tasks.task import Task
from ..tasks.training.options import DEFAULTS, Options
from ..tasks.training.setup import resolve_options, train

app = App(name="train", help="Train a model on synthetic data or your own dataset.")
FLAT = Parameter(name="*", negative_iterable=())


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
    """`Options` whose help prints the values of a task's default recipe.

    The values stay None, so that a recipe chosen by the user takes precedence.
    """
    displayed = {"gamma": DEFAULTS.gamma, "milestones": DEFAULTS.milestones}
    displayed |= resolve_options(task(), Options()).explicit()
    if task.defaults.photo_recipe is not None:
        displayed["recipe"] += f"; {task.defaults.photo_recipe} for real images"
    # The default of this option depends on --weights; its help says how.
    del displayed["backbone_lr_factor"]
    annotations = {}
    for name, hint in get_type_hints(Options).items():
        value = displayed.get(name)
        default = text(value) if value is not None and value is not False else False
        parameter = Parameter(
            show_default=(lambda _, value=default: value) if default else False, consume_multiple=name == "milestones"
        )
        annotations[name] = Annotated[hint | None, parameter]
    values = {"__annotations__": annotations, "__module__": Options.__module__, **dict.fromkeys(annotations)}
    return dataclasses.dataclass(frozen=True)(type("Options", (Options,), values))


def text(value: Any) -> str:
    """A value as on the command line."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def run(task: Task, options: Options) -> None:
    result = train(task, Options(**options.explicit()))
    if options.dry_run and ProcessGroup.from_environment().rank == 0:
        height, width = result["options"]["image_size"]
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in result["batch"].items())
        print(f"Options: {Options(**result['options']).command_line()}")
        print(
            f"Model: {result['parameters']:,} parameters; for one image of {height}x{width}, "
            f"{result['multiply_adds']:,} multiply-adds and {result['memory_per_image'] / 2**20:.1f} MiB of activations"
        )
        print(f"Batch: {shapes}")


for _name in list_tasks():
    app.command(command_of(_name), name=_name)
