"""Model under inspection: preprocessing, and a forward pass that captures activations.

All gradients are with respect to pixels in [0, 1], with the backbone's preprocessing inside the function: one
definition for bare backbones and for the models of all tasks. The gradient with respect to the normalized input is this
gradient times std / (high - low) of the preprocessing. "Black" is 0 in pixels, "gray" is the mean of the preprocessing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...backbones import create_backbone
from ...backbones.backbone import Backbone
from ...backbones.partial_weights import backbone_from_partial_weights
from ...backbones.weights import WEIGHTS, WeightsWarning
from ...datasets.classification.imagenet import imagenet_classes
from ...datasets.core.geometry import Size
from ...datasets.field_types import ClassLabel, FieldType, Image, collate
from ...errors import UserError, unknown_name_with_suggestions
from ...tasks import create_task, list_tasks
from ...tasks.device import choose_device
from ...tasks.inference import Predictor, load
from ...tasks.network import Network
from ...tasks.prediction import PredictionContext
from ...tasks.task import Task
from ...tasks.tiling import run_padded
from .hooks import IgnoreDetach, StopForward, capture_activations, frozen_eval, level_names, modules_of_levels
from .inputs import ModelInput, load_inputs

__all__ = [
    "ForwardResult",
    "InspectedModel",
    "ModelInput",
    "frozen_eval",
    "inspect_backbone",
    "inspect_predictor",
    "open_model",
]


@dataclass(frozen=True)
class ForwardResult:
    """Result of one forward pass.

    Attributes:
        pixels: inputs, (B, C, H, W) in [0, 1] each.
        prediction: logits (B, classes), or the raw output of a task: (B, C, H, W) at the input size for dense tasks,
            (B, J, h, w) heat maps or (B, J, 3) coordinates for pose; None if it was not computed.
        levels: activations by level name. A backbone that reads the two images of a sample separately has 2 B of them,
            those of the first images first.
    """

    pixels: tuple[Tensor, ...]
    prediction: Tensor | None
    levels: dict[str, Tensor]

    @property
    def output(self) -> Tensor:
        """`prediction` of a forward pass with `run_output=True`."""
        assert self.prediction is not None, "forward(..., run_output=False) has no prediction"
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


@dataclass
class InspectedModel:
    """A loaded model and its preprocessing.

    Attributes:
        name: as given by the user, for messages and titles.
        module: the network; takes pixels in [0, 1].
        backbone: the backbone that names the levels; None for models without one.
        predictor: predictor of the task; None for a backbone without a classifier.
        size: (height, width) to which inputs are resized or cropped.
        seed: random seed of models that sample in the forward pass, the same in every pass.
    """

    name: str
    module: Network
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
    def fields(self) -> dict[str, FieldType]:
        """Field types of the dataset on which the model was trained."""
        if self.predictor is not None:
            return self.predictor.fields
        assert self.backbone is not None
        return {"image": Image(self.backbone.in_channels)}

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of an image classifier; empty for other models."""
        targets = self.task.targets(self.fields).values() if self.task is not None else ()
        return next((field_type.names for field_type in targets if isinstance(field_type, ClassLabel)), ())

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.module.parameters()).device

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
        inputs = self.task.inputs(self.fields) if self.task else self.fields
        count = getattr(next(iter(inputs.values())), "channels", len(means))
        return tuple((mean - low) / (high - low) for mean in means)[:count]

    @property
    def max_batch(self) -> int:
        """Maximum batch size; 1 for models whose predictions depend on the other images of the batch."""
        return 16 if self.module.batchable else 1

    def preprocess(self, *sources: Any) -> ModelInput:
        """Preprocess images as at inference: resized and cropped for classification, resized ("fit") for dense tasks.

        Args:
            sources: paths, arrays, PIL images or tensors; one for most tasks, two for optical flow.

        Raises:
            UserError: too few or too many sources, a source that is not an image, or images of two sizes.
        """
        inputs = self.task.inputs(self.fields) if self.task else self.fields
        images, source = load_inputs(self.name, inputs, sources)
        image_size = source
        offset = None
        if self.task is not None:
            box, _ = self.task.inference.find_box(images, self.fields)
            if box is not None:
                # Pose estimation crops the largest person.
                top, left, height, width = self.task.inference.crop_for_box(box, source)
                images = {name: each[top : top + height, left : left + width] for name, each in images.items()}
                source, offset = (height, width), (left, top)
        geometry = self._geometry(source)
        transformed = {name: field_type.transform(images[name], geometry) for name, field_type in inputs.items()}
        field_types = inputs
        if self.task is not None:
            transformed = self.task.augmentation.augment(transformed, None, 0.0)
        batch = collate([transformed], field_types)
        pixels = tuple(
            field_type.to_input(batch[name].to(self.device)).float() for name, field_type in field_types.items()
        )
        return ModelInput(pixels, PredictionContext(images, self.fields, source, geometry.matrix(), offset), image_size)

    def pixels(self, *sources: Any) -> tuple[Tensor, ...]:
        """The tensors of `preprocess` alone: (1, C, H, W) float32 in [0, 1] each."""
        return self.preprocess(*sources).pixels

    def _geometry(self, source: Size) -> Any:
        from ...tasks.classification.crops import center_crop

        if self.task is None:
            assert self.backbone is not None
            return center_crop(source, self.size, self.backbone.preprocessing)[0]
        mode = "fit" if "fit" in self.task.inference.modes else self.task.inference.modes[0]
        return self.task.inference.geometries(mode, source, self.size, self.module)[0]

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
        prediction: Tensor | None = None
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
                prediction = run_padded(self.module, list(pixels))
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


def open_model(
    model: str, weights: str | Path | None = None, levels: int | None = None, device: str = "cpu", **options: Any
) -> InspectedModel:
    """Load a model for visualization.

    Args:
        model: name of a backbone, file or run folder of a checkpoint, or name of a task for its packaged checkpoint.
        weights: weights of a backbone: a file, or "imagenet"; None: random, with a warning. A file with only the first
            levels of a backbone opens those.
        levels: build only this many levels of the backbone, without its classifier; None: all that the weights cover.
        device: cpu, cuda, mps or auto.
        options: options of the backbone (`stride_in`).

    Raises:
        UserError: an unknown model or missing file, or weights of another backbone.
    """
    path = Path(model)
    if path.suffix in (".safetensors", ".pth") or path.is_dir() or model in WEIGHTS or model in list_tasks():
        if weights is not None or levels is not None or options:
            raise UserError(f"'{model}' comes with its weights; leave out weights, levels and backbone options.")
        return inspect_predictor(load(model, device, amp="off"), model)
    if weights is None:
        message = f"{model} has random weights; add --weights FILE or --weights imagenet."
        warnings.warn(message, WeightsWarning, stacklevel=2)
        backbone = create_backbone(model, num_classes=None if levels is None else 0, levels=levels, **options)
    else:
        backbone = backbone_from_partial_weights(model, weights, levels, options)
    return inspect_backbone(backbone.to(choose_device(device)))


def inspect_predictor(predictor: Predictor, name: str | None = None) -> InspectedModel:
    """Inspect the model of a predictor; its other options (precision, input mode) are ignored."""
    model = predictor.model
    backbone = getattr(model, "backbone", None)
    name = name or f"the {predictor.task.name} network"
    return InspectedModel(name, model, backbone if isinstance(backbone, Backbone) else None, predictor, predictor.size)


def inspect_backbone(backbone: Backbone, names: tuple[str, ...] = ()) -> InspectedModel:
    """Inspect a backbone: as an image classifier if it has a classifier, otherwise its levels only.

    Args:
        backbone: any backbone.
        names: class names; if empty, those of ImageNet for 1000 classes, otherwise numbers.
    """
    crop = backbone.preprocessing.crop
    size = backbone.fixed_size or backbone.classifier_input_size or (crop, crop)
    if not backbone.num_classes:
        return InspectedModel(backbone.name, HeadlessBackbone(backbone), backbone, None, size)
    from ...tasks.classification.networks import Classifier

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
