"""`densevision list`: the names that other commands take."""

from __future__ import annotations

from typing import Literal


def names(what: Literal["tasks", "backbones", "heads", "models", "recipes", "datasets"], /) -> None:
    """List tasks, backbones, heads, models, recipes or datasets.

    Args:
        what: Kind of names to list.
    """
    from ..backbones import BACKBONES
    from ..datasets import DATASETS, dataset_class
    from ..tasks import TASKS, task_class
    from ..tasks.heads import HEADS

    match what:
        case "tasks":
            for name in sorted(TASKS):
                task = task_class(name)
                print(f"{name:16} {task.title} ({task.paper})")
        case "backbones":
            print("\n".join(sorted(BACKBONES)))
            print("timm:NAME")
        case "heads":
            print("\n".join(sorted(HEADS)))
            for name in sorted(TASKS):
                for head in sorted(task_class(name).own_heads):
                    print(f"{head:16} {name} only")
        case "models":
            for name in sorted(TASKS):
                for model in sorted(task_class(name).models):
                    print(f"{model:16} {name}")
        case "recipes":
            for name in sorted(TASKS):
                task = task_class(name)
                notes = {task.defaults.photo_recipe: " (default for real images)", task.defaults.recipe: " (default)"}
                for recipe in task.recipes:
                    print(f"{recipe:16} {name}{notes.get(recipe, '')}")
        case "datasets":
            for name in sorted(DATASETS):
                dataset = dataset_class(name)
                print(f"{name:16} {dataset.title}; {dataset.terms}")
