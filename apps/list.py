"""`densevision list`: the names that other commands take."""

from __future__ import annotations

from typing import Any, Literal

Kind = Literal["tasks", "backbones", "heads", "models", "recipes", "datasets"]
DEFAULT_FOR = {"": "", "synthetic images": " (default)", "real images": " (default for real images)"}


def names(what: Kind, /, *, json: bool = False) -> None:
    """List tasks, backbones, heads, models, recipes or datasets.

    Args:
        what: Kind of names to list.
        json: Print an array of JSON objects, for programs.
    """
    from ..atomic_io import json_text

    rows = entries(what)
    if json:
        print(json_text(rows, indent=2))
        return
    for row in rows:
        note = describe(row)
        print(f"{row['name']:16} {note}" if note else row["name"])


def entries(what: Kind) -> list[dict[str, Any]]:
    """What is listed, in order, as plain values by name."""
    from ..backbones import BACKBONES
    from ..datasets import DATASETS, dataset_class
    from ..tasks import TASKS, task_class
    from ..tasks.heads import HEADS

    tasks = {name: task_class(name) for name in sorted(TASKS)} if what not in ("backbones", "datasets") else {}
    match what:
        case "tasks":
            return [{"name": name, "title": task.title, "paper": task.paper} for name, task in tasks.items()]
        case "backbones":
            return [{"name": name} for name in (*sorted(BACKBONES), "timm:NAME")]
        case "heads":
            own = [{"name": head, "only_for": name} for name, task in tasks.items() for head in sorted(task.own_heads)]
            return [{"name": name, "only_for": None} for name in sorted(HEADS)] + own
        case "models":
            return [{"name": model, "task": name} for name, task in tasks.items() for model in sorted(task.models)]
        case "recipes":
            return [
                {"name": recipe, "task": name, "default_for": default_for(recipe, task)}
                for name, task in tasks.items()
                for recipe in task.recipes
            ]
        case "datasets":
            datasets = {name: dataset_class(name) for name in sorted(DATASETS)}
            return [{"name": name, "title": each.title, "terms": each.terms} for name, each in datasets.items()]


def default_for(recipe: str, task: Any) -> str:
    """The images for which a recipe is the default of its task; empty for none."""
    if recipe == task.defaults.recipe:
        return "synthetic images"
    return "real images" if recipe == task.defaults.photo_recipe else ""


def describe(row: dict[str, Any]) -> str:
    """What a line says after the name."""
    match row:
        case {"title": title, "paper": paper}:
            return f"{title} ({paper})"
        case {"title": title, "terms": terms}:
            return f"{title}; {terms}"
        case {"task": task, "default_for": default}:
            return f"{task}{DEFAULT_FOR[default]}"
        case {"only_for": str(task)}:
            return f"{task} only"
        case {"task": task}:
            return task
    return ""
