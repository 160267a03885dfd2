"""Models for code of one's own: `create_model` builds one for any training loop, `save_checkpoint` makes it a file that
`load`, the commands and others can use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..datasets.core.geometry import Size
from ..datasets.dataset import Dataset
from ..datasets.field_types import FieldType
from ..datasets.mixture import registry_name
from ..errors import UserError
from . import create_task
from .checkpoint import write_model
from .evaluation import Evaluation
from .model_spec import require_model
from .network import Network
from .own_data import default_fields
from .task import Task
from .training.options import Options
from .training.setup import build_model, resolve_options


def create_model(
    task: str | Task,
    *,
    backbone: str | None = None,
    backbone_levels: int | None = None,
    head: str | None = None,
    model: str | None = None,
    weights: str | Path | None = None,
    fields: Mapping[str, FieldType] | None = None,
    image_size: Size | None = None,
) -> Network:
    """Build the model that `train` with these options would train, for a loop of one's own.

    >>> model = create_model("depth", backbone="resnet18", weights="imagenet")  # doctest: +SKIP
    >>> model(torch.rand(2, 3, 224, 224)).shape  # doctest: +SKIP
    torch.Size([2, 1, 224, 224])

    It is an `nn.Module` that takes the inputs of the task in order, images as (B, C, H, W) in [0, 1]; its output is
    what `densevision.create_task(task).output_spec` says. Its `backbone` and `head` are modules too. The initial
    weights follow from `torch.manual_seed`.

    Args:
        task: name of a task, or a task with its own options.
        backbone: name of a backbone; None: that of the task's default recipe.
        backbone_levels: build only the first N levels of the backbone.
        head: name of a head of the task; None: that of the recipe.
        model: name of a complete model, instead of a backbone and a head.
        weights: weights of the backbone: "imagenet" or a file; None: random.
        fields: field types of the data (`dataset.fields`), which give the classes, joints and channels; None: those
            of the task's default dataset.
        image_size: (height, width) of the training images, to which images are resized for a prediction; None: that
            of the recipe.

    Raises:
        UserError: an unknown name, fields that the task cannot use, or weights that do not fit.
    """
    task = create_task(task) if isinstance(task, str) else task
    stated: dict[str, Any] = {
        "backbone": backbone,
        "backbone_levels": backbone_levels,
        "head": head,
        "model": model,
        "weights": None if weights is None else str(weights),
        "image_size": image_size,
    }
    options = resolve_options(task, Options.from_plain(stated, "create_model()")).validate()
    fields = default_fields(task) if fields is None else dict(fields)
    for name, field_type in fields.items():
        if not isinstance(field_type, FieldType):
            raise UserError(
                f"fields['{name}'] is a {type(field_type).__name__}; it must be a field type such as Image() "
                "of densevision.datasets.field_types."
            )
    task.inputs(fields)
    task.targets(fields)
    return build_model(task, fields, options)


def save_checkpoint(
    model: nn.Module,
    path: str | Path,
    *,
    data: Dataset | None = None,
    evaluation: Evaluation | None = None,
    step: int = 0,
) -> None:
    """Write a model that was trained in a loop of one's own as a checkpoint: `load`, `evaluate`, `predict` and `export`
    take it as one of `train`.

    Args:
        model: from `create_model`, or `load(...).model`; also inside DistributedDataParallel or `torch.compile`.
        path: the `.safetensors` file; an existing one is replaced atomically.
        data: the training dataset, whose title and terms the header states; None: not stated.
        evaluation: what `evaluate` returned, for the header; None: no metrics.
        step: number of optimizer steps, for the header.

    Raises:
        UserError: the model is none of those.
    """
    network, origin = require_model(model)
    metadata = {
        "size": list(origin.size),
        "step": step,
        "data": {"name": "own data", "title": "own data", "terms": "not stated"}
        if data is None
        else {"name": registry_name(data), "title": data.title, "terms": data.terms},
        **origin.provenance,
        "metrics": None if evaluation is None else evaluation.header(),
    }
    write_model(path, network, origin.model_spec, metadata)
