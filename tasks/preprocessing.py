"""Preprocessing: the one way from files, or from a sample of a dataset, to the tensors of a network.

Training, evaluation, prediction, visualization and export take it: inputs are read, a geometry brings them to the
network's size, the task augments them (at inference without randomness), and samples of one size become a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.core.augmentation import Augmentation, sample_geometry
from ..datasets.core.geometry import Rectangle, Size
from ..datasets.dataset import Dataset, Sample, map_sizes
from ..datasets.field_types import FieldType, collate, transform_sample
from ..datasets.formats.image import MAX_FRAMES
from ..errors import UserError, unknown_name
from .image_io import count_frames, open_source
from .network import Batch, Network
from .prediction import PredictionContext
from .task import Task


@dataclass(frozen=True)
class ImageInputs:
    """Inputs of one prediction, as they were read.

    Attributes:
        sample: inputs by field name, images (H, W, C); cropped if there is a box.
        offset: (x, y) of the crop in the complete image; None: complete.
        note: the task's reason for the crop ("largest person"); empty if the caller chose it.
        remark: what part of the files is ignored ("the first of 12 frames"); empty if none is.
        complete_size: (height, width) of the complete image; None: that of the sample.
        mode: the input mode if the caller states none; None: the task's first.
    """

    sample: Sample
    offset: tuple[int, int] | None = None
    note: str = ""
    remark: str = ""
    complete_size: Size | None = None
    mode: str | None = None


@dataclass(frozen=True)
class ModelInput:
    """Preprocessed inputs of one prediction.

    Attributes:
        samples: inputs at the size of the network, one sample for each geometry of the input mode.
        mode: one of the task's `InferencePolicy.modes`.
        flip: whether the output is averaged with that for the horizontally flipped inputs.
        context: what `Task.decode` needs besides the output.
        remark, complete_size: as in `ImageInputs`.
    """

    samples: tuple[Sample, ...]
    mode: str
    flip: bool
    context: PredictionContext
    remark: str
    complete_size: Size


@dataclass(frozen=True)
class Preprocessor:
    """Preprocessing of one task for one dataset's fields.

    Attributes:
        task: the task.
        fields: field types of the dataset.
        size: (height, width) of the training images.
        inputs: input fields of the task.
    """

    task: Task
    fields: dict[str, FieldType]
    size: Size
    inputs: dict[str, FieldType] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", self.task.inputs(self.fields))

    @cached_property
    def targets(self) -> dict[str, FieldType]:
        """Fields that the task predicts."""
        return self.task.targets(self.fields)

    def load(self, sources: Sequence[Any], box: Rectangle | None = None) -> ImageInputs:
        """Read the inputs of one prediction, each file once.

        Args:
            sources: paths, arrays, PIL images or tensors, usually one per input field.
            box: x, y, width and height in pixels of the part to predict for; None: the task's `find_box`, for most
                tasks the complete image.

        Raises:
            UserError: wrong number of inputs, an input that is not an image, images of several sizes, or a box that
                contains no pixel.
        """
        sources = [open_source(source) for source in sources]
        inference = self.task.inference
        sample = inference.read_inputs(sources, self.inputs)
        sizes = {size for _, size in map_sizes(sample, self.inputs).values()}
        if len(sizes) > 1:
            raise UserError(f"The inputs differ in size: {', '.join(f'{h}x{w}' for h, w in sorted(sizes))}.")
        frames = max(map(count_frames, sources), default=1)
        counted = str(frames) if frames < MAX_FRAMES else "many"
        loaded = ImageInputs(sample, remark=f"the first of {counted} frames" if frames > 1 else "")
        if box is None:
            box, note = inference.find_box(sample, self.fields)
            loaded = replace(loaded, note=note, mode=inference.search_mode if box is None else None)
        return loaded if box is None else self._cropped(loaded, box)

    def _cropped(self, loaded: ImageInputs, box: Rectangle) -> ImageInputs:
        size = self.source_size(loaded.sample)
        try:
            x, y, width, height = map(float, box)
        except (TypeError, ValueError):
            raise UserError(f"The box is {box!r}; give four numbers: x, y, width and height in pixels.") from None
        box = x, y, width, height
        finite = all(map(math.isfinite, box))
        top, left, height, width = self.task.inference.crop_for_box(box, size) if finite else (0, 0, 0, 0)
        if height < 1 or width < 1:
            raise UserError(
                f"The box {' '.join(f'{number:g}' for number in box)} (x, y, width, height) contains no pixel of "
                f"the image, which is {size[1]} wide and {size[0]} high."
            )
        parts = {}
        for name, kind in self.inputs.items():
            value, rows, columns = loaded.sample[name], slice(top, top + height), slice(left, left + width)
            leading = (slice(None),) * (value.ndim - kind.rank)
            parts[name] = value[(*leading, rows, columns)] if kind.input_channels else value
        return replace(loaded, sample=parts, offset=(left, top), complete_size=size)

    def source_size(self, sample: Sample) -> Size:
        """(height, width) of the first input that is a map of pixels; the training size if none is."""
        return next((size for _, size in map_sizes(sample, self.inputs).values()), self.size)

    def prepare(self, inputs: ImageInputs, model: Network, mode: str | None = None, flip: bool = False) -> ModelInput:
        """Bring inputs to the size of the network.

        Args:
            inputs: from `load`, or `ImageInputs(sample)` for a sample of a dataset.
            model: the network; the preprocessing of its backbone says how classifiers crop.
            mode: one of the task's input modes; None: that of the inputs.
            flip: see `ModelInput`.

        Raises:
            UserError: the task has no such input mode.
        """
        policy = self.task.inference
        mode = mode or inputs.mode or policy.modes[0]
        if mode not in policy.modes:
            raise unknown_name(f"input mode of the task {self.task.name}", mode, policy.modes)
        sample = {name: inputs.sample[name] for name in self.inputs}
        source = self.source_size(sample)
        geometries = policy.geometries(mode, source, self.size, model)
        samples = tuple(
            self.task.augmentation.augment(transform_sample(sample, self.inputs, geometry), None, 0.0)
            for geometry in geometries
        )
        known = {name: inputs.sample[name] for name in policy.context_fields if name in inputs.sample}
        matrix = geometries[0].matrix()
        context = PredictionContext({**sample, **known}, self.fields, source, matrix, inputs.offset, inputs.note)
        return ModelInput(samples, mode, flip, context, inputs.remark, inputs.complete_size or source)

    def training_sample(
        self,
        dataset: Dataset,
        index: int,
        augmentation: Augmentation,
        color_jitter: float,
        geometry_rng: np.random.Generator,
        color_rng: np.random.Generator,
    ) -> Sample:
        """Inputs and targets of a sample at the training size, augmented.

        Args:
            dataset: the training split.
            index: index of the sample.
            augmentation: limits of the geometry, from the training options.
            color_jitter: strength of the color augmentation, 0 to 1.
            geometry_rng: random stream of the geometry of this sample.
            color_rng: that of its colors.
        """
        source = dataset.image_size(index)
        limits = self.task.augmentation.limits(augmentation, self.fields, source)
        geometry = sample_geometry(geometry_rng, source, self.size, limits)
        sample = dataset.read_transformed(index, geometry, {**self.inputs, **self.targets})
        return self.task.augmentation.augment(sample, color_rng, color_jitter)

    def tensors(self, samples: Sequence[Sample], device: torch.device) -> tuple[Tensor, ...]:
        """Samples of one size as inputs of the network, (B, C, H, W) in [0, 1] for images, on a device."""
        batch = collate(list(samples), self.inputs)
        return tuple(kind.to_input(batch[name].to(device)) for name, kind in self.inputs.items())

    def to_device(self, batch: Batch, device: torch.device) -> Batch:
        """Move a training batch to a device, with inputs and targets as networks and losses take them."""
        converted = {}
        for name, tensor in batch.items():
            moved = tensor.to(device, non_blocking=True)
            if name in self.inputs:
                moved = self.inputs[name].to_input(moved)
            elif name in self.targets:
                moved = self.targets[name].to_target(moved)
            converted[name] = moved
        return converted
