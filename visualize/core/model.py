"""Model under inspection: its inputs, and a forward pass that captures activations.

All gradients are with respect to pixels in [0, 1], with the backbone's preprocessing inside the function: one
definition for bare backbones and for the models of all tasks. The gradient with respect to the normalized input is this
gradient times std / (high - low) of the preprocessing. "Black" is 0 in pixels, "gray" is the mean of the preprocessing.

Any other `nn.Module` is inspected as it is: it has no preprocessing, so that its "pixels" are whatever it takes, and
gray is 0.5.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...backbones import create_backbone
from ...backbones.backbone import Backbone
from ...backbones.partial_weights import backbone_from_partial_weights
from ...backbones.weights import WEIGHTS, WeightsWarning
from ...datasets.classification.imagenet import imagenet_classes
from ...datasets.core.geometry import Size
from ...datasets.field_types import ClassLabel, FieldType, Image, SegmentationMask
from ...errors import UserError, unknown_name_with_suggestions
from ...tasks import create_task, list_tasks
from ...tasks.device import choose_device
from ...tasks.image_io import load_image_as
from ...tasks.inference import Predictor, load, packaged_checkpoints
from ...tasks.network import Classifier, Network
from ...tasks.prediction import OutputSpec, PredictionContext
from ...tasks.preprocessing import Preprocessor
from ...tasks.task import Task
from ...tasks.tiling import run_padded
from .hooks import IgnoreDetach, StopForward, capture_activations, frozen_eval, level_names, modules_of_levels

PLAIN_SIZE: Size = (224, 224)
"""(height, width) of images that are synthesized for a module of unknown input size."""


@dataclass(frozen=True)
class ModelInput:
    """Images as the model takes them.

    Attributes:
        pixels: (1, C, H, W) float32 in [0, 1] each; one channel per class for label maps.
        context: the original images or their crops, their size, and the matrix from original to preprocessed pixels.
        image_size: (height, width) of the complete original images.
    """

    pixels: tuple[Tensor, ...]
    context: PredictionContext
    image_size: Size

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3): maps pixels (x, y, 1) of the complete original image to pixels of the preprocessed one."""
        left, top = self.context.offset or (0, 0)
        return self.context.matrix @ np.array([[1.0, 0.0, -left], [0.0, 1.0, -top], [0.0, 0.0, 1.0]])

    def to_input_pixel(self, x: float, y: float) -> tuple[float, float]:
        """Position (x, y) in the preprocessed image of a pixel of the original image."""
        transformed = self.matrix @ np.array([x, y, 1.0])
        return float(transformed[0] / transformed[2]), float(transformed[1] / transformed[2])


@dataclass(frozen=True)
class ForwardResult:
    """Result of one forward pass.

    Attributes:
        pixels: inputs, (B, C, H, W) in [0, 1] each.
        prediction: logits (B, classes), or the raw output of a task: (B, C, H, W) at the input size for dense tasks,
            (B, J, h, w) heat maps or (B, J, 3) coordinates for pose; whatever any other module returns; None if it was
            not computed.
        levels: activations by level name. A backbone that reads the two images of a sample separately has 2 B of them,
            those of the first images first.
    """

    pixels: tuple[Tensor, ...]
    prediction: Any
    levels: dict[str, Tensor]

    @property
    def output(self) -> Tensor:
        """`prediction` of a forward pass with `run_output=True`.

        Raises:
            UserError: it is not a tensor.
        """
        if not isinstance(self.prediction, Tensor):
            kind = type(self.prediction).__name__
            raise UserError(f"The output is a {kind}, not a tensor; give a function of it as the target.")
        return self.prediction


class HeadlessBackbone(Network):
    """A backbone without a classifier: it has levels, but no prediction."""

    input_policy = "fixed"
    backbone: Backbone

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.stride = backbone.levels[-1].stride

    def forward(self, image: Tensor) -> None:
        """Compute the levels of (B, C, H, W) in [0, 1]."""
        self.backbone.features(self.backbone.preprocessing(image))


def to_pixels(image: np.ndarray) -> Tensor:
    """Convert (H, W, C) uint8 to (1, C, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255


@dataclass
class InspectedModel:
    """A loaded model and its preprocessing.

    Attributes:
        name: as given by the user, for messages and titles.
        module: the network, which takes pixels in [0, 1]; or any other module.
        backbone: the backbone that names the levels; None for models without one.
        predictor: predictor of the task; None for a backbone without a classifier, and for any other module.
        size: (height, width) to which inputs are resized or cropped; for any other module that of synthesized images.
        seed: random seed of models that sample in the forward pass, the same in every pass.
    """

    name: str
    module: nn.Module
    backbone: Backbone | None
    predictor: Predictor | None
    size: Size
    seed: int = 0
    _level_modules: dict[str, nn.Module | None] = field(default_factory=dict, init=False, repr=False)

    @property
    def task(self) -> Task | None:
        """Task of the model; None for a backbone without a classifier."""
        return None if self.predictor is None else self.predictor.task

    @property
    def is_plain(self) -> bool:
        """Whether the model is neither a task's nor a backbone, but any other module."""
        return self.predictor is None and self.backbone is None

    @property
    def fields(self) -> dict[str, FieldType]:
        """Field types of the dataset on which the model was trained."""
        if self.predictor is not None:
            return self.predictor.fields
        if self.backbone is not None:
            return {"image": Image(self.backbone.in_channels)}
        convolutions = (module for module in self.module.modules() if isinstance(module, nn.Conv2d))
        return {"image": Image(next((each.in_channels for each in convolutions), 3))}

    @property
    def inputs(self) -> dict[str, FieldType]:
        """Field types of the inputs, by name."""
        return self.fields if self.task is None else self.task.inputs(self.fields)

    @property
    def optimized_channels(self) -> list[int]:
        """Number of channels of every input, for methods that optimize an image.

        Raises:
            UserError: an input is a label map, which is not differentiable.
        """
        if any(isinstance(field_type, SegmentationMask) for field_type in self.inputs.values()):
            raise UserError(f"{self.name} takes label maps, which cannot be optimized by gradient.")
        return [field_type.input_channels for field_type in self.inputs.values()]

    @property
    def output_spec(self) -> OutputSpec | None:
        """What the task says its output is; None for a backbone without a classifier, and for any other module."""
        return None if self.predictor is None else self.predictor.task.output_spec(self.predictor.model, self.fields)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of an image classifier; empty for other models."""
        return self.channels("classes")

    def channels(self, *layouts: str) -> tuple[str, ...]:
        """Names of the output's channels if it has one of these layouts; otherwise empty."""
        spec = self.output_spec
        return spec.channels if spec is not None and spec.layout in layouts else ()

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        parameter = next(self.module.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @property
    def neutral_color(self) -> tuple[float, ...]:
        """Color, in [0, 1] a channel, that the backbone's preprocessing maps to 0.

        Without a backbone, a single number for all channels: 0.5.
        """
        if self.backbone is None:
            return (0.5,)
        preprocessing = self.backbone.preprocessing
        low, high = preprocessing.range
        means = preprocessing.mean[:: -1 if preprocessing.order == "BGR" else 1]
        # A backbone that concatenates two images to six channels has the same mean for both.
        count = next(iter(self.inputs.values())).input_channels
        return tuple((mean - low) / (high - low) for mean in means)[:count]

    @property
    def max_batch(self) -> int:
        """Maximum batch size; 1 for models whose predictions depend on the other images of the batch."""
        return 1 if isinstance(self.module, Network) and not self.module.batchable else 16

    def preprocess(self, *sources: Any) -> ModelInput:
        """Preprocess images as at inference: resized and cropped for classification, resized ("fit") for dense tasks.

        For any other module, images are scaled to [0, 1] at their own size.

        Args:
            sources: paths, arrays, PIL images or tensors; one for most tasks, two for optical flow.

        Raises:
            UserError: too few or too many sources, a source that is not an image, or images of two sizes.
        """
        if self.is_plain or not isinstance(self.module, Network):
            images = [load_image_as(each, self.optimized_channels[0]) for each in sources]
            pixels = tuple(to_pixels(each).to(self.device) for each in images)
            size = (images[0].shape[0], images[0].shape[1])
            return ModelInput(pixels, PredictionContext({}, self.fields, size, np.eye(3)), size)
        # A backbone without a classifier takes its images as one with a classifier.
        task = create_task("classification") if self.task is None else self.task
        preprocessor = Preprocessor(task, self.fields, self.size)
        mode = "fit" if "fit" in task.inference.modes else None
        prepared = preprocessor.prepare(preprocessor.load(sources), self.module, mode)
        pixels = preprocessor.tensors(prepared.samples[:1], self.device)
        return ModelInput(tuple(each.float() for each in pixels), prepared.context, prepared.complete_size)

    def take(self, image: Any) -> ModelInput:
        """The images of a call of a method.

        Args:
            image: an image, or a tuple or list of as many as the model takes. Tensors of floating-point numbers,
                (1, C, H, W) or (C, H, W), are taken as they are, and so is a `ModelInput`; see `preprocess` for all
                else.

        Raises:
            UserError: as `preprocess`, or a batch of several images.
        """
        if isinstance(image, ModelInput):
            return image
        images = tuple(image) if isinstance(image, (tuple, list)) else (image,)
        if not all(isinstance(each, Tensor) and each.is_floating_point() for each in images):
            return self.preprocess(*images)
        if any(each.ndim not in (3, 4) or (each.ndim == 4 and len(each) != 1) for each in images):
            shapes = ", ".join(str(tuple(each.shape)) for each in images)
            raise UserError(f"A tensor must be one image, (1, C, H, W) or (C, H, W), not {shapes}.")
        pixels = tuple((each if each.ndim == 4 else each[None]).detach().to(self.device) for each in images)
        size = (pixels[0].shape[-2], pixels[0].shape[-1])
        return ModelInput(pixels, PredictionContext({}, self.fields, size, np.eye(3)), size)

    def pixels(self, *sources: Any) -> tuple[Tensor, ...]:
        """The tensors of `preprocess` alone: (1, C, H, W) float32 in [0, 1] each."""
        return self.preprocess(*sources).pixels

    def forward(self, pixels: tuple[Tensor, ...], levels: Iterable[str] = (), run_output: bool = True) -> ForwardResult:
        """One forward pass, differentiable with respect to the levels, and to the pixels if they require gradients.

        Args:
            pixels: (B, C, H, W) in [0, 1] each, from `pixels` or of any other size that the model accepts.
            levels: backbone levels or submodules, by name, whose activations are captured.
            run_output: compute the prediction; otherwise the pass ends after the last of the levels.

        Returns:
            Prediction and activations. The model is left unchanged: hooks, modes and `requires_grad` are restored.

        Raises:
            UserError: a name that is not a level or submodule, or one that does not return a single tensor.
        """
        names = tuple(dict.fromkeys(levels))
        activations: dict[str, Tensor] = {}
        prediction: Any = None
        pixels = tuple(each.to(self.device) for each in pixels)
        modules = {name: self._module_of_level(name) for name in names}
        rng_guard = torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])
        with (
            rng_guard,
            torch.enable_grad(),
            frozen_eval(self.module),
            capture_activations(modules, self.backbone, activations, stop=not run_output),
        ):
            torch.manual_seed(self.seed)
            with suppress(StopForward), IgnoreDetach():
                network = self.module
                prediction = run_padded(network, pixels) if isinstance(network, Network) else network(*pixels)
            if self.backbone is not None and any(name not in activations for name in names if modules[name] is None):
                # Third-party backbones may classify without calling `features`; run it separately to get the levels.
                with suppress(StopForward):
                    self.backbone.features(self.backbone.preprocessing(pixels[0]))
        for name in names:
            if name not in activations:
                raise UserError(f"'{name}' of {self.name} is not used in its forward pass; choose another level.")
            if not activations[name].is_meta and bool(activations[name].isnan().any()):
                raise UserError(f"The weights of {self.name} end before '{name}'; choose an earlier level.")
        return ForwardResult(pixels, prediction if run_output else None, {name: activations[name] for name in names})

    def level_names(self) -> list[str]:
        """The backbone's levels, then the paths of all submodules, as accepted by `forward`."""
        return list(dict.fromkeys([*level_names(self.backbone), *self._modules()]))

    def _modules(self) -> dict[str, nn.Module]:
        """Submodules by path; those of the backbone also without the prefix of the backbone."""
        named = [*self.module.named_modules(), *(self.backbone.named_modules() if self.backbone is not None else ())]
        return {name: module for name, module in named if name}

    def _module_of_level(self, name: str) -> nn.Module | None:
        """The submodule whose output is the level; None if no submodule returns it."""
        if self.backbone is not None and name in level_names(self.backbone):
            self._level_modules = self._level_modules or modules_of_levels(self.backbone)
            return self._level_modules[name]
        modules = self._modules()
        if name not in modules:
            raise unknown_name_with_suggestions(f"level of {self.name}", name, self.level_names())
        return modules[name]


def inspect_model(model: Any) -> InspectedModel:
    """Prepare any model for the methods.

    Args:
        model: a `Predictor`, a `Backbone`, any other `nn.Module`, or what `open_model` opens; or a function that
            returns one of them, which methods call once their other arguments are checked. An `InspectedModel` is
            returned as it is.

    Raises:
        UserError: as `open_model`, or an object that is none of these.
    """
    if isinstance(model, InspectedModel):
        return model
    if isinstance(model, Predictor):
        return inspect_predictor(model)
    if isinstance(model, Backbone):
        return inspect_backbone(model)
    if isinstance(model, nn.Module):
        return InspectedModel(type(model).__name__, model, None, None, PLAIN_SIZE)
    if isinstance(model, (str, Path)):
        return open_model(str(model))
    if callable(model):
        return inspect_model(model())
    raise UserError(f"A {type(model).__name__} is not a model: give a Predictor, a Backbone, an nn.Module or a name.")


def open_model(
    model: str, weights: str | Path | None = None, levels: int | None = None, device: str = "cpu", **options: Any
) -> InspectedModel:
    """Load a model for visualization.

    Args:
        model: name of a backbone, file or run folder of a checkpoint, or name of a packaged checkpoint or its task.
        weights: weights of a backbone: a file, or "imagenet"; None: random, with a warning. A file with only the first
            levels of a backbone opens those.
        levels: build only this many levels of the backbone, without its classifier; None: all that the weights cover.
        device: cpu, cuda, mps or auto.
        options: options of the backbone (`stride_in`).

    Raises:
        UserError: an unknown model or missing file, or weights of another backbone.
    """
    path, names = Path(model), (*WEIGHTS, *list_tasks(), *packaged_checkpoints())
    if path.suffix in (".safetensors", ".pth") or path.is_dir() or model in names:
        if weights is not None or levels is not None or options:
            raise UserError(f"'{model}' comes with its weights; leave out weights, levels and backbone options.")
        return inspect_predictor(load(model, device, amp="off"), model)
    if weights is None:
        backbone = create_backbone(model, num_classes=None if levels is None else 0, levels=levels, **options)
        message = f"{model} has random weights; add --weights FILE or --weights imagenet."
        warnings.warn(message, WeightsWarning, stacklevel=2)
    else:
        backbone = backbone_from_partial_weights(model, weights, levels, options)
    return inspect_backbone(backbone.to(choose_device(device)))


def inspect_predictor(predictor: Predictor, name: str | None = None) -> InspectedModel:
    """Inspect the model of a predictor; its other options (precision, input mode) are ignored.

    Raises:
        UserError: a model of photos with cameras.
    """
    if predictor.task.inference.reads_scenes:
        raise UserError(
            f"A model of {predictor.task.name} takes photos with cameras; only models of images are inspected."
        )
    name = name or f"the {predictor.task.name} network"
    return InspectedModel(name, predictor.model, predictor.model.backbone, predictor, predictor.size)


def inspect_backbone(backbone: Backbone, names: tuple[str, ...] = ()) -> InspectedModel:
    """Inspect a backbone: as an image classifier if it has a classifier, otherwise its levels only.

    Without class names they are those of ImageNet for 1000 classes, otherwise numbers.
    """
    crop = backbone.preprocessing.crop
    size = backbone.fixed_size or backbone.classifier_input_size or (crop, crop)
    if not backbone.num_classes:
        return InspectedModel(backbone.name, HeadlessBackbone(backbone), backbone, None, size)
    imagenet_names = imagenet_classes()[1]
    if not names:
        names = (
            imagenet_names
            if backbone.num_classes == len(imagenet_names)
            else tuple(f"class {number}" for number in range(backbone.num_classes))
        )
    category = ClassLabel(names)
    fields: dict[str, FieldType] = {"image": Image(backbone.in_channels), "category": category}
    device = next(backbone.parameters()).device
    predictor = Predictor(create_task("classification"), Classifier(backbone), fields, size, device)
    return InspectedModel(backbone.name, predictor.model, backbone, predictor, size)
