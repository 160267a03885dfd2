"""What networks are asked. One folder a task, the same rooms in each; this page is their catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..catalogue import look_up

if TYPE_CHECKING:
    from .task import Task

TASKS: dict[str, str] = {
    "classification": "tasks.classification:Classification",
    "colorization": "tasks.colorization:Colorization",
    "depth": "tasks.depth:Depth",
    "flow": "tasks.flow:Flow",
    "pose": "tasks.pose:HumanPose",
    "restoration": "tasks.restoration:Restoration",
    "translation": "tasks.translation:Translation",
}


def list_tasks() -> list[str]:
    """The names that `create_task` knows."""
    return sorted(TASKS)


def task_class(name: str) -> type[Task]:
    """The class of a task.

    Raises:
        UserError: no task has this name.
    """
    return look_up("task", name, TASKS)


def create_task(name: str, **options: Any) -> Task:
    """A task by name, with its own options where they differ from the default.

    Raises:
        UserError: no task has this name.
    """
    return task_class(name)(**options)


__all__ = ["TASKS", "create_task", "list_tasks", "task_class"]
