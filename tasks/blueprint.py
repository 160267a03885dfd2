"""What it takes to build a network again: task, fields, and either trunk and head or a whole network's name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backbones import create_backbone
from ..backbones.backbone import Preprocessing
from ..datasets.fields import Kind, fields_from_json, fields_to_json
from ..errors import UserError, unknown_name
from . import task_class
from .task import Network, Task


@dataclass(frozen=True)
class Blueprint:
    """A network as plain facts, the way a checkpoint's header stores it.

    Attributes:
        task: with its own options.
        fields: of the data it was made for: joint counts, classes and channels come from their kinds.
        backbone: the trunk's name, None with a whole network.
        backbone_options: of `create_backbone`: `levels`, and what the trunk's paper leaves open (`stride_in`).
        head: the head's name, None with a whole network.
        network: the whole network's name, None with trunk and head.
    """

    task: Task
    fields: dict[str, Kind]
    backbone: str | None = None
    backbone_options: dict[str, Any] = field(default_factory=dict)
    head: str | None = None
    network: str | None = None

    def build(self, weights: str | Path | None = None) -> Network:
        """The network, its trunk from published or local weights where they are given.

        Raises:
            UserError: an unknown name, or weights that do not fit.
        """
        if self.network is not None:
            if self.network not in self.task.networks:
                raise unknown_name(f"network of the task {self.task.name}", self.network, self.task.networks)
            model = self.task.build(self.fields, None, None, self.network)
            if weights is not None:
                self._load_trunk(model, weights)
            return model
        if self.head is not None and not self.task.heads:
            raise UserError(f"The task {self.task.name} has no heads: the trunk's own classifier answers.")
        if self.head not in (self.task.heads or (None,)):
            raise unknown_name(f"head of the task {self.task.name}", str(self.head), self.task.heads)
        classes, channels = self.task.classes(self.fields), self.task.channels(self.fields)
        trunk = create_backbone(
            str(self.backbone), weights, classes=classes, in_channels=channels, **self.backbone_options
        )
        return self.task.build(self.fields, trunk, self.head, None)

    def settled(self, model: Network) -> Blueprint:
        """With what the trunk's weights file decided."""
        options = getattr(getattr(model, "backbone", None), "options", {})
        options = {**self.backbone_options, **options}
        return self if self.network else dataclasses.replace(self, backbone_options=options)

    def _load_trunk(self, model: Network, weights: str | Path) -> None:
        trunk = getattr(model, "backbone", None)
        if trunk is None:
            raise UserError(f"The network '{self.network}' has no trunk that --weights could fill; use --init.")
        # A second trunk takes the file's metadata through all its checks, and then lends its tensors.
        filled = create_backbone(trunk.name, weights, classes=0, in_channels=trunk.in_channels, **trunk.options)
        trunk.load_state_dict(filled.state_dict())
        trunk.preprocessing = filled.preprocessing

    def to_json(self, model: Network) -> dict[str, Any]:
        """Plain data for a header, the trunk's preprocessing included."""
        trunk = getattr(model, "backbone", None)
        return {
            "task": self.task.name,
            "task_options": dataclasses.asdict(self.task),  # type: ignore[call-overload]
            "fields": fields_to_json({**self.task.inputs(self.fields), **self.task.targets(self.fields)}),
            "backbone": self.backbone,
            "backbone_options": self.backbone_options,
            "head": self.head,
            "network": self.network,
            "preprocessing": None if trunk is None else trunk.preprocessing.to_json(),
        }

    @classmethod
    def from_json(cls, header: dict[str, Any], kind: type[Task] | None = None) -> Blueprint:
        """What `to_json` wrote.

        Args:
            header: a checkpoint's.
            kind: the task's class, where the catalogue does not hold it.

        Raises:
            UserError: no task has the header's name.
        """
        return cls(
            (kind or task_class(header["task"]))(**header["task_options"]),
            fields_from_json(header["fields"]),
            header["backbone"],
            header["backbone_options"],
            header["head"],
            header["network"],
        )


def take_preprocessing(model: Network, header: dict[str, Any]) -> None:
    """Feed a network's trunk as the weights of a header want to be fed."""
    if header["preprocessing"] is not None:
        model.backbone.preprocessing = Preprocessing.from_json(header["preprocessing"])  # type: ignore[union-attr]
