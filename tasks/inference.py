"""Inference: `load` a model, `Predictor.predict` on images of any size.

A prediction takes three steps, which may run in parallel for many images: `load_inputs` reads and resizes, `forward`
runs the network, `decode` converts its output. `predict` runs one after the other.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..backbones.weights import WEIGHTS
from ..datasets.core.geometry import Rectangle, Size
from ..datasets.dataset import Sample
from ..datasets.field_types import FieldType, SegmentationMask, collate
from ..errors import UserError, unknown_name
from .checkpoint import is_backbone_weights, load_checkpoint, load_classifier
from .device import choose_device, use_bf16
from .image_io import count_frames, load_image_as, load_labels
from .task import Network, Prediction, PredictionContext, Task
from .tiling import eval_mode, pad_by_reflection, receptive_radius, resize_to_input, run_padded, run_tiled

__all__ = [
    "ModelInput",
    "Predictor",
    "eval_mode",
    "load",
    "packaged_checkpoint",
    "pad_by_reflection",
    "receptive_radius",
    "resize_to_input",
    "run_padded",
    "run_tiled",
]

PACKAGED_CHECKPOINTS = Path(__file__).parent
"""Parent folder of the packaged checkpoints: PACKAGED_CHECKPOINTS / TASK / "weights"."""


@dataclass(frozen=True)
class ModelInput:
    """Preprocessed inputs of one prediction.

    Attributes:
        samples: inputs at the size of the network, one sample for each geometry of the input mode.
        mode: one of the task's `input_modes`.
        flip: whether the output is averaged with that for the horizontally flipped inputs.
        context: what `Task.decode` needs besides the output.
        remark: what part of the inputs is ignored ("the first of 12 frames"); empty if none is.
    """

    samples: tuple[Sample, ...]
    mode: str
    flip: bool
    context: PredictionContext
    remark: str = ""


class Predictor:
    """A trained network with its task, field types, training size and device.

    Attributes:
        task, model, fields, size: as in training; `size` is (height, width).
        header: header of the checkpoint; empty for a network in training.
        seed: seed of networks that are random at inference (dropout), so that equal inputs give equal predictions.
    """

    seed: int = 0

    def __init__(
        self,
        task: Task,
        model: Network,
        fields: dict[str, FieldType],
        size: Size,
        device: str | torch.device = "cpu",
        amp: str = "off",
        header: dict[str, Any] | None = None,
    ) -> None:
        self.task, self.model, self.fields, self.size = task, model, fields, size
        self.device = torch.device(device)
        self.bf16 = use_bf16(amp, self.device)
        self.header = header or {}

    def predict(
        self, *inputs: Any, mode: str | None = None, flip: bool = False, box: Rectangle | None = None
    ) -> Prediction:
        """Predict for one image (or as many as the task takes), at its original size.

        Args:
            inputs: paths, arrays, PIL images or tensors; one for most tasks, two for optical flow.
            mode: one of the task's `input_modes`: "fit" (resize to the training size, and the output back), "native"
                (the image's own size), or others of the task; None: the task's first.
            flip: average the output with that for the horizontally flipped image.
            box: x, y, width and height in pixels of the part to predict for; None: the task's `default_box`, for most
                tasks the complete image. The prediction has the size of that part.

        Raises:
            UserError: wrong number of inputs, an input that is not an image, or a box that contains no pixel of it.
        """
        model_input = self.load_inputs(*inputs, mode=mode, flip=flip, box=box)
        return self.decode(model_input, self.forward(model_input))

    def predict_sample(
        self,
        sample: Sample,
        mode: str | None = None,
        flip: bool = False,
        offset: tuple[int, int] | None = None,
        note: str = "",
    ) -> Prediction:
        """Predict for the inputs of a sample, at their original size.

        Args:
            sample: arrays by field name, with all inputs of the task.
            mode: as in `predict`.
            flip: as in `predict`.
            offset: (x, y) of the inputs in the images from which they were cropped; None: they are complete.
            note: the task's reason for that crop.
        """
        model_input = self.preprocess(sample, mode, flip, offset, note)
        return self.decode(model_input, self.forward(model_input))

    def load_inputs(
        self, *inputs: Any, mode: str | None = None, flip: bool = False, box: Rectangle | None = None
    ) -> ModelInput:
        """First step of `predict`, with its arguments: read the inputs and bring them to the size of the network.

        It may run in any thread, also while the network runs for another input.

        Raises:
            UserError: as `predict`.
        """
        field_types = self.task.inputs(self.fields)
        if len(inputs) != len(field_types):
            names = ", ".join(field_types)
            raise UserError(f"{self.task.name} takes {len(field_types)} input(s) ({names}), not {len(inputs)}.")
        images = {
            name: load_labels(source, field_type)
            if isinstance(field_type, SegmentationMask)
            else load_image_as(source, getattr(field_type, "channels", 3))
            for (name, field_type), source in zip(field_types.items(), inputs, strict=True)
        }
        sizes = {image.shape[:2] for image in images.values()}
        if len(sizes) > 1:
            raise UserError(f"The inputs differ in size: {', '.join(f'{h}x{w}' for h, w in sorted(sizes))}.")
        frames = max(map(count_frames, inputs))
        remark = f"the first of {frames} frames" if frames > 1 else ""
        note = ""
        if box is None:
            box, note = self.task.default_box(images, self.fields)
        if box is None:
            return self.preprocess(images, mode, flip, note=note, remark=remark)
        size = next(iter(sizes))
        finite = all(math.isfinite(number) for number in box)
        top, left, height, width = self.task.crop_for_box(box, size) if finite else (0, 0, 0, 0)
        if height < 1 or width < 1:
            raise UserError(
                f"The box {' '.join(f'{number:g}' for number in box)} (x, y, width, height) contains no pixel of "
                f"the image, which is {size[1]} wide and {size[0]} high."
            )
        parts = {name: image[top : top + height, left : left + width] for name, image in images.items()}
        return self.preprocess(parts, mode, flip, (left, top), note, remark)

    def preprocess(
        self,
        sample: Sample,
        mode: str | None = None,
        flip: bool = False,
        offset: tuple[int, int] | None = None,
        note: str = "",
        remark: str = "",
    ) -> ModelInput:
        """Bring the inputs of a sample to the size of the network; arguments as in `predict_sample`.

        Raises:
            UserError: the task has no such input mode.
        """
        field_types = self.task.inputs(self.fields)
        inputs = {name: sample[name] for name in field_types}
        first = next(iter(inputs.values()))
        source: Size = (first.shape[0], first.shape[1])
        mode = mode or self.task.input_modes[0]
        if mode not in self.task.input_modes:
            raise unknown_name(f"input mode of the task {self.task.name}", mode, self.task.input_modes)
        geometries = self.task.input_geometries(mode, source, self.size, self.model)
        samples = tuple(
            self.task.prepare_sample(
                {name: field_type.transform(inputs[name], geometry) for name, field_type in field_types.items()},
                None,
                0.0,
            )
            for geometry in geometries
        )
        context = PredictionContext(inputs, self.fields, source, geometries[0].matrix(), offset, note)
        return ModelInput(samples, mode, flip, context, remark)

    def forward(self, model_input: ModelInput) -> Tensor:
        """Second step of `predict`: the raw output, merged over the geometries of the input mode.

        Only one thread may run it at a time.

        Raises:
            UserError: the image is too large for the memory of the device.
        """
        try:
            outputs = [self.run_network(one, model_input.flip, model_input.mode) for one in model_input.samples]
            return self.task.merge_outputs(outputs)
        except torch.OutOfMemoryError:
            height, width = model_input.context.size
            raise UserError(
                f"An image of {width}x{height} does not fit into the memory of {self.device} in the input mode "
                f"'{model_input.mode}'; use another input mode or a smaller image."
            ) from None

    def decode(self, model_input: ModelInput, output: Tensor) -> Prediction:
        """Third step of `predict`: the prediction in original pixels. It may run in any thread."""
        return self.task.decode(output, model_input.context)

    @torch.inference_mode()
    def run_network(self, sample: Sample, flip: bool = False, mode: str | None = None) -> Tensor:
        """Raw output (1, C, H, W) float32 for the preprocessed inputs of one sample, usually at their size."""
        sample_types = self.task.sample_field_types(self.fields)
        field_types = {name: sample_types[name] for name in self.task.inputs(self.fields)}
        batch = collate([sample], field_types)
        inputs = [field_types[name].to_input(batch[name].to(self.device)) for name in field_types]
        model = self.task.inference_model(self.model, mode or self.task.input_modes[0])
        rng_state = torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])
        with rng_state, eval_mode(self.model), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            torch.manual_seed(self.seed)
            output = run_padded(model, inputs)
            if flip:
                flipped = run_padded(model, [tensor.flip(-1) for tensor in inputs])
                output = (output + self.task.unflip(flipped, self.fields, inputs[0].shape[-1])) / 2
        return output.float()

    @property
    def weights_hash(self) -> str:
        """Hash of the weights, 16 hexadecimal digits: equal wherever the same checkpoint is loaded."""
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def load(name_or_path: str | Path, device: str = "auto", amp: str = "auto") -> Predictor:
    """Load a trained model by task name (the packaged checkpoint), checkpoint file or run folder.

    Weights of a backbone with its classifier ("resnet50/imagenet", or a file of such weights) are loaded as a model of
    the task classification.

    >>> predictor = load("depth")  # doctest: +SKIP
    >>> predictor.predict("photo.jpg").meters  # doctest: +SKIP

    Raises:
        UserError: no such task or file, no packaged checkpoint, or a damaged file.
    """
    path = Path(name_or_path)
    if (path / "best.safetensors").is_file():
        path = path / "best.safetensors"
    elif not path.suffix and str(name_or_path) not in WEIGHTS:
        path = packaged_checkpoint(str(name_or_path))
    if str(name_or_path) in WEIGHTS or is_backbone_weights(path):
        model, model_spec, header = load_classifier(str(name_or_path))
    else:
        model, model_spec, header = load_checkpoint(path)
    torch_device = choose_device(device)
    model = model.to(torch_device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - stubs lag
    height, width = header["size"]
    return Predictor(model_spec.task, model, model_spec.fields, (height, width), torch_device, amp, header)


def packaged_checkpoint(task: str) -> Path:
    """Path of the checkpoint that is installed with the package for a task.

    Raises:
        UserError: unknown task, or a task without a packaged checkpoint.
    """
    from . import task_class

    task_class(task)
    folder = PACKAGED_CHECKPOINTS / task / "weights"
    checkpoints = sorted(folder.glob("*.safetensors"))
    if not checkpoints:
        raise UserError(
            f"There is no packaged checkpoint for '{task}': train one (densevision train {task}) and give its path."
        )
    return checkpoints[0]
