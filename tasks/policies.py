"""Policies: how a task augments, predicts and evaluates, where that differs from most tasks.

Every task has one object of each class. The base classes are what most tasks need; a task that needs more derives its
own and returns it from the property of that name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..datasets.core.augmentation import Augmentation, apply_transform, color_jitter_transform
from ..datasets.core.geometry import Geometry, Rectangle, Size, Window, fitting_size, plain_resize
from ..datasets.dataset import Dataset, Sample
from ..datasets.field_types import FieldType, SegmentationMask
from ..errors import UserError
from ..limits import LimitExceeded, check_pixels
from .image_io import load_image_as, load_labels
from .network import Batch, Network
from .prediction import Prediction


class AugmentationPolicy:
    """How training samples are augmented; without a derived class, geometrically only, and at inference not at all."""

    def limits(self, augmentation: Augmentation, fields: dict[str, FieldType], source: Size) -> Augmentation:
        """Limits of the geometric augmentation for one image.

        Restoration does not resize images that are already degraded: rain, grain and blocks have a size in pixels.

        Args:
            augmentation: limits from the training options.
            fields: field types of the dataset.
            source: (height, width) of the image.
        """
        return augmentation

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        """Augment colors, and add fields that the loss needs; runs in the data loading worker after resizing.

        Args:
            sample: inputs and targets at the size of the network; must not be modified.
            rng: random stream of this sample; None at inference, which is deterministic.
            color_jitter: strength of the color augmentation, 0 (none) to 1.
        """
        return sample

    def mix(self, batch: Batch, fields: dict[str, FieldType]) -> Batch:
        """Mix the samples of a training batch on the device, before its loss; random numbers are those of torch.

        Args:
            batch: inputs and targets, as the loss takes them; must not be modified.
            fields: field types of the dataset.
        """
        return batch


@dataclass(frozen=True)
class ColorJitter(AugmentationPolicy):
    """Color jitter of one image; targets do not change.

    Attributes:
        field: name of the image.
    """

    field: str = "image"

    def augment(self, sample: Sample, rng: np.random.Generator | None, color_jitter: float) -> Sample:
        """Jitter brightness, contrast, saturation and hue; see `color_jitter_transform`."""
        if rng is None or color_jitter == 0:
            return sample
        (image,) = apply_transform([sample[self.field]], rng, color_jitter_transform(color_jitter))
        return {**sample, self.field: image}


class ObjectBoxes(ABC):
    """Boxes of the objects in every image, from a file of the caller: each object gets a prediction of its own.

    Attributes:
        digest: hash of the file.
    """

    digest: str

    @abstractmethod
    def boxes_of(self, file: Path) -> list[Rectangle]:
        """Boxes of an image file: x, y, width and height in pixels.

        Raises:
            UserError: the file of boxes has not exactly one image of this name.
        """

    @abstractmethod
    def merge(self, file: Path, image: np.ndarray, predictions: Sequence[Prediction]) -> Prediction:
        """The predictions for all boxes of an image file, (H, W, 3) uint8, as one."""


@dataclass(frozen=True)
class SceneChoice:
    """Views of a scene to predict, and how; view synthesis only.

    Attributes:
        target: name of a photo that is left out and predicted; without `pose` and `path` too, every photo is.
        pose: JSON file with a camera.
        path: kind and number of frames of a path of the camera, "spiral:60".
        views, planes: numbers of photos and of planes, if not those of the model.
        classical: name of a method without learning, instead of the model.
    """

    target: str | None = None
    pose: Path | None = None
    path: str | None = None
    views: int | None = None
    planes: int | None = None
    classical: str | None = None


@dataclass(frozen=True)
class InferencePolicy:
    """How inputs are read and brought to the network, and how its outputs are merged.

    Attributes:
        modes: names of the ways to bring an image to the model, the default first. "fit": resize to the training size
            and resize the output back (for tasks that need to see the complete image); "native": keep the image's own
            size and tile large images (for tasks that look at details).
        context_fields: fields that `Task.decode` needs beside the inputs, where a sample has them.
        last_frames: how many frames of a complete folder or video are read, its last ones; None: all.
        reads_scenes: whether inputs are folders of photos with cameras, see `requested_views`.
        search_mode: the input mode of files for which neither the caller nor `find_box` has a box; None: the default.
    """

    modes: tuple[str, ...] = ("fit", "native")
    context_fields: tuple[str, ...] = ()
    last_frames: int | None = None
    reads_scenes: bool = False
    search_mode: str | None = None

    def inputs_per_prediction(self, fields: dict[str, FieldType]) -> int | None:
        """Number of files or frames of one prediction.

        Args:
            fields: input fields of the task.

        Returns:
            None: a complete folder or video is one prediction. 0: none, since the task samples from noise.
        """
        return len(fields)

    def newest_frames(self, fields: dict[str, FieldType]) -> int:
        """Number of the newest frames of a camera that a live prediction takes; 0: the task does not predict live."""
        return self.inputs_per_prediction(fields) or 0

    def read_inputs(self, sources: Sequence[Any], fields: dict[str, FieldType]) -> Sample:
        """Read the inputs of one prediction: images as uint8 (H, W, C), label maps as integers (H, W).

        Args:
            sources: `inputs_per_prediction` image files (`image_io.ImageFile`), arrays, PIL images or tensors; by
                default one per field. Of a task that samples from noise: one integer, which seeds it.
            fields: input fields of the task.

        Raises:
            UserError: wrong number of inputs, or an input that is not an image.
        """
        if len(sources) != len(fields):
            raise UserError(f"The model takes {len(fields)} input(s) ({', '.join(fields)}), not {len(sources)}.")
        return {
            name: load_labels(source, field_type)
            if isinstance(field_type, SegmentationMask)
            else load_image_as(source, field_type.input_channels)
            for (name, field_type), source in zip(fields.items(), sources, strict=True)
        }

    def find_box(self, inputs: Sample, fields: dict[str, FieldType]) -> tuple[Rectangle | None, str]:
        """The box to predict for if the caller gives none. Pose takes the largest person.

        Args:
            inputs: inputs by field name, images (H, W, C).
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

    def geometries(self, mode: str, source: Size, training_size: Size, model: Network) -> tuple[Geometry, ...]:
        """The geometries that bring an image to the network: one, or several whose outputs `merge` merges.

        Args:
            mode: one of `modes`.
            source: (height, width) of the image.
            training_size: (height, width) of the training images.
            model: the network; the preprocessing of its backbone says how classifiers crop.

        Raises:
            UserError: the image would have more than the limit of megapixels there.
        """
        if mode != "fit":
            return (plain_resize(source, source),)
        size = fitting_size(source, training_size)
        try:
            check_pixels(size[1], size[0])
        except LimitExceeded as error:
            # A strip of one row is enlarged to the training height.
            raise UserError(
                f"An image of {source[1]}x{source[0]} would fill {error} at the network; use another input mode."
            ) from None
        return (plain_resize(source, size),)

    def network(self, model: Network, mode: str) -> Network:
        """The network in the form that runs in an input mode, for example fully convolutional for "dense"."""
        return model

    def merge(self, outputs: list[Tensor]) -> Tensor:
        """Merge the raw outputs for all geometries of an input mode into one."""
        return outputs[0]

    def refine(self, predictor: Any, inputs: Sequence[Any], outputs: list[Tensor], batch_size: int) -> list[Tensor]:
        """The raw outputs that `Task.decode` takes, from those of the first pass; most tasks make no other.

        Args:
            predictor: the `Predictor`, for further passes.
            inputs: the `ModelInput` of every prediction.
            outputs: the merged raw output of each, with a batch of 1.
            batch_size: maximum number of samples in a forward pass.
        """
        return outputs

    def unflip(self, output: Tensor, fields: dict[str, FieldType], width: int) -> Tensor:
        """Flip back the raw output (B, C, H, W) for horizontally flipped inputs of this width.

        Tasks with directions or left and right do more: flow negates u, pose swaps left and right joints.
        """
        return output.flip(-1)

    def read_boxes(self, file: Path, fields: dict[str, FieldType]) -> ObjectBoxes:
        """Read the boxes of several objects per image; pose only.

        Args:
            file: a file in COCO's JSON format.
            fields: field types of the model's dataset.

        Raises:
            UserError: the task predicts complete images, or the file is not in COCO's format.
        """
        raise UserError("The model does not predict objects one by one: use --box for a part of the image.")

    def requested_views(
        self, predictor: Any, folders: Sequence[Path], choice: SceneChoice
    ) -> tuple[Any, Sequence[Any]]:
        """What is requested of scenes, which are folders of photos with cameras; for view synthesis only.

        Returns:
            The predictor to use, and a request per prediction: an input of `Predictor.predict` with `stem` (path of
            the output), `files` and `view.name`.

        Raises:
            UserError: the task predicts images.
        """
        raise UserError(
            "The model predicts images, not views of scenes: leave out --target, --pose, --path, --views, --planes and "
            "--classical."
        )

    def write_results(self, out: Path, stems: Sequence[str]) -> Path | None:
        """Write one file with all predictions of a run; None for tasks without such a file.

        Args:
            out: folder of the predictions.
            stems: paths of the predictions as passed to `Prediction.save`, relative to `out`.
        """
        return None


@dataclass(frozen=True)
class EvaluationPolicy:
    """Protocol, input mode and form of a split under which predictions are scored.

    Attributes:
        protocols: names of the task's protocols, the default first.
    """

    protocols: tuple[str, ...]

    def default_protocol(self, dataset: Dataset) -> str:
        """The protocol under which papers report on a dataset, which names it, if it is one of the task's."""
        return dataset.default_protocol if dataset.default_protocol in self.protocols else self.protocols[0]

    def mode(self, protocol: str) -> str | None:
        """The input mode under which a protocol is evaluated; None: the task's first."""
        return None

    def dataset(self, dataset: Dataset) -> Dataset:
        """A split in the form that is scored; restoration degrades clean photos here, reproducibly."""
        return dataset

    def under(self, dataset: Dataset, protocol: str) -> Dataset:
        """The split as a protocol presents it: under `found`, hand pose looks for the hand itself."""
        return dataset
