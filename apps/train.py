"""`densevision train TASK`: one command per task, with the options of every training and those of the task."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from cyclopts import App, Parameter

from ..tasks import TASKS, list_tasks, task_class
from ..tasks.distributed import ProcessGroup
from ..tasks.training.options import DEFAULTS, Options

if TYPE_CHECKING:
    from ..tasks.task import Task

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
    from ..tasks.training.setup import resolve_options

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
    from ..tasks.training.setup import train

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


def __getattr__(name: str) -> Callable[..., Any]:
    """The training command of a task, which imports it."""
    if name in TASKS:
        return command_of(name)
    raise AttributeError(name)


def module_title(module: str) -> str:
    """First line of a module's docstring. The module is not imported, so that the list of commands is fast."""
    spec = importlib.util.find_spec(module, __package__)
    assert spec is not None and spec.origin is not None
    return (ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or "").partition("\n")[0]


for _name in list_tasks():
    app.command(f"{__name__}:{_name}", name=_name, help=module_title(f"..{TASKS[_name].partition(':')[0]}"))
