"""Checkpoints (one self-contained safetensors file), imported weights, and the training state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..atomic_io import atomic_path, json_text
from ..backbones.backbone import Preprocessing
from ..backbones.file_format import weights_format
from ..backbones.state_dict_matching import open_file
from ..backbones.weights import WEIGHTS, read_metadata, read_weights_info
from ..datasets import open_dataset
from ..datasets.classification.imagenet import ImageNet, imagenet_classes
from ..datasets.field_types import ClassLabel, FieldType, Image
from ..errors import UserError
from ..version import VERSION
from . import create_task
from .model_spec import ModelSpec, restore_preprocessing
from .task import Network, Task

HEADER = "densevision"
"""Key of the header in the metadata of the file; its value is JSON."""
STATE_KEYS = {
    "model", "auxiliary", "optimizers", "ema", "step", "steps", "evaluated_step", "best", "evals_without_improvement",
    "meter", "images_per_step", "baseline", "evaluation",
}  # fmt: skip
"""Keys of a training state."""
FORMAT = 2
"""Version of the names in the header; the first version had no number."""


def save_checkpoint(path: str | Path, model: Network, model_spec: ModelSpec, metadata: dict[str, Any]) -> None:
    """Write a checkpoint: the weights, and a header with all that building and running the model needs.

    Args:
        path: the `.safetensors` file; an existing one is replaced atomically.
        model: the model, on any device.
        model_spec: the spec from which the model was built.
        metadata: the rest of the header: size, data and its terms, step, metrics with their protocol.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    header = {"format": FORMAT, "version": VERSION, **model_spec.to_json(model), **metadata}
    with atomic_path(path) as aside:
        save_file(tensors, aside, metadata={HEADER: json_text(header, ensure_ascii=False)})


def read_header(path: str | Path) -> dict[str, Any]:
    """Read the header of a checkpoint: model, data, training and metrics.

    Raises:
        UserError: the file is missing, damaged, not a checkpoint, or has a header of the old names.
    """
    header = raw_header(path)
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path} was written with the names of an earlier densevision; convert it with: "
            f"densevision weights convert {path} NEW.safetensors"
        )
    return header


def raw_header(path: str | Path) -> dict[str, Any]:
    """Read the header of a checkpoint without checking its format.

    Raises:
        UserError: the file is missing, damaged, or not a checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no checkpoint '{path}'.")
    if weights_format(path) != "safetensors":
        raise UserError(
            f"{path} is not a checkpoint of a task (a safetensors file with a densevision header): use torch files for "
            "training with --weights, or convert them with `densevision weights import`."
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file ({error}); copy it again or train again."
        ) from error
    if HEADER not in metadata:
        raise UserError(f"{path} contains weights but no densevision header: it is not a checkpoint of a task.")
    return json.loads(metadata[HEADER])


def is_backbone_weights(path: str | Path) -> bool:
    """Whether a file contains weights of a backbone, with its name in the metadata, and is not a checkpoint."""
    try:
        metadata = read_metadata(path)
    except UserError:
        return False
    return "network" in metadata and HEADER not in metadata


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint, floating-point ones as fp32."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def load_checkpoint(path: str | Path) -> tuple[Network, ModelSpec, dict[str, Any]]:
    """Load a checkpoint: the model in evaluation mode on the CPU, its spec, and the header.

    Raises:
        UserError: see `read_header`; or the weights do not fit the model that the header describes.
    """
    header = read_header(path)
    model_spec = ModelSpec.from_json(header)
    model = model_spec.build()
    restore_preprocessing(model, header)
    try:
        model.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path} does not fit the model that its header describes: {reason}") from error
    return model.eval(), model_spec, header


def load_classifier(weights: str | Path) -> tuple[Network, ModelSpec, dict[str, Any]]:
    """Load weights of a backbone with its classifier as a model of the task classification, like `load_checkpoint`.

    1000 classes get the names of ImageNet.

    Args:
        weights: a file whose metadata names its network, or published weights ("resnet50/imagenet").

    Raises:
        UserError: the weights contain no classifier.
    """
    metadata = read_weights_info(weights)
    classes = int(metadata.get("classes", 0))
    if classes == 0:
        raise UserError(
            f"{weights} contains {metadata['network']} up to the level '{metadata.get('levels')}' without a "
            "classifier: it cannot predict classes; use it for training with --weights."
        )
    names = imagenet_classes()[1] if classes == len(imagenet_classes()[1]) else [f"class {n}" for n in range(classes)]
    preprocessing = Preprocessing(**metadata["preprocessing"])
    fields: dict[str, FieldType] = {"image": Image(len(preprocessing.mean)), "category": ClassLabel(tuple(names))}
    model_spec = ModelSpec(create_task("classification"), fields, metadata["network"])
    model = model_spec.build(str(weights).rpartition("/")[2] if weights in WEIGHTS else weights)
    header = {
        **model_spec.with_weights_options(model).to_json(model),
        "size": [preprocessing.crop, preprocessing.crop],
        "data": {"name": "imagenet", "title": ImageNet.title, "terms": metadata.get("licence", ImageNet.terms)},
        "backbone_weights": None,
        "init_from": None,
    }
    return model.eval(), model_spec, header


def convert_to_fp16(path: str | Path, out: str | Path) -> None:
    """Write a copy of a checkpoint with weights in fp16 and the same header.

    Tensors of one axis (biases, statistics) stay in fp32: they are small, and fp16 cannot store variances above 65504.
    """
    header = read_header(path)
    tensors = {
        name: value.half() if value.is_floating_point() and value.ndim > 1 else value
        for name, value in read_tensors(path).items()
    }
    with atomic_path(out) as aside:
        save_file(tensors, aside, metadata={HEADER: json_text(header, ensure_ascii=False)})


def import_weights(task: Task, model_name: str, weights: str | Path, out: str | Path, terms: str) -> None:
    """Convert published weights of a complete model to a checkpoint.

    Args:
        task: task of the model.
        model_name: one of `task.models`.
        weights: a `.pth` or `.safetensors` file with the published names.
        out: the checkpoint to write.
        terms: license terms of the data on which the weights were trained.

    Raises:
        UserError: no such model or file, or a tensor that is missing, unexpected or of another shape.
    """
    dataset = open_dataset(task.defaults.data)
    model_spec = ModelSpec(task, dataset.fields, model=model_name)
    model = model_spec.build()
    own = model.published_module.state_dict()
    published = open_file(Path(weights)).for_names(own)
    for name in sorted(own.keys() | published.shapes.keys()):
        ours = tuple(own[name].shape) if name in own else None
        if ours != (theirs := published.shapes.get(name)):
            raise UserError(
                f"{weights} does not fit {model_name}: '{name}' is {theirs} in the file, {ours} in the model."
            )
    model.published_module.load_state_dict({name: published.read(name) for name in own})
    size = next((recipe.image_size for recipe in task.recipes.values() if recipe.model == model_name), None)
    metadata = {
        "size": list(size or task.recipes[task.defaults.recipe].image_size or (224, 224)),
        "step": 0,
        "data": {"name": task.defaults.data, "title": Path(weights).name, "terms": terms},
        "backbone_weights": None,
        "init_from": None,
        "metrics": None,
    }
    save_checkpoint(out, model, model_spec, metadata)


def load_initial_weights(model: Network, model_spec: ModelSpec, path: str | Path) -> None:
    """Initialize a model from a checkpoint (`--init-from`), including the backbone's preprocessing.

    Raises:
        UserError: the models differ; the message names the model, backbone, head or option of the backbone, or the
            first tensor that is missing or of another shape.
    """
    header = read_header(path)
    stored = {**header, **header["backbone_options"]}
    current = {**vars(model_spec), **model_spec.backbone_options}
    for name in ("model", "backbone", "head", *model_spec.backbone_options):
        if name in stored and stored[name] != current[name]:
            raise UserError(
                f"--init-from {path} has the {name} {stored[name]}, this model {current[name]}: use the same."
            )
    tensors, own = read_tensors(path), model.state_dict()
    for name, value in own.items():
        if name not in tensors:
            raise UserError(f"--init-from {path} lacks '{name}': it is a checkpoint of another model.")
        if tensors[name].shape != value.shape:
            shapes = f"{tuple(tensors[name].shape)}, this model {tuple(value.shape)}"
            raise UserError(f"--init-from {path} has '{name}' of shape {shapes}.")
    model.load_state_dict({name: tensors[name] for name in own})
    restore_preprocessing(model, header)


def provenance(weights: str | None, init_from: Path | None) -> dict[str, Any]:
    """Origin of the initial weights, for the header: license terms follow weights from run to run.

    Args:
        weights: name or file of the backbone weights; None: random weights.
        init_from: checkpoint from which the complete model was initialized; its own origin is recorded then.

    Returns:
        backbone_weights: weights, origin and license, or None. init_from: file, data and init_from of that checkpoint,
        or None.
    """
    if init_from is not None:
        header = read_header(init_from)
        return {
            "backbone_weights": header["backbone_weights"],
            "init_from": {"file": init_from.name, "data": header["data"], "init_from": header["init_from"]},
        }
    if weights is None:
        return {"backbone_weights": None, "init_from": None}
    metadata = read_weights_info(weights) if Path(weights).suffix else {}
    origin = {"weights": Path(weights).name, "origin": metadata.get("origin"), "license": metadata.get("licence")}
    return {"backbone_weights": origin, "init_from": None}


def save_state(path: str | Path, state: dict[str, Any]) -> None:
    """Write a training state (plain tensors and numbers) atomically: a reader finds the old or the new one."""
    with atomic_path(path) as aside:
        torch.save(state, aside)


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a training state; only tensors and plain data are unpickled.

    Raises:
        UserError: the file is missing or damaged.
    """
    way_out = f"start a new run from the weights with --init-from {Path(path).with_name('checkpoint.safetensors')}"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"There is nothing to resume: {path} does not exist.") from None
    except Exception as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}): {way_out} and another --out.") from error
    missing = sorted(STATE_KEYS - state.keys()) if isinstance(state, dict) else ["step"]
    if missing:
        raise UserError(f"{path} is damaged or of another version (no '{missing[0]}'): {way_out} and another --out.")
    return state
