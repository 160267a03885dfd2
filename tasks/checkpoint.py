"""Checkpoint format: one self-contained safetensors file with weights, and a header from which the model is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..atomic_io import atomic_path, json_text
from ..backbones.backbone import Preprocessing
from ..backbones.state_dict_matching import format_shape
from ..backbones.weights import (
    DIGEST,
    WEIGHTS,
    open_file,
    open_safetensors,
    read_weights_info,
    tensors_digest,
    weights_format,
)
from ..datasets.classification.imagenet import ImageNet, imagenet_classes
from ..datasets.field_types import ClassLabel, FieldType, Image
from ..errors import UserError
from ..version import VERSION
from . import create_task
from .checkpoint_header import FORMAT, parse_header, stated_digest
from .model_spec import ModelOrigin, ModelSpec, restore_preprocessing
from .network import Network

HEADER = "densevision"
"""Key of the header in the metadata of the file; its value is JSON."""


def write_model(path: str | Path, model: Network, model_spec: ModelSpec, metadata: dict[str, Any]) -> None:
    """Write a checkpoint: the weights, and a header with all that building and running the model needs.

    Args:
        path: the `.safetensors` file; an existing one is replaced atomically.
        model: the model, on any device.
        model_spec: the spec from which the model was built.
        metadata: the rest of the header: size, data and its terms, step, metrics with their protocol.

    Raises:
        UserError: the header lacks a key, or has a value that `checkpoint_header.Header` does not allow.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_checkpoint(path, tensors, {"format": FORMAT, "version": VERSION, **model_spec.to_json(model), **metadata})


def write_checkpoint(path: str | Path, tensors: dict[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write the file of a checkpoint atomically: tensors, header, and the digest of the tensors."""
    # What cannot be read is not written.
    parse_header(json_text(header), str(path))
    # In the header: safetensors writes several entries of metadata in a random order, and equal runs write equal files.
    text = json_text({**header, DIGEST: tensors_digest(tensors)}, ensure_ascii=False)
    with atomic_path(path) as aside:
        save_file(tensors, aside, {HEADER: text})


def read_header(path: str | Path) -> dict[str, Any]:
    """Read the header of a checkpoint: model, data, training and metrics, validated by `checkpoint_header.Header`.

    Raises:
        UserError: the file is missing, damaged, not a checkpoint, or has a header of the old names.
    """
    return parse_header(header_text(path), str(path))


def header_text(path: str | Path) -> str:
    """The JSON text of the header of a checkpoint.

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
    metadata = open_safetensors(path).metadata() or {}
    if HEADER not in metadata:
        raise UserError(f"{path} contains weights but no densevision header: it is not a checkpoint of a task.")
    return metadata[HEADER]


def is_checkpoint(path: str | Path) -> bool:
    """Whether a file contains a header, valid or not."""
    return HEADER in _metadata(Path(path))


def is_backbone_weights(path: str | Path) -> bool:
    """Whether a file contains weights of a backbone, with its name in the metadata, and is not a checkpoint."""
    metadata = _metadata(Path(path))
    return "network" in metadata and HEADER not in metadata


def _metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file; empty for other files."""
    if not path.is_file() or weights_format(path) != "safetensors":
        return {}
    return open_safetensors(path).metadata() or {}


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint as stored.

    Raises:
        UserError: they are not those that were written, by the digest. Checkpoints of earlier versions have none.
    """
    file = open_safetensors(Path(path))
    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    stated = stated_digest(header_text(path), str(path))
    if stated is not None and stated != tensors_digest(tensors):
        raise UserError(f"{path} is damaged (its tensors do not have the digest that it states): copy it again.")
    return tensors


def read_float_tensors(path: str | Path) -> dict[str, Tensor]:
    """`read_tensors`, floating-point ones as fp32."""
    tensors = read_tensors(path)
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def load_checkpoint(path: str | Path) -> tuple[Network, ModelSpec, dict[str, Any]]:
    """Load a checkpoint: the model in evaluation mode on the CPU, its spec, and the header.

    Raises:
        UserError: see `read_header`; or the weights do not fit the model that the header describes.
    """
    header = read_header(path)
    model_spec = ModelSpec.from_json(header, source=f"The header of {path}")
    require_fit(model_spec, path)
    model = model_spec.build()
    restore_preprocessing(model, header, str(path))
    model.load_state_dict(read_float_tensors(path))
    height, width = header["size"]
    model.origin = ModelOrigin(model_spec, (height, width), provenance(None, Path(path)))
    return model.eval(), model_spec, header


def require_fit(model_spec: ModelSpec, path: str | Path) -> None:
    """Check that a file contains exactly the tensors of a model, before the model takes memory.

    Raises:
        UserError: the model cannot be built, or a tensor is missing, unexpected or of another shape.
    """
    stored, beginning = open_file(Path(path)).shapes, f"{path} does not fit the model that its header describes"
    try:
        with torch.device("meta"):
            own = {name: tuple(value.shape) for name, value in model_spec.build().state_dict().items()}
    except (UserError, ValueError) as error:
        raise UserError(f"{beginning}: {error}") from error
    for name in sorted(own.keys() | stored.keys(), key=lambda name: (name in own) == (name in stored)):
        if own.get(name) != stored.get(name):
            found, wanted = (
                f"of shape {format_shape(shapes[name])}" if name in shapes else "missing" for shapes in (stored, own)
            )
            raise UserError(f"{beginning}: '{name}' is {found} in the file and {wanted} in the model.")


def load_classifier(weights: str | Path) -> tuple[Network, ModelSpec, dict[str, Any]]:
    """Load weights of a backbone with its classifier as a model of the task classification, like `load_checkpoint`.

    1000 classes get the names of ImageNet.

    Args:
        weights: a file whose metadata names its network, or published weights ("resnet50/imagenet").

    Raises:
        UserError: the weights contain no classifier.
    """
    metadata = read_weights_info(weights)
    network, classes = metadata["network"], int(metadata.get("classes", 0))
    if classes == 0:
        reach = f" up to the level '{metadata['levels']}'" if "levels" in metadata else ""
        raise UserError(
            f"{weights} contains {network}{reach} without a classifier: it cannot predict classes; use it for training "
            "with --weights."
        )
    if "preprocessing" not in metadata:
        raise UserError(
            f"{weights} contains weights of the backbone {network}, but does not state their preprocessing, without "
            "which it cannot predict: use it for training with --weights, or write it again with `save_weights`, which "
            "stores the preprocessing of the backbone."
        )
    if weights not in WEIGHTS and not any(classes in shape for shape in open_file(Path(weights)).shapes.values()):
        raise UserError(f"{weights} states {classes} classes, but contains no classifier for as many: copy it again.")
    is_imagenet = classes == len(imagenet_classes()[1])
    names = imagenet_classes()[1] if is_imagenet else [f"class {n}" for n in range(classes)]
    title = ImageNet.title if is_imagenet else metadata.get("origin") or "data that its file does not state"
    preprocessing = Preprocessing(**metadata["preprocessing"])
    fields: dict[str, FieldType] = {"image": Image(len(preprocessing.mean)), "category": ClassLabel(tuple(names))}
    model_spec = ModelSpec(create_task("classification"), fields, metadata["network"])
    model = model_spec.build(str(weights).rpartition("/")[2] if weights in WEIGHTS else weights)
    header = {
        **model_spec.with_weights_options(model).to_json(model),
        "size": [preprocessing.crop, preprocessing.crop],
        "data": {"name": "imagenet", "title": title, "terms": metadata.get("licence", ImageNet.terms)},
        "backbone_weights": None,
        "init_from": None,
    }
    size = preprocessing.crop, preprocessing.crop
    model.origin = ModelOrigin(model_spec.with_weights_options(model), size, provenance(str(weights), None))
    return model.eval(), model_spec, header


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
    tensors, own = read_float_tensors(path), model.state_dict()
    for name, value in own.items():
        if name not in tensors:
            raise UserError(f"--init-from {path} lacks '{name}': it is a checkpoint of another model.")
        if tensors[name].shape != value.shape:
            shapes = f"{tuple(tensors[name].shape)}, this model {tuple(value.shape)}"
            raise UserError(f"--init-from {path} has '{name}' of shape {shapes}.")
    model.load_state_dict({name: tensors[name] for name in own})
    restore_preprocessing(model, header, str(path))


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
