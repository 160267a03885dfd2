"""Task and metrics: the contract of every task.

The training loop, evaluation, inference, visualization, export and every command use a task through this interface
only. A task is a frozen dataclass; its fields are its own options, which a checkpoint stores and the command line
offers. What it says is one page: nine methods; what only few tasks need is in its policies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import numpy as np
from typing_extensions import TypeVar

from ..backbones.backbone import Backbone
from ..datasets.dataset import Dataset, Sample
from ..datasets.field_types import FieldType
from ..errors import UserError
from .network import Network, Phase
from .policies import AugmentationPolicy, EvaluationPolicy, InferencePolicy
from .prediction import OutputSpec, Prediction, PredictionContext
from .training.options import Options

FieldTypeT = TypeVar("FieldTypeT", bound=FieldType)
NetworkT = TypeVar("NetworkT", bound=Network, default=Any)
Table = list[dict[str, Any]]
"""Rows of equal columns."""


@dataclass(frozen=True)
class Defaults:
    """Dataset, backbone, head and recipe of `densevision train TASK`.

    Head None: the backbone's own classifier. Backbone None: the complete model that the recipe names.

    `recipe` is made for the synthetic dataset `data`; `photo_recipe`, if there is one, for real images: it is the
    default recipe for every dataset that is not synthetic.
    """

    data: str
    backbone: str | None
    head: str | None
    recipe: str
    photo_recipe: str | None = None


class Metrics(ABC):
    """Scores under one protocol, accumulated sample by sample and mergeable between processes."""

    @abstractmethod
    def update(self, prediction: Prediction, ground_truth: Sample) -> None:
        """Count one sample; prediction and ground truth are both in original pixels."""

    @abstractmethod
    def state(self) -> Any:
        """The accumulated sums as picklable data, for `merge` in another process."""

    @abstractmethod
    def merge(self, states: Iterable[Any]) -> None:
        """Replace the accumulated sums by the union of these states."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """All scores by name; nan if no sample was counted."""

    def tables(self, fields: dict[str, FieldType]) -> dict[str, Table]:
        """Tables beside the scores, by name, as rows by column: a confusion matrix, a row per joint or range.

        Args:
            fields: field types of the dataset, with the names of classes and joints.
        """
        return {}


class RowMetrics(Metrics):
    """Metrics that keep one row of values per counted sample; `update` appends to `rows`, and `compute` averages."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def state(self) -> list[Any]:
        return list(self.rows)

    def merge(self, states: Iterable[list[Any]]) -> None:
        self.rows = [row for state in states for row in state]


def confusion_tables(names: Sequence[str], counts: np.ndarray) -> dict[str, Table]:
    """A table of the classes (number, recall, precision, intersection over union) and the confusion matrix.

    Args:
        names: of the N classes.
        counts: (N, N) or (N, N + 1) numbers by ground truth (row) and prediction (column); the last column of the
            second form is for predictions that are no class.
    """
    right, labeled, predicted = np.diag(counts), counts.sum(axis=1), counts[:, : len(names)].sum(axis=0)
    with np.errstate(invalid="ignore"):
        recall, precision, iou = right / labeled, right / predicted, right / (labeled + predicted - right)
    columns = (*names, "no class")[: counts.shape[1]]
    classes = [
        {"class": name, "count": int(count), "recall": float(r), "precision": float(p), "iou": float(i)}
        for name, count, r, p, i in zip(names, labeled, recall, precision, iou, strict=True)
    ]
    confusion = [
        {"ground truth": name, **dict(zip(columns, row.tolist(), strict=True))}
        for name, row in zip(names, counts, strict=True)
    ]
    return {"classes": classes, "confusion": confusion}


@dataclass(frozen=True)
class MonitoredMetric:
    """The metric that decides which checkpoint is the best."""

    name: str
    higher_is_better: bool

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value is better than the best one so far (None: there is none); nan is worse than every number."""
        if value != value:
            return False
        return than is None or than != than or (value > than if self.higher_is_better else value < than)


class Task(ABC, Generic[NetworkT]):
    """What is predicted from what: data, model, losses, metrics and visualization of one task.

    It is generic in its networks: `class Flow(Task[FlowNetwork])`.

    Attributes:
        name, title, paper: registry name, title for lists, and main reference.
        defaults: dataset, backbone, head and recipe of `densevision train NAME`.
        heads: names of the heads that the task offers on any backbone, from `tasks.heads.HEADS` and `own_heads`. If
            `defaults.head` is None, the backbone's own classifier predicts without a head.
        own_heads: heads of this task alone, by name, as "module:attribute".
        models: complete models by name, as "module:attribute".
        recipes: training options of papers and defaults, by name.
        losses: names accepted by `--loss`, the default first.
        protocols: names accepted by `metrics`, the default first.
        monitor: metric that decides which checkpoint is the best.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    defaults: ClassVar[Defaults]
    heads: ClassVar[tuple[str, ...]] = ()
    own_heads: ClassVar[dict[str, str]] = {}
    models: ClassVar[dict[str, str]] = {}
    recipes: ClassVar[dict[str, Options]]
    losses: ClassVar[tuple[str, ...]]
    protocols: ClassVar[tuple[str, ...]]
    monitor: ClassVar[MonitoredMetric]

    @abstractmethod
    def inputs(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """The fields of a dataset that are inputs of the network, in the order of its arguments.

        Raises:
            UserError: the dataset lacks one.
        """

    @abstractmethod
    def targets(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """The fields of a dataset that are predicted.

        Raises:
            UserError: the dataset lacks one.
        """

    @abstractmethod
    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> NetworkT:
        """Build a network from a backbone and a head, or a complete model by name.

        The network is called with the inputs in order, images as (B, C, H, W) in [0, 1].
        """

    @abstractmethod
    def phases(self, model: NetworkT, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """The phases of a training step, in order; each has its own optimizer."""

    @abstractmethod
    def metrics(self, protocol: str) -> Metrics:
        """New metrics under a named protocol."""

    @abstractmethod
    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The prediction that needs no network, fitted on a training set (on at most a few hundred samples)."""

    @abstractmethod
    def output_spec(self, model: NetworkT, fields: dict[str, FieldType]) -> OutputSpec:
        """Channels, unit and layout of the raw output in the default input mode, for targets and exported files."""

    @abstractmethod
    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """Convert the raw output for one input, (1, ...), to a prediction in original pixels."""

    @abstractmethod
    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        """The targets of a sample as a prediction, for scoring and drawing."""

    def backbone_options(self, fields: dict[str, FieldType]) -> dict[str, int]:
        """Options of the backbone that the data decide.

        Returns:
            in_channels: those of the first input that is a map of pixels; flow may stack its two images. num_classes:
            classes of the backbone's own classifier; 0 for tasks that put a head on the backbone.
        """
        channels = (kind.input_channels for kind in self.inputs(fields).values() if kind.input_channels)
        return {"in_channels": next(channels, 0), "num_classes": 0}

    @property
    def augmentation(self) -> AugmentationPolicy:
        """How training samples are augmented."""
        return AugmentationPolicy()

    @property
    def inference(self) -> InferencePolicy:
        """How inputs are brought to the network, and its outputs merged."""
        return InferencePolicy()

    @property
    def evaluation(self) -> EvaluationPolicy:
        """How a dataset is scored."""
        return EvaluationPolicy(self.protocols)

    def require_field(self, fields: dict[str, FieldType], name: str, field_type: type[FieldTypeT]) -> FieldTypeT:
        """The field type of a field that the task cannot do without.

        Raises:
            UserError: the dataset has no such field, or one of another type; the message lists its fields.
        """
        field = fields.get(name)
        if not isinstance(field, field_type):
            available = ", ".join(f"{key} ({type(value).__name__})" for key, value in fields.items()) or "none"
            raise UserError(
                f"The task {self.name} needs a field '{name}' of type {field_type.__name__}; fields of the dataset: "
                f"{available}."
            )
        return field
