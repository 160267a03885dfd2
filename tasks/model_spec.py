"""Model spec: task, field types, and either backbone and head or the name of a complete model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backbones import create_backbone
from ..backbones.backbone import Preprocessing
from ..backbones.build import stored_options
from ..datasets.core.geometry import Size
from ..datasets.field_types import FieldType, fields_from_json, fields_to_json
from ..errors import UserError, unknown_name
from ..schema import create_dataclass
from . import task_class
from .checkpoint_header import REMEDY
from .network import Network
from .task import Task


@dataclass(frozen=True)
class ModelSpec:
    """Plain values from which a model is built, as a checkpoint header stores them.

    Attributes:
        task: the task, with its own options.
        fields: field types of its dataset; they give the number of joints, classes and channels.
        backbone: name of the backbone, None for a complete model.
        backbone_options: options of `create_backbone`: `levels`, and variants of the architecture (`stride_in`).
        head: name of the head, None for a complete model.
        model: name of the complete model, None for backbone and head.
    """

    task: Task
    fields: dict[str, FieldType]
    backbone: str | None = None
    backbone_options: dict[str, Any] = field(default_factory=dict)
    head: str | None = None
    model: str | None = None

    def build(self, weights: str | Path | None = None) -> Network:
        """Build the model, in float32 whatever torch's default type is.

        Args:
            weights: published name or file of the backbone's weights; None: random weights.

        Raises:
            UserError: an unknown name, or weights that do not fit.
        """
        return self._network(weights).float()

    def _network(self, weights: str | Path | None) -> Network:
        if self.model is not None:
            if self.model not in self.task.models:
                raise unknown_name(f"model of the task {self.task.name}", self.model, self.task.models)
            model = self.task.build(self.fields, None, None, self.model)
            if weights is not None:
                self._load_backbone(model, weights)
            return model
        if self.head is not None and not self.task.heads:
            raise UserError(f"The task {self.task.name} has no heads: the backbone's own classifier predicts.")
        if self.head not in (*self.task.heads, self.task.defaults.head):
            raise unknown_name(f"head of the task {self.task.name}", str(self.head), self.task.heads)
        options: dict[str, Any] = {**self.task.backbone_options(self.fields), **self.backbone_options}
        if self.head is not None:
            options["num_classes"] = 0
        backbone = create_backbone(str(self.backbone), weights, **options)
        return self.task.build(self.fields, backbone, self.head, None)

    def with_weights_options(self, model: Network) -> ModelSpec:
        """The spec with the options of the built backbone, which its weights file may have decided."""
        options = {**self.backbone_options, **(model.backbone.options if model.backbone else {})}
        return self if self.model else dataclasses.replace(self, backbone_options=options)

    def _load_backbone(self, model: Network, weights: str | Path) -> None:
        backbone = model.backbone
        if backbone is None:
            raise UserError(
                f"The model '{self.model}' has no backbone that --weights could initialize; use --init-from."
            )
        # A second backbone checks the metadata of the file; its tensors are copied.
        loaded = create_backbone(
            backbone.name, weights, num_classes=0, in_channels=backbone.in_channels, **backbone.options
        )
        backbone.load_state_dict(loaded.state_dict())
        backbone.preprocessing = loaded.preprocessing

    def to_json(self, model: Network) -> dict[str, Any]:
        """Plain data for a checkpoint header, including the backbone's preprocessing."""
        backbone = model.backbone
        return {
            "task": self.task.name,
            "task_options": dataclasses.asdict(self.task),  # type: ignore[call-overload]
            "fields": fields_to_json({**self.task.inputs(self.fields), **self.task.targets(self.fields)}),
            "backbone": self.backbone,
            "backbone_options": self.backbone_options,
            "head": self.head,
            "model": self.model,
            "preprocessing": None if backbone is None else backbone.preprocessing.to_json(),
        }

    @classmethod
    def from_json(
        cls, header: Mapping[str, Any], task_type: type[Task] | None = None, source: str = "The header"
    ) -> ModelSpec:
        """The spec that `to_json` wrote.

        Args:
            header: header of a checkpoint, as `read_header` returns it.
            task_type: class of the task, if it is not in the registry.
            source: what it is, to begin error messages.

        Raises:
            UserError: the header names an unknown task or field type, or options that these or the backbone do not
                take.
        """
        task_type = task_type or task_class(header["task"])
        backbone, options = header["backbone"], header["backbone_options"]
        return cls(
            create_dataclass(task_type, header["task_options"], f"{source}, in 'task_options',", REMEDY),
            fields_from_json(header["fields"], source),
            backbone,
            {} if backbone is None else stored_options(backbone, options, f"{source}, in 'backbone_options',"),
            header["head"],
            header["model"],
        )


@dataclass(frozen=True)
class ModelOrigin:
    """What a model carries beside its weights.

    Attributes:
        model_spec: the spec from which it was built.
        size: (height, width) of the images that it is trained on.
        provenance: origin of its initial weights, see `checkpoint.provenance`.
    """

    model_spec: ModelSpec
    size: Size
    provenance: dict[str, Any]


def require_model(model: Any) -> tuple[Network, ModelOrigin]:
    """A model and its origin, out of DistributedDataParallel or `torch.compile` if it is inside.

    Raises:
        UserError: it is no model of a task, or made by other code.
    """
    for wrapper in ("module", "_orig_mod"):
        model = getattr(model, wrapper, model)
    origin = getattr(model, "origin", None)
    if not isinstance(model, Network) or not isinstance(origin, ModelOrigin):
        raise UserError(
            f"A {type(model).__name__} is no model of a task: make it with densevision.create_model, or take "
            "densevision.load(...).model."
        )
    return model, origin


def restore_preprocessing(model: Network, header: Mapping[str, Any], source: str = "the checkpoint") -> None:
    """Set the preprocessing of a model's backbone from a checkpoint header.

    Raises:
        UserError: it is not that of as many channels, or cannot be read.
    """
    if header["preprocessing"] is not None and model.backbone is not None:
        preprocessing = Preprocessing.from_json(header["preprocessing"], source)
        if len(preprocessing.mean) != model.backbone.in_channels:
            raise UserError(
                f"The preprocessing of {source} is that of {len(preprocessing.mean)} channels, and the model reads "
                f"{model.backbone.in_channels}: {REMEDY}."
            )
        model.backbone.preprocessing = preprocessing
