"""The contract of a task: what goes in, what is asked for, what answers, and how an answer is judged.

The training loop, evaluation, inference and every command speak to this page only. A task is a frozen dataclass
whose fields are its own options, so that a checkpoint can store it and the command line can offer it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from torch import Tensor, nn

from ..backbones.backbone import Backbone
from ..datasets.augmentation import Augmentation
from ..datasets.dataset import Dataset, Sample
from ..datasets.fields import Kind
from ..datasets.geometry import Geometry, Rectangle, Size, Window, fitting_size, plain_resize
from ..errors import UserError
from .training.options import Options

AKind = TypeVar("AKind", bound=Kind)
Batch = dict[str, Tensor]
Terms = dict[str, Tensor]
"""A loss's named terms, scalars; the loop sums them and logs each."""


@dataclass(frozen=True)
class Default:
    """What `densevision train TASK` does when nothing else is said; no head where the trunk's classifier answers."""

    data: str
    backbone: str
    head: str | None
    recipe: str


class Network(nn.Module):
    """What inference needs to know of a network that a task builds.

    Attributes:
        takes: "tiled" where tiles of a picture give what the whole gives (fully convolutional); "whole" where they do
            not; "exact" where a picture must come as the task's `shown` made it, and the answer is no map.
        stride: of its coarsest level; inputs are padded to multiples of it, unless `takes` is "exact".
        published: the part of it that files of published weights hold; usually all of it.
    """

    takes: Literal["tiled", "whole", "exact"]
    stride: int

    @property
    def published(self) -> nn.Module:
        return self


@dataclass(frozen=True)
class Phase:
    """One optimizer's share of a step. Most tasks have one phase, an adversarial one has two.

    Attributes:
        name: for the log.
        module: whose parameters this phase updates; no other parameter receives a gradient.
        loss: (batch, made) to named terms. `made` is a dict per batch, in which an earlier phase leaves what a
            later one reuses, so that nothing is computed twice.
    """

    name: str
    module: nn.Module
    loss: Callable[[Batch, dict[str, Any]], Terms]


@dataclass(frozen=True)
class Query:
    """What was asked of a network, for turning its output back into answers about the original picture.

    Attributes:
        inputs: the original inputs by field name, as the caller gave them (pictures (H, W, C)).
        fields: the kinds of the data the network was made for: their names, skeletons and channels.
        size: original (height, width).
        matrix: (3, 3) from original pixels to the network's output pixels, of the first view.
        corner: (x, y) of the inputs in the picture that they are a part of, for answers that name places; None: they
            are whole pictures.
        note: what the task's `sought` says of the part, where nobody named one.
    """

    inputs: Sample
    fields: dict[str, Kind]
    size: Size
    matrix: np.ndarray
    corner: tuple[int, int] | None = None
    note: str = ""


@dataclass(frozen=True)
class Output:
    """What the numbers of a network mean, for programs that read them without this package.

    Attributes:
        channels: the name of each, along the second axis of (B, C, ...).
        unit: in which they are; and where they lie, if that is not on the pixels of the input.
    """

    channels: tuple[str, ...]
    unit: str


class Prediction(ABC):
    """A typed answer that says its unit."""

    unit: ClassVar[str]

    @abstractmethod
    def picture(self, like: Prediction | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB for eyes, in the range of `like` where one is given."""

    def brief(self) -> str:
        """The answer in a few words, for a line of output."""
        return f"in {self.unit}"

    @abstractmethod
    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write the data other programs read and the picture; returns the files."""


class Metrics(ABC):
    """Scores under one protocol, gathered sample by sample."""

    @abstractmethod
    def update(self, prediction: Prediction, truth: Sample) -> None:
        """Count one sample; both in original pixels."""

    @abstractmethod
    def state(self) -> Any:
        """What was counted, picklable, to be merged with other processes'."""

    @abstractmethod
    def merge(self, states: Iterable[Any]) -> None:
        """Replace what was counted by the union of these states."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Every score by name. nan where no sample counted."""


@dataclass(frozen=True)
class Watch:
    """The score by which the best checkpoint is chosen."""

    name: str
    higher_is_better: bool

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value beats the best so far; nan never does."""
        if value != value:
            return False
        return than is None or (value > than if self.higher_is_better else value < than)


class Task(ABC):
    """What a network is asked, from the fields of a data set to a typed answer.

    Attributes:
        title, paper: for lists and cards.
        default: data, backbone, head and recipe of `densevision train NAME`.
        heads: names that this task offers on any trunk, of `tasks.heads.HEADS` and of its own; none where the trunk's
            own classifier answers.
        own_heads: heads that no other task could use, by name, "module:attribute" as in every catalogue.
        networks: whole networks by name, "module:attribute" as in every catalogue.
        recipes: what the papers' appendices say, by name.
        losses: names that `--loss` takes, the usual one first.
        protocols: names that `metrics` takes, the usual one first.
        watch: the score that decides which checkpoint is best.
        views: names of the ways in which `shown` shows a picture to the network, the usual one first. "fit": at the
            training size, the answer resized (for tasks that need to see the whole); "native": at the picture's own
            size, tiled when large (for tasks that look closely).
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    default: ClassVar[Default]
    heads: ClassVar[tuple[str, ...]] = ()
    own_heads: ClassVar[dict[str, str]] = {}
    networks: ClassVar[dict[str, str]] = {}
    recipes: ClassVar[dict[str, Options]]
    losses: ClassVar[tuple[str, ...]]
    protocols: ClassVar[tuple[str, ...]]
    watch: ClassVar[Watch]
    views: ClassVar[tuple[str, ...]] = ("fit", "native")

    def field(self, fields: dict[str, Kind], name: str, kind: type[AKind]) -> AKind:
        """The field of a name, which has to be of a kind.

        Raises:
            UserError: the set lacks it, with what it holds instead.
        """
        found = fields.get(name)
        if not isinstance(found, kind):
            held = ", ".join(f"{key} ({type(value).__name__})" for key, value in fields.items()) or "nothing"
            raise UserError(
                f"The task {self.name} needs a field '{name}' of kind {kind.__name__}; the data set: {held}."
            )
        return found

    @abstractmethod
    def inputs(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """Which of a data set's fields go into the network, in the order of its arguments.

        Raises:
            UserError: the set lacks one.
        """

    @abstractmethod
    def targets(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """Which of a data set's fields are asked for.

        Raises:
            UserError: the set lacks one.
        """

    def augmentation(self, usual: Augmentation, fields: dict[str, Kind], source: Size) -> Augmentation:
        """What the training's geometry may draw for a picture of this (height, width).

        Restoration does not resize what came degraded: rain, grain and blocks have a size in pixels.

        Args:
            usual: what the run's options say.
            fields: of the data set.
            source: (height, width) of the picture.
        """
        return usual

    def prepare(self, sample: Sample, rng: np.random.Generator | None, colour: float) -> Sample:
        """In the worker, after the geometry: photometry on what it may touch, and whatever the loss needs made.

        Args:
            sample: the inputs and targets at network size.
            rng: this sample's stream; None in evaluation, where nothing is drawn.
            colour: strength of the photometric augmentation, 0 (none) to 1.
        """
        return sample

    def prepared(self, fields: dict[str, Kind]) -> dict[str, Kind]:
        """The kinds of what `prepare` returns, for batching."""
        return {**self.inputs(fields), **self.targets(fields)}

    def classes(self, fields: dict[str, Kind]) -> int:
        """How many classes the trunk's own classifier has; 0 for every task that puts a head on the trunk instead."""
        return 0

    def channels(self, fields: dict[str, Kind]) -> int:
        """Channels of what goes into the trunk: the first input's. Flow may stack its two pictures."""
        return getattr(next(iter(self.inputs(fields).values())), "channels", 3)

    @abstractmethod
    def build(
        self, fields: dict[str, Kind], backbone: Backbone | None, head: str | None, network: str | None
    ) -> Network:
        """Trunk and head, or a whole network by name. Called with the inputs in order, pictures in [0, 1]."""

    def fit(self, model: Network, dataset: Dataset) -> None:  # noqa: B027 - most tasks have nothing to measure
        """Before the first step, what a network must know of its training set (how often every colour occurs).

        It is kept in the network's buffers, so that checkpoints hold it; the same set gives the same values.
        """

    @abstractmethod
    def phases(self, model: Network, fields: dict[str, Kind], loss: str) -> tuple[Phase, ...]:
        """The optimizers' shares of a step, in order."""

    @abstractmethod
    def metrics(self, protocol: str) -> Metrics:
        """An empty tally under a named protocol."""

    def examined(self, dataset: Dataset) -> Dataset:
        """A split as answers are scored on it. Restoration makes its clean photographs dirty here, always alike."""
        return dataset

    def default_protocol(self, dataset: str, fields: dict[str, Kind]) -> str:
        """The protocol that people report on a data set.

        Args:
            dataset: what the catalogue calls it.
            fields: of it, where the protocol depends on what is asked for.
        """
        return self.protocols[0]

    def view_of(self, protocol: str) -> str:
        """The view under which a protocol has the network asked."""
        return self.views[0]

    @abstractmethod
    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The trivial answer, fitted on (at most a few hundred samples of) a training set."""

    def sought(self, pictures: Sample) -> tuple[Rectangle | None, str]:
        """Where to look in whole pictures when nobody names a box. Pose looks for the largest person.

        Args:
            pictures: the inputs by field name, (H, W, C).

        Returns:
            A box as `window` takes it, which holds a pixel, or None for everything; and in a few words why.
        """
        return None, ""

    def window(self, box: Rectangle, size: Size) -> Window:
        """The part of a picture that is looked at when one asks about a box; a task may want to see more around it.

        Args:
            box: x, y, width and height in pixels.
            size: (height, width) of the picture.

        Returns:
            Top, left, height and width within the picture; no height or width where the box lies beside it.
        """
        x, y, width, height = box
        left, right = (min(max(round(edge), 0), size[1]) for edge in (x, x + width))
        top, bottom = (min(max(round(edge), 0), size[0]) for edge in (y, y + height))
        return top, left, bottom - top, right - left

    def shown(self, view: str, source: Size, trained: Size, model: Network) -> tuple[Geometry, ...]:
        """How a picture is shown to the network: one geometry, or several whose answers are joined.

        Args:
            view: one of `views`.
            source: (height, width) of the picture.
            trained: (height, width) of the network's training.
            model: the network, whose trunk's preprocessing says how classifiers crop.
        """
        return (plain_resize(source, fitting_size(source, trained) if view == "fit" else source),)

    def asked(self, model: Network, view: str) -> Network:
        """The network in the form in which a view asks it."""
        return model

    def joined(self, outputs: list[Tensor]) -> Tensor:
        """The raw outputs for every geometry of a view as one."""
        return outputs[0]

    def mirrored(self, output: Tensor, fields: dict[str, Kind], width: int) -> Tensor:
        """The raw output for left-right mirrored inputs of this width, (1, C, H, W), mirrored back.

        Tasks whose answer has a direction or sides say more: flow changes the sign of u, pose exchanges left and right.
        """
        return output.flip(-1)

    @abstractmethod
    def output(self, model: Network, fields: dict[str, Kind]) -> Output:
        """What a network of this task answers with, asked in its first view: exported files carry it."""

    @abstractmethod
    def decode(self, output: Any, query: Query) -> Prediction:
        """A network's output for one input, (1, ...), as an answer about the original picture."""

    @abstractmethod
    def truth(self, sample: Sample, fields: dict[str, Kind]) -> Prediction:
        """A sample's targets in the form of a prediction, for drawing beside one."""
