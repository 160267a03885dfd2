"""densevision: PyTorch classification backbones with heads for dense prediction.

Importing the package imports neither torch nor any other heavy dependency.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import VERSION as __version__

if TYPE_CHECKING:
    from . import visualize
    from .backbones import create_backbone, list_backbones
    from .datasets import list_datasets, open_dataset
    from .datasets.mixture import mix
    from .tasks import create_task, list_tasks
    from .tasks.evaluation import evaluate
    from .tasks.inference import load
    from .tasks.models import create_model, save_checkpoint
    from .tasks.training.setup import train

_WHERE = {
    "create_backbone": "backbones",
    "list_backbones": "backbones",
    "list_datasets": "datasets",
    "open_dataset": "datasets",
    "mix": "datasets.mixture",
    "create_task": "tasks",
    "list_tasks": "tasks",
    "evaluate": "tasks.evaluation",
    "load": "tasks.inference",
    "create_model": "tasks.models",
    "save_checkpoint": "tasks.models",
    "train": "tasks.training.setup",
}

__all__ = [
    "__version__",
    "create_backbone",
    "create_model",
    "create_task",
    "evaluate",
    "list_backbones",
    "list_datasets",
    "list_tasks",
    "load",
    "mix",
    "open_dataset",
    "save_checkpoint",
    "train",
    "visualize",
]


def __getattr__(name: str) -> Any:
    if name == "visualize":
        return importlib.import_module(".visualize", __name__)
    if name in _WHERE:
        return getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    raise AttributeError(f"densevision has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
