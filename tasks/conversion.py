"""Conversion of weights: published files to checkpoints, checkpoints to fp16, and old names to those of 0.1.0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..atomic_io import json_text
from ..backbones.weights import open_file
from ..datasets import open_dataset
from ..errors import UserError
from . import renamed
from .checkpoint import header_text, read_float_tensors, read_header, read_tensors, save_checkpoint, write_checkpoint
from .checkpoint_header import FORMAT, is_current, parse_header, parse_old_header
from .model_spec import ModelSpec
from .task import Task


def convert_to_fp16(path: str | Path, out: str | Path) -> None:
    """Write a copy of a checkpoint with weights in fp16 and the same header.

    Tensors of one axis (biases, statistics) stay in fp32: they are small, and fp16 cannot store variances above 65504.
    """
    header = read_header(path)
    tensors = {
        name: value.half() if value.is_floating_point() and value.ndim > 1 else value
        for name, value in read_float_tensors(path).items()
    }
    write_checkpoint(out, tensors, header)


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


def convert_checkpoint(path: str | Path, out: str | Path) -> None:
    """Write the tensors of a checkpoint, unchanged, with a header in the current names.

    Args:
        path: checkpoint with a header in the old names.
        out: the file to write.

    Raises:
        UserError: not a checkpoint, or one that already has the current names.
    """
    text = header_text(path)
    if is_current(text, str(path)):
        raise UserError(f"{path} already has the current names: it needs no conversion.")
    header = parse_old_header(text, str(path))
    tensors = {rename_tensor(header["task"], name): value for name, value in read_tensors(path).items()}
    converted = json_text(convert_header(header), ensure_ascii=False)
    write_checkpoint(out, tensors, parse_header(converted, str(path)))


def rename_tensor(task: str, name: str) -> str:
    """The present name of a tensor."""
    for old, new in renamed.TENSORS.get(task, {}).items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def convert_header(header: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint header of the old names in the current names; all other values are kept."""
    task = header["task"]
    converted = rename_keys(header, renamed.HEADER_KEYS)
    converted["task_options"] = convert_task_options(task, header["task_options"])
    converted["fields"] = {
        name: {**field, "kind": renamed.FIELD_TYPES.get(field["kind"], field["kind"])}
        for name, field in header["fields"].items()
    }
    converted["data"] = convert_data(header["data"])
    if converted.get("backbone_weights"):
        converted["backbone_weights"] = rename_keys(converted["backbone_weights"], {"licence": "license"})
    if converted.get("init_from"):
        converted["init_from"] = convert_origin(converted["init_from"])
    if "loss" in header:
        converted["loss"] = renamed.LOSSES.get(task, {}).get(header["loss"], header["loss"])
    if "recipe" in header:
        converted["recipe"] = renamed.RECIPES.get(header["recipe"], header["recipe"])
    if header.get("metrics"):
        converted["metrics"] = convert_metrics(task, header["metrics"])
    return {"format": FORMAT, **converted}


def convert_task_options(task: str, options: dict[str, Any]) -> dict[str, Any]:
    """A task's own options in the current names and values."""
    converted = rename_keys(options, renamed.TASK_OPTIONS.get(task, {}))
    for name, values in renamed.TASK_OPTION_VALUES.get(task, {}).items():
        if isinstance(converted.get(name), str):
            parts = str(converted[name]).split(",")
            converted[name] = ",".join(values.get(part, part) for part in parts)
    if "stretch" in options:
        converted["keep_aspect"] = not options["stretch"]
    return converted


def convert_data(data: dict[str, Any]) -> dict[str, Any]:
    """Name, title and terms of a dataset in the current names."""
    terms = data["terms"]
    for old, new in renamed.TERMS.items():
        terms = terms.replace(old, new)
    return {
        **data,
        "name": renamed.DATASETS.get(data["name"], data["name"]),
        "title": renamed.TITLES.get(data["title"], data["title"]),
        "terms": terms,
    }


def convert_origin(origin: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint from which a model was initialized, with that checkpoint's own origin."""
    earlier = origin["init"]
    return {
        "file": origin["file"],
        "data": convert_data(origin["data"]),
        "init_from": None if earlier is None else convert_origin(earlier),
    }


def convert_metrics(task: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics and their protocol in the current names."""
    converted = rename_keys(metrics, renamed.METRICS)
    protocol, separator, value = str(metrics.get("protocol")).partition("=")
    if "protocol" in metrics:
        converted["protocol"] = renamed.PROTOCOLS.get(task, {}).get(protocol, protocol) + separator + value
    return converted


def rename_keys(mapping: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The mapping with some of its keys renamed, in the same order."""
    return {names.get(key, key): value for key, value in mapping.items()}
