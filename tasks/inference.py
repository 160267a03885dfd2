"""Inference: `load` a model, `Predictor.predict` on images of any size, `predict_batch` on many.

A prediction takes three steps, which may run in parallel for many images: `load_inputs` reads and resizes, `forward`
runs the network, `decode` converts its output. `predict` runs one after the other.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..backbones.weights import WEIGHTS
from ..datasets.core.geometry import Rectangle, Size
from ..datasets.dataset import Sample
from ..datasets.field_types import FieldType
from ..errors import UserError
from .checkpoint import is_backbone_weights, load_checkpoint, load_classifier
from .device import amp_dtype, autocast, choose_device, dtype_name, to_device
from .model_spec import require_model
from .network import Network
from .prediction import Prediction
from .preprocessing import ImageInputs, ModelInput, Preprocessor
from .task import Task
from .tiling import eval_mode, run_padded

__all__ = ["Predictor", "load", "packaged_checkpoint"]

PACKAGED_CHECKPOINTS = Path(__file__).parent
"""Parent folder of the packaged checkpoints: PACKAGED_CHECKPOINTS / TASK / "weights"."""
MAX_BATCH_VALUES = 3 * 2**22
"""Limit on the values of a batch (one image is always allowed): large images gain nothing from company."""
_LOCK = threading.Lock()
"""For one forward pass at a time: the mode of a model and the seed are states of the process. It is not part of a
predictor, so that predictors can be copied and pickled."""


class Predictor:
    """A trained network with its task, field types, training size and device. Several threads may share one.

    Attributes:
        task, model, fields, size: as in training; `size` is (height, width).
        preprocessor: preprocessing of its inputs.
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
        self.task: Task = task
        self.model: Network = model
        self.fields: dict[str, FieldType] = fields
        self.size: Size = size
        self.preprocessor: Preprocessor = Preprocessor(task, fields, size)
        self.device: torch.device = torch.device(device)
        self.amp: str = amp
        self.dtype: torch.dtype | None = amp_dtype(amp, self.device)
        self.header: dict[str, Any] = header or {}

    def __repr__(self) -> str:
        model, (height, width) = type(self.model).__name__, self.size
        return f"Predictor({self.task.name}, {model}, {height}x{width}, {self.device.type}, {self.precision})"

    def to(self, device: str | torch.device) -> Self:
        """Move the model to a device ("cpu", "cuda:1", "mps", "auto"), and return the predictor itself.

        Raises:
            UserError: this machine has no such device.
        """
        self.device = choose_device(str(device))
        self.model = to_device(self.model, self.device)
        self.dtype = amp_dtype(self.amp, self.device)
        return self

    def predict(
        self, *inputs: Any, mode: str | None = None, flip: bool = False, box: Rectangle | None = None
    ) -> Prediction:
        """Predict for one image (or as many as the task takes), at its original size.

        Args:
            inputs: paths, arrays, PIL images or tensors; one for most tasks, two for optical flow. Tasks that sample
                from noise take an integer, which seeds it.
            mode: one of the task's input modes: "fit" (resize to the training size, and the output back), "native"
                (the image's own size), or others of the task; None: the task's first, for pose without a box "twice".
            flip: average the output with that for the horizontally flipped image.
            box: x, y, width and height in pixels of the part to predict for; None: the task's own choice, for most
                tasks the complete image. The prediction has the size of that part.

        Raises:
            UserError: wrong number of inputs, an input that is not an image, or a box that contains no pixel of it.
        """
        model_input = self.load_inputs(*inputs, mode=mode, flip=flip, box=box)
        return self.decode(model_input, *self.forward([model_input]))

    def with_options(self, **options: Any) -> Predictor:
        """The same model under other options of its task, as far as they concern prediction: the camera of hand pose.

        Raises:
            UserError: the task has no such option, or not this value of it.
        """
        known = [each.name for each in dataclasses.fields(self.task)]  # type: ignore[arg-type]
        for name in options:
            if name not in known:
                raise UserError(f"The task {self.task.name} has no option --{name}.")
        task = dataclasses.replace(self.task, **options)  # type: ignore[type-var]
        changed = copy.copy(self)
        changed.task, changed.preprocessor = task, Preprocessor(task, self.fields, self.size)
        return changed

    def predict_batch(
        self, inputs: Iterable[Any], mode: str | None = None, flip: bool = False, batch_size: int = 8
    ) -> list[Prediction]:
        """Predict for many images; those that have one size at the network run together.

        The predictions equal those of `predict` up to rounding, in fp32 about 1e-5 of the largest value.

        Args:
            inputs: one entry per prediction: a path, array, PIL image or tensor; a tuple of them for tasks with several
                inputs. A list, a generator, or a batch (N, C, H, W) or (N, H, W, C).
            mode: input mode, as in `predict`.
            flip: as in `predict`.
            batch_size: maximum number of images in a forward pass.

        Raises:
            UserError: as `predict`.
        """
        return list(self.predict_stream(inputs, mode, flip, batch_size))

    def predict_stream(
        self, inputs: Iterable[Any], mode: str | None = None, flip: bool = False, batch_size: int = 8
    ) -> Iterator[Prediction]:
        """`predict_batch` of a long or endless generator: predictions come one by one, as soon as a batch is done."""
        is_path = isinstance(inputs, (str, Path))
        if is_path or hasattr(inputs, "getbands") or getattr(inputs, "ndim", 0) in (2, 3):
            one = f"'{inputs}'" if is_path else f"A single {type(inputs).__name__}"
            raise UserError(f"{one} is one input: predict_batch takes a list of inputs, predict a single one.")
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; it must be at least 1.")
        entries = (entry if isinstance(entry, tuple) else (entry,) for entry in inputs)
        while chunk := list(itertools.islice(entries, batch_size)):
            prepared = [self.load_inputs(*entry, mode=mode, flip=flip) for entry in chunk]
            yield from map(self.decode, prepared, self.forward(prepared, batch_size))

    def predict_samples(
        self, samples: Sequence[Sample], mode: str | None = None, flip: bool = False
    ) -> list[Prediction]:
        """Predict for the inputs of samples of a dataset, together where they have one size, at their original size.

        Args:
            samples: arrays by field name, with all inputs of the task.
            mode: input mode, as in `predict`.
            flip: as in `predict`.
        """
        prepared = [self.preprocessor.prepare(ImageInputs(each), self.model, mode, flip) for each in samples]
        return list(map(self.decode, prepared, self.forward(prepared, len(prepared))))

    def predict_sample(self, sample: Sample, mode: str | None = None, flip: bool = False) -> Prediction:
        """Predict for the inputs of one sample; see `predict_samples`."""
        return self.predict_samples([sample], mode, flip)[0]

    def load_inputs(
        self, *inputs: Any, mode: str | None = None, flip: bool = False, box: Rectangle | None = None
    ) -> ModelInput:
        """First step of `predict`, with its arguments: read the inputs and bring them to the size of the network.

        It may run in any thread, also while the network runs for another input.

        Raises:
            UserError: as `predict`.
        """
        return self.preprocessor.prepare(self.preprocessor.load(inputs, box), self.model, mode, flip)

    def forward(self, inputs: Sequence[ModelInput], batch_size: int = 1) -> list[Tensor]:
        """Second step of `predict`: the raw output for every input, merged over the geometries of its input mode.

        Samples of one size and input mode run together. It may be called in several threads, which take turns.

        Args:
            inputs: preprocessed inputs.
            batch_size: maximum number of samples in a forward pass; 1 for networks that are not `batchable`.

        Raises:
            UserError: an image is too large for the memory of the device.
        """
        outputs: list[list[Tensor]] = [[] for _ in inputs]
        groups: dict[tuple[Any, ...], list[tuple[int, Sample]]] = {}
        for index, one in enumerate(inputs):
            for sample in one.samples:
                shapes = tuple((value.shape, value.dtype) for value in sample.values())
                groups.setdefault((one.mode, one.flip, shapes), []).append((index, sample))
        for (mode, flip, _), members in groups.items():
            limit = 1
            if batch_size > 1 and self.model.batchable:
                values = max((value.size for value in members[0][1].values()), default=0)
                limit = max(1, min(batch_size, MAX_BATCH_VALUES // max(1, values)))
            while members:
                batch, members = members[:limit], members[limit:]
                try:
                    output = self.run_network([sample for _, sample in batch], flip, mode)
                except torch.OutOfMemoryError:
                    if limit > 1:
                        members, limit = batch + members, 1
                        continue
                    height, width = inputs[batch[0][0]].context.size
                    raise UserError(
                        f"An image of {width}x{height} does not fit into the memory of {self.device} in the input mode "
                        f"'{mode}'; use another input mode or a smaller image."
                    ) from None
                for (index, _), row in zip(batch, output.split(1), strict=True):
                    outputs[index].append(row)
        merged = [self.task.inference.merge(each) for each in outputs]
        return self.task.inference.refine(self, inputs, merged, batch_size)

    def decode(self, model_input: ModelInput, output: Tensor) -> Prediction:
        """Third step of `predict`: the prediction in original pixels. It may run in any thread."""
        return self.task.decode(output, model_input.context)

    @torch.inference_mode()
    def run_network(self, samples: Sequence[Sample], flip: bool = False, mode: str | None = None) -> Tensor:
        """Raw output (B, C, H, W) float32 for the preprocessed inputs of samples of one size, usually at that size."""
        policy = self.task.inference
        inputs = self.preprocessor.tensors(samples, self.device)
        is_map = [bool(kind.input_channels) for kind in self.preprocessor.inputs.values()]
        model = self.network(mode or policy.modes[0])
        rng_state = torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])
        with _LOCK, rng_state, eval_mode(self.model), autocast(self.device, self.dtype):
            torch.manual_seed(self.seed)
            output = run_padded(model, inputs, is_map=is_map)
            if flip:
                mirrored = [one.flip(-1) if sized else one for one, sized in zip(inputs, is_map, strict=True)]
                width = next((one.shape[-1] for one, sized in zip(inputs, is_map, strict=True) if sized), 0)
                output = (output + policy.unflip(run_padded(model, mirrored, is_map=is_map), self.fields, width)) / 2
        return output.float()

    def network(self, mode: str) -> Network:
        """The network in the form that runs in an input mode."""
        return self.task.inference.network(self.model, mode)

    @property
    def precision(self) -> str:
        """Name of the type in which the network runs: "fp32", "bf16" or "fp16"."""
        return dtype_name(self.dtype)

    @property
    def weights_hash(self) -> str:
        """Hash of the weights, 16 hexadecimal digits: equal wherever the same checkpoint is loaded."""
        digest = hashlib.blake2b(digest_size=8)
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def load(name_or_path: str | Path | nn.Module, device: str = "auto", amp: str = "auto") -> Predictor:
    """Load a trained model by task name (its packaged checkpoint), name of a packaged checkpoint, file or run folder.

    Weights of a backbone with its classifier ("resnet50/imagenet", or a file of such weights) are loaded as a model of
    the task classification. A model of `create_model` is taken as it is, and stays on its device if none is stated.

    >>> predictor = load("depth")  # doctest: +SKIP
    >>> predictor.predict("photo.jpg").meters  # doctest: +SKIP

    Args:
        name_or_path: what to load.
        device: "cpu", "cuda", "mps" or "auto".
        amp: mixed precision: "auto", "bf16", "fp16" or "off".

    Raises:
        UserError: no such task or file, no packaged checkpoint, or a damaged file.
    """
    if isinstance(name_or_path, nn.Module):
        network, origin = require_model(name_or_path)
        spec = origin.model_spec
        predictor = Predictor(spec.task, network, spec.fields, origin.size, next(network.parameters()).device, amp)
        return predictor if device == "auto" else predictor.to(device)
    if not isinstance(name_or_path, (str, Path)):
        raise UserError(f"A {type(name_or_path).__name__} is not a model: give a name, or the path of a file.")
    path = Path(name_or_path)
    # Unlike the method of Path, this raises no error for a name that is too long.
    if os.path.isfile(path / "best.safetensors"):
        path = path / "best.safetensors"
    elif not path.suffix and str(name_or_path) not in WEIGHTS:
        path = packaged_checkpoint(str(name_or_path))
    if str(name_or_path) in WEIGHTS or is_backbone_weights(path):
        model, model_spec, header = load_classifier(str(name_or_path))
    else:
        model, model_spec, header = load_checkpoint(path)
    torch_device = choose_device(device)
    model = to_device(model, torch_device)
    height, width = header["size"]
    return Predictor(model_spec.task, model, model_spec.fields, (height, width), torch_device, amp, header)


def packaged_checkpoints() -> dict[str, Path]:
    """Paths of the checkpoints that are installed with the package, by name, in alphabetical order of their tasks."""
    return {path.stem: path for path in sorted(PACKAGED_CHECKPOINTS.glob("*/weights/*.safetensors"))}


def packaged_checkpoint(name: str) -> Path:
    """Path of a checkpoint that is installed with the package.

    Args:
        name: a task, for the first of its checkpoints in alphabetical order; or a checkpoint
            (`densevision weights list`).

    Raises:
        UserError: unknown name, or a task without a packaged checkpoint.
    """
    from . import task_class

    by_name = packaged_checkpoints()
    if name in by_name:
        return by_name[name]
    task_class(name)
    checkpoints = [path for path in by_name.values() if path.parent.parent.name == name]
    if not checkpoints:
        raise UserError(
            f"There is no packaged checkpoint for '{name}': train one (densevision train {name}) and give its path."
        )
    return checkpoints[0]
