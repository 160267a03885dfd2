"""Registry of tasks: one subpackage per task, with the same modules in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..registry import lookup

if TYPE_CHECKING:
    from .task import Task

TASKS: dict[str, str] = {
    "classification": "tasks.classification:Classification",
    "colorization": "tasks.colorization:Colorization",
    "depth": "tasks.depth:Depth",
    "flow": "tasks.flow:Flow",
    "hand_pose": "tasks.hand_pose:HandPose",
    "memorability": "tasks.memorability:Memorability",
    "pose": "tasks.pose:HumanPose",
    "restoration": "tasks.restoration:Restoration",
    "translation": "tasks.translation:Translation",
    "video": "tasks.video:Video",
    "view_synthesis": "tasks.view_synthesis:ViewSynthesis",
}


def list_tasks() -> list[str]:
    """Names of all tasks, sorted."""
    return sorted(TASKS)


def task_class(name: str) -> type[Task]:
    """The class of a task by name.

    Raises:
        UserError: no task has this name.
    """
    return lookup("task", name, TASKS)


def create_task(name: str, **options: Any) -> Task:
    """Create a task by name.

    Args:
        name: one of `list_tasks()`.
        options: the task's own options, where they differ from their defaults.

    Raises:
        UserError: no task has this name.
    """
    return task_class(name)(**options)


__all__ = ["TASKS", "create_task", "list_tasks", "task_class"]
