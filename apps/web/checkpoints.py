"""Checkpoints that users of the web demo can choose from, loaded at first use and shared by all clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...datasets.field_types import FieldType, Image
from ...tasks import list_tasks
from ...tasks.checkpoint import read_header
from ...tasks.inference import PACKAGED_CHECKPOINTS, Predictor, load
from ...tasks.model_spec import ModelSpec
from ...tasks.task import Task
from ..predict import license_notes

if TYPE_CHECKING:
    from ...visualize.core.model import InspectedModel

INFERENCE_LOCK = threading.Lock()
"""Held while a model runs. Models share torch's global random generator, visualization changes a model's modes
temporarily, and two models at once on the same cores are not faster."""


class CheckpointEntry:
    """A checkpoint in the list of the web demo.

    Attributes:
        name: name in the list, unique within the task.
        task, fields, header: task, field types and header of the checkpoint.
    """

    def __init__(
        self,
        name: str,
        task: Task,
        fields: dict[str, FieldType],
        header: dict[str, Any],
        load_predictor: Callable[[], Predictor],
    ) -> None:
        self.name, self.task, self.fields, self.header = name, task, fields, header
        self._load_predictor = load_predictor
        self._predictor: Predictor | None = None
        self._inspected_model: InspectedModel | None = None

    @property
    def inputs(self) -> dict[str, FieldType]:
        """Field types of the model's inputs, by name."""
        return self.task.inputs(self.fields)

    @property
    def reads_scenes(self) -> bool:
        """Whether an input is a scene, photos with cameras, which a page cannot upload."""
        return self.task.inference.reads_scenes

    @property
    def accepts_camera(self) -> bool:
        """Whether the inputs can come from a camera, which label maps and depth cannot."""
        return all(isinstance(field_type, Image) for field_type in self.inputs.values())

    @property
    def terms(self) -> list[str]:
        """License terms of the weights, one sentence each."""
        return license_notes(self.header)

    def predictor(self) -> Predictor:
        """The model, loaded at the first call. Call this method and use the model while holding `INFERENCE_LOCK`."""
        self._predictor = self._predictor or self._load_predictor()
        return self._predictor

    def inspected_model(self) -> InspectedModel:
        """The same model, prepared for visualization; hold `INFERENCE_LOCK` as for `predictor`."""
        from ...visualize.core.model import inspect_predictor

        self._inspected_model = self._inspected_model or inspect_predictor(self.predictor(), self.name)
        return self._inspected_model


def checkpoint_entries(extra: Sequence[str], device: str, amp: str) -> dict[str, list[CheckpointEntry]]:
    """The checkpoints of each task: the packaged ones, then the additional ones, for which see `load`.

    These are loaded at once, so that errors appear at the start.

    Raises:
        UserError: a missing or damaged file.
    """
    entries: dict[str, list[CheckpointEntry]] = {task: [] for task in list_tasks()}
    for task, of_task in entries.items():
        for path in sorted((PACKAGED_CHECKPOINTS / task / "weights").glob("*.safetensors")):
            header = read_header(path)
            spec = ModelSpec.from_json(header)
            of_task.append(
                CheckpointEntry(path.stem, spec.task, spec.fields, header, lambda path=path: load(path, device, amp))
            )
    for source in extra:
        predictor = load(source, device, amp)
        of_task = entries[predictor.task.name]
        stem = Path(source).stem if Path(source).suffix else source.strip("/")
        name = _unique_name(stem, [entry.name for entry in of_task])
        of_task.append(
            CheckpointEntry(
                name, predictor.task, predictor.fields, predictor.header, lambda predictor=predictor: predictor
            )
        )
    return entries


def _unique_name(name: str, existing: list[str]) -> str:
    number, unique = 2, name
    while unique in existing:
        number, unique = number + 1, f"{name} ({number})"
    return unique
