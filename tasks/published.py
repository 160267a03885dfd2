"""Published weights as models of the tasks; `backbones/published.py` says what a layout is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backbones.backbone import Preprocessing
from ..backbones.published import Converted, build_converted
from ..datasets import open_dataset
from ..datasets.field_types import FieldType
from . import create_task
from .checkpoint import write_model
from .model_spec import ModelSpec
from .network import Network


@dataclass(frozen=True)
class ConvertedModel(Converted):
    """Weights of a task's model; `network` names the model, or the backbone if there is a `head`.

    Attributes:
        task: name of the task.
        task_options: its own options.
        fields: field types of its inputs and targets; None: those of its default dataset.
        size: height and width in training; None: that of the model's recipe.
        head: name of the head on the backbone `network`; None: `network` is a complete model.
        backbone_options: options of the backbone.
        preprocessing: of the backbone; None: that of the network.
    """

    task: str
    task_options: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, FieldType] | None = None
    size: tuple[int, int] | None = None
    head: str | None = None
    backbone_options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None

    @property
    def spec(self) -> ModelSpec:
        """What the checkpoint describes."""
        task = create_task(self.task, **self.task_options)
        fields = dict(open_dataset(task.defaults.data).fields if self.fields is None else self.fields)
        if self.head is None:
            return ModelSpec(task, fields, model=self.network)
        return ModelSpec(task, fields, self.network, dict(self.backbone_options), self.head)

    def build(self) -> Network:
        model = build_converted(self.spec.build, self.tensors, self.network, lambda model: model.published_module)
        if model.backbone is not None and self.preprocessing is not None:
            model.backbone.preprocessing = self.preprocessing
        return model.eval()

    def save(self, out: Path, source: str, terms: str) -> None:
        model, spec = self.build(), self.spec
        recipes = spec.task.recipes
        stated = next((recipe.image_size for recipe in recipes.values() if recipe.model == self.network), None)
        size = self.size or stated or recipes[spec.task.defaults.recipe].image_size or (224, 224)
        metadata = {
            "size": list(size),
            "step": 0,
            "data": {"name": spec.task.defaults.data, "title": source, "terms": terms},
            "backbone_weights": None,
            "init_from": None,
            "metrics": None,
        }
        write_model(out, model, spec.with_weights_options(model), metadata)
