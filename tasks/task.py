"""Task, prediction and metrics: the contract of every task.

The training loop, evaluation, inference, export and every command use a task through this interface only. A task is a
frozen dataclass; its fields are its own options, which a checkpoint stores and the command line offers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import cv2
import numpy as np
from torch import Tensor, nn

from ..backbones.backbone import Backbone
from ..datasets.core.geometric_augmentation import Augmentation
from ..datasets.core.geometry import Geometry, Rectangle, Size, Window, fitting_size, plain_resize
from ..datasets.dataset import Dataset, Sample
from ..datasets.field_types import FieldType
from ..errors import UserError
from .training.options import Options

if TYPE_CHECKING:
    from .pose.boxes import BoxFile

FieldTypeT = TypeVar("FieldTypeT", bound=FieldType)
Batch = dict[str, Tensor]
LossTerms = dict[str, Tensor]
"""Scalar loss terms by name; the training loop minimizes their sum and logs each of them."""


@dataclass(frozen=True)
class Defaults:
    """Dataset, backbone, head and recipe of `densevision train TASK`; head None: the backbone's own classifier.

    `recipe` is made for the synthetic dataset `data`; `photo_recipe`, if there is one, for real images: it is the
    default recipe for every dataset that is not synthetic.
    """

    data: str
    backbone: str
    head: str | None
    recipe: str
    photo_recipe: str | None = None


class Network(nn.Module):
    """A model that a task builds, with what inference needs to know about it.

    Attributes:
        input_policy: "tiled": tiles of an image give the same output as the complete image (fully convolutional);
            "whole": they do not; "fixed": inputs must have exactly the size that the task's `input_geometries` gives
            them, and the output is not a map of the input.
        stride: stride of the coarsest level; inputs are padded to multiples of it, unless `input_policy` is "fixed".
    """

    input_policy: Literal["tiled", "whole", "fixed"]
    stride: int

    @property
    def inference_noise(self) -> str:
        """Why outputs are random at inference, and how to avoid it; empty if they are not. Noise prevents an export."""
        return ""

    @property
    def published_module(self) -> nn.Module:
        """The submodule whose parameters files of published weights contain; usually the complete model."""
        return self


@dataclass(frozen=True)
class Phase:
    """One optimizer's part of a training step. Most tasks have one phase, an adversarial task has two.

    Attributes:
        name: name in log messages.
        module: module whose parameters this phase updates; no other parameter receives a gradient.
        loss: function of (batch, cache) that returns named terms. `cache` is one dict per batch, in which a phase
            stores activations that later phases reuse with their graph.
    """

    name: str
    module: nn.Module
    loss: Callable[[Batch, dict[str, Any]], LossTerms]


@dataclass(frozen=True)
class PredictionContext:
    """What `Task.decode` needs, besides the output, to make a prediction about the original image.

    Attributes:
        inputs: original inputs by field name, images as (H, W, C).
        fields: field types of the model's dataset, with their class names, skeletons and channels.
        size: (height, width) of the inputs.
        matrix: (3, 3), maps original pixels to pixels of the network's input, for the first geometry of the input
            mode.
        offset: (x, y) of the inputs in the image from which they were cropped; None if they are complete images.
        note: the task's reason for its default box ("largest person"), empty if the caller chose the box.
    """

    inputs: Sample
    fields: dict[str, FieldType]
    size: Size
    matrix: np.ndarray
    offset: tuple[int, int] | None = None
    note: str = ""


@dataclass(frozen=True)
class OutputSpec:
    """Meaning of a network's raw output, for programs that read it without this package.

    Attributes:
        channels: name of each channel, along the second axis of (B, C, ...).
        unit: unit of the values, and their grid if it is not that of the input pixels.
    """

    channels: tuple[str, ...]
    unit: str


class Prediction(ABC):
    """The typed result of a model for one input, in the coordinates of the original image.

    Subclasses are frozen dataclasses with `repr=False`, so that the short `repr` below is kept.

    Attributes:
        unit: unit of the values, for example "meters" or "pixels".
    """

    unit: ClassVar[str]

    @abstractmethod
    def to_image(self, reference: Prediction | None = None) -> np.ndarray:
        """Visualization as (H, W, 3) uint8 RGB.

        Args:
            reference: prediction whose value range is used for the colors, usually the ground truth; None: the range
                of this prediction.
        """

    def summary(self) -> str:
        """A few words for one line of output, for example the range of the values."""
        return f"in {self.unit}"

    @abstractmethod
    def save(self, folder: str | Path, stem: str) -> list[Path]:
        """Write raw data and visualization to files that start with `stem`; return their paths."""

    def __repr__(self) -> str:
        """One line with class, shape, unit and range: `DepthMap(480x640, meters, 0.82 to 6.41)`."""
        return f"{type(self).__name__}({', '.join(self._repr_parts())})"

    def _repr_parts(self) -> tuple[str, ...]:
        """Shape, unit and range for `repr`; subclasses add what they have (`format_size`, `format_range`)."""
        return (self.unit,)

    def _repr_png_(self) -> bytes:
        """`to_image()` as PNG: notebooks display a prediction as its visualization."""
        return cv2.imencode(".png", self.to_image()[..., ::-1])[1].tobytes()


def format_size(array: np.ndarray) -> str:
    """Height and width of an array (H, W, ...) for a `repr`: "480x640"."""
    return f"{array.shape[0]}x{array.shape[1]}"


def format_range(values: np.ndarray) -> str:
    """Minimum and maximum of the finite values for a `repr`: "0.82 to 6.41"; "no values" if there are none."""
    finite = values[np.isfinite(values)]
    return f"{finite.min():.3g} to {finite.max():.3g}" if finite.size else "no values"


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


@dataclass(frozen=True)
class MonitoredMetric:
    """The metric that decides which checkpoint is the best."""

    name: str
    higher_is_better: bool

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value is better than the best one so far (None: there is none); nan never is."""
        if value != value:
            return False
        return than is None or (value > than if self.higher_is_better else value < than)


class Task(ABC):
    """What is predicted from what: data, model, losses, metrics, inference and visualization of one task.

    Attributes:
        name, title, paper: registry name, title for lists, and main reference.
        defaults: dataset, backbone, head and recipe of `densevision train NAME`.
        heads: names of the heads that the task offers on any backbone, from `tasks.heads.HEADS` and `own_heads`; empty
            if the backbone's own classifier predicts.
        own_heads: heads of this task alone, by name, as "module:attribute".
        models: complete models by name, as "module:attribute".
        recipes: training options of papers and defaults, by name.
        losses: names accepted by `--loss`, the default first.
        protocols: names accepted by `metrics`, the default first.
        monitor: metric that decides which checkpoint is the best.
        input_modes: names of the ways to bring an image to the model, the default first. "fit": resize to the training
            size and resize the output back (for tasks that need to see the complete image); "native": keep the
            image's own size and tile large images (for tasks that look at details).
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
    input_modes: ClassVar[tuple[str, ...]] = ("fit", "native")

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

    def augmentation_for(self, augmentation: Augmentation, fields: dict[str, FieldType], source: Size) -> Augmentation:
        """Limits of the geometric augmentation for one image.

        Restoration does not resize images that are already degraded: rain, grain and blocks have a size in pixels.

        Args:
            augmentation: limits from the training options.
            fields: field types of the dataset.
            source: (height, width) of the image.
        """
        return augmentation

    def prepare_sample(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        """Color augmentation, and any fields that the loss needs; called in the data loading worker after resizing.

        Args:
            sample: inputs and targets at the size of the network; must not be modified.
            rng: random stream of this sample; None at inference, which is deterministic.
            color_jitter: strength of the color augmentation, 0 (none) to 1.
        """
        return sample

    def sample_field_types(self, fields: dict[str, FieldType]) -> dict[str, FieldType]:
        """Field types of the sample that `prepare_sample` returns, for batching."""
        return {**self.inputs(fields), **self.targets(fields)}

    def num_classes(self, fields: dict[str, FieldType]) -> int:
        """Number of classes of the backbone's own classifier; 0 for tasks that put a head on the backbone."""
        return 0

    def in_channels(self, fields: dict[str, FieldType]) -> int:
        """Input channels of the backbone: those of the first input. Flow may stack its two images."""
        return getattr(next(iter(self.inputs(fields).values())), "channels", 3)

    @abstractmethod
    def build(
        self, fields: dict[str, FieldType], backbone: Backbone | None, head: str | None, model: str | None
    ) -> Network:
        """Build a network from a backbone and a head, or a complete model by name.

        The network is called with the inputs in order, images as (B, C, H, W) in [0, 1].
        """

    def calibrate(self, model: Network, dataset: Dataset) -> None:  # noqa: B027 - most tasks have nothing to measure
        """Measure statistics of the training set before the first step, such as color frequencies.

        They are stored in buffers of the network, so that checkpoints contain them. The same dataset must give the same
        values, and no parameter may change.
        """

    @abstractmethod
    def phases(self, model: Network, fields: dict[str, FieldType], loss: str) -> tuple[Phase, ...]:
        """The phases of a training step, in order; each has its own optimizer."""

    @abstractmethod
    def metrics(self, protocol: str) -> Metrics:
        """New metrics under a named protocol."""

    def evaluation_dataset(self, dataset: Dataset) -> Dataset:
        """A split in the form in which predictions are scored; restoration degrades clean photos here, reproducibly."""
        return dataset

    def default_protocol(self, dataset: str, fields: dict[str, FieldType]) -> str:
        """The protocol under which papers report on a dataset.

        Args:
            dataset: registry name of the dataset.
            fields: its field types, if the protocol depends on what is predicted.
        """
        return self.protocols[0]

    def mode_for_protocol(self, protocol: str) -> str:
        """The input mode under which a protocol is evaluated."""
        return self.input_modes[0]

    @abstractmethod
    def baseline(self, dataset: Dataset) -> Callable[[Sample], Prediction]:
        """The prediction that needs no network, fitted on a training set (on at most a few hundred samples)."""

    def read_boxes(self, file: Path, fields: dict[str, FieldType]) -> BoxFile:
        """Read the boxes of several objects per image, each of which gets a prediction of its own; pose only.

        Args:
            file: COCO's JSON format, see `BoxFile`.
            fields: field types of the model's dataset.

        Raises:
            UserError: the task predicts complete images, or the file is not in COCO's format.
        """
        raise UserError(f"The task {self.name} does not predict objects one by one: use --box for a part of the image.")

    def write_results(self, out: Path, stems: Sequence[str]) -> Path | None:
        """Write one file with all predictions of a run; None for tasks without such a file.

        Args:
            out: folder of the predictions.
            stems: paths of the predictions as passed to `Prediction.save`, relative to `out`.
        """
        return None

    def default_box(self, images: Sample, fields: dict[str, FieldType]) -> tuple[Rectangle | None, str]:
        """The box to predict for if the caller gives none. Pose takes the largest person.

        Args:
            images: inputs by field name, (H, W, C).
            fields: field types of the model's dataset.

        Returns:
            A box for `crop_for_box` that contains at least one pixel, or None for the complete image; and the reason
            in a few words.
        """
        return None, ""

    def crop_for_box(self, box: Rectangle, size: Size) -> Window:
        """The crop of the image that is predicted for a box; a task may include context around it.

        Args:
            box: x, y, width and height in pixels.
            size: (height, width) of the image.

        Returns:
            Top, left, height and width within the image; height or width is 0 if the box is outside the image.
        """
        x, y, width, height = box
        left, right = (min(max(round(edge), 0), size[1]) for edge in (x, x + width))
        top, bottom = (min(max(round(edge), 0), size[0]) for edge in (y, y + height))
        return top, left, bottom - top, right - left

    def input_geometries(self, mode: str, source: Size, training_size: Size, model: Network) -> tuple[Geometry, ...]:
        """The geometries that bring an image to the network: one, or several whose outputs `merge_outputs` merges.

        Args:
            mode: one of `input_modes`.
            source: (height, width) of the image.
            training_size: (height, width) of the training images.
            model: the network; the preprocessing of its backbone says how classifiers crop.
        """
        return (plain_resize(source, fitting_size(source, training_size) if mode == "fit" else source),)

    def inference_model(self, model: Network, mode: str) -> Network:
        """The network in the form that runs in an input mode, for example fully convolutional for "dense"."""
        return model

    def merge_outputs(self, outputs: list[Tensor]) -> Tensor:
        """Merge the raw outputs for all geometries of an input mode into one."""
        return outputs[0]

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        """Flip back the raw output (1, C, H, W) for horizontally flipped inputs of this width.

        Tasks with directions or left and right do more: flow negates u, pose swaps left and right joints.
        """
        return output.flip(-1)

    @abstractmethod
    def output_spec(self, model: Network, fields: dict[str, FieldType]) -> OutputSpec:
        """Channels and unit of the raw output in the default input mode; exported files store them."""

    @abstractmethod
    def decode(self, output: Any, context: PredictionContext) -> Prediction:
        """Convert the raw output for one input, (1, ...), to a prediction in original pixels."""

    @abstractmethod
    def ground_truth(self, sample: Sample, fields: dict[str, FieldType]) -> Prediction:
        """The targets of a sample as a prediction, for scoring and drawing."""
