"""Conversion of weights: published files to checkpoints, checkpoints to fp16, and old names to those of 0.1.0."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..atomic_io import json_text
from ..backbones import list_backbones
from ..backbones.published import Converted, Layout, Tensors, own_backbone
from ..backbones.state_dict_matching import format_shape
from ..backbones.tensorflow_files import find_table
from ..backbones.weights import NOT_LEARNED, OpenedWeights, open_file, open_tensors
from ..errors import UserError, unknown_name
from ..registry import lookup
from ..version import VERSION
from . import TASKS, renamed, task_class
from .checkpoint import (
    header_text,
    is_backbone_weights,
    load_classifier,
    read_float_tensors,
    read_header,
    read_tensors,
    write_checkpoint,
)
from .checkpoint_header import FORMAT, is_current, parse_header, parse_old_header
from .model_spec import require_model
from .published import ConvertedModel


def convert_to_fp16(path: str | Path, out: str | Path) -> None:
    """Write a copy of a checkpoint with weights in fp16 and the same header; of a classifier's weights, a checkpoint.

    Tensors of one axis (biases, statistics) stay in fp32: they are small, and fp16 cannot store variances above 65504.

    Raises:
        UserError: no checkpoint, and no weights of a network with its classifier.
    """
    if is_backbone_weights(path):
        model, _, stated = load_classifier(path)
        origin = require_model(model)[1]
        header, floats = {"format": FORMAT, "version": VERSION, **stated, **origin.provenance}, model.state_dict()
    else:
        header, floats = read_header(path), read_float_tensors(path)
    tensors = {
        name: value.half() if value.is_floating_point() and value.ndim > 1 else value for name, value in floats.items()
    }
    write_checkpoint(out, tensors, header)


LAYOUTS: dict[str, str] = {
    "alexnet": "backbones.alexnet:LAYOUTS",
    "cadene": "backbones.inception_resnet_v2:LAYOUTS",
    "cifar": "backbones.resnet_cifar:LAYOUTS",
    "colorization": "tasks.colorization.published:LAYOUTS",
    "depth": "tasks.depth.published:LAYOUTS",
    "flow": "tasks.flow.published:LAYOUTS",
    "googlenet": "backbones.googlenet:LAYOUTS",
    "pose": "tasks.pose.published:LAYOUTS",
    "preact": "backbones.preact_resnet:LAYOUTS",
    "resnet": "backbones.resnet:LAYOUTS",
    "translation": "tasks.translation.published:LAYOUTS",
    "vgg": "backbones.vgg:LAYOUTS",
}
"""Published layouts, as "module:attribute", in the order in which they are tried."""

READERS: dict[str, str] = {
    ".caffemodel": "backbones.caffe_files:read_caffe_file",
    ".t7": "backbones.torch7_files:read_torch7_file",
    ".index": "backbones.tensorflow_files:read_tensorflow_checkpoint",
    ".mat": "tasks.matconvnet_files:read_matconvnet",
    ".npy": "tasks.depth.published:read_npy",
}
"""Readers of formats other than PyTorch's and safetensors, by the ending of the file; a table of TensorFlow may have
any."""


def import_weights(path: str | Path, out: str | Path, network: str | None, terms: str) -> list[str]:
    """Convert published weights to a file of this package: a checkpoint, or the weights of a backbone.

    Args:
        path: the published file.
        out: the file to write.
        network: name of the backbone or model that it shall become; None: what its layout says.
        terms: license terms of the weights and their training data.

    Returns:
        What was recognized, stripped, left out and changed, one sentence each.

    Raises:
        UserError: there is no such file or network, no layout is recognized, or a tensor is missing, unexpected or of
            another shape.
    """
    path = Path(path)
    said, converted = convert_published(open_published(path), network)
    converted.save(Path(out), path.name, terms)
    return said


def open_published(path: Path) -> OpenedWeights:
    """Open a file of one of the `READERS`, of PyTorch or of safetensors.

    Raises:
        UserError: there is no such file, or it cannot be read, or not safely.
    """
    table = find_table(path)
    path, ending = (path, path.suffix.lower()) if table is None else (table, ".index")
    if ending not in READERS or not path.is_file():
        return open_file(path)
    reader: Callable[[Path], Tensors] = lookup("reader", ending, READERS)
    try:
        return open_tensors(path.name, {}, reader(path))
    except (ValueError, OSError, IndexError, TypeError) as error:
        raise UserError(f"{path} is not a {ending} file that can be read ({error}): download it again.") from error


def convert_published(file: OpenedWeights, network: str | None = None) -> tuple[list[str], Converted]:
    """Recognize the layout of a file by its names and shapes, and convert its tensors.

    Returns:
        Sentences that say what was recognized and done, and the converted weights.

    Raises:
        UserError: as `import_weights`.
    """
    found = recognize(file, network)
    if found is None:
        names = ", ".join(f"'{name}' {format_shape(shape)}" for name, shape in list(file.shapes.items())[:3])
        known = ", ".join(layout.title for layout in layouts() if network in (None, *layout.networks))
        raise UserError(
            f"{file.source} has no layout that is known{'' if network is None else f' for {network}'} (its tensors: "
            f"{names}, ...); known are {known or 'none'}, and the names of our own networks with --as NETWORK."
        )
    layout, prefix = found
    inner = file.below(prefix)
    said = [f"The layout is that of {layout.title}."]
    if prefix:
        said.append(f"Stripped the prefix '{prefix}' of {len(inner.shapes)} names.")
    if others := len(file.shapes) - len(inner.shapes):
        said.append(f"Left out {others} tensors without that prefix.")
    try:
        tensors = {name: inner.read(name) for name in inner.shapes}
        converted = layout.convert({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    except (KeyError, RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UserError(f"{file.source} is not complete as {layout.title} is ({error!r}): copy it again.") from error
    for name, tensor in converted.tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(f"{file.source} contains values that are not finite, in '{name}': copy it again.")
    said.append(f"It becomes {converted.network}.")
    return [*said, *(f"{note[:1].upper()}{note[1:]}." for note in converted.notes)], converted


def layouts() -> list[Layout]:
    """All published layouts."""
    return [layout for name in LAYOUTS for layout in lookup("group of layouts", name, LAYOUTS)]


def recognize(file: OpenedWeights, network: str | None = None) -> tuple[Layout, str] | None:
    """The first layout that a file has, for a network if one is named, and the prefix of its names in the file.

    Raises:
        UserError: no backbone or model has this name.
    """
    models = {model: task for task in TASKS for model in task_class(task).models}
    known = {*models, *list_backbones(), *(name for layout in layouts() for name in layout.networks)}
    if network is not None and network not in known:
        raise unknown_name("backbone or model", network, known)
    for layout in itertools.chain(layouts(), own_layouts(models, network)):
        if network in (None, *layout.networks):
            prefix = file.prefix_of(layout.signature)
            if layout.recognizes(file.below(prefix).shapes):
                return layout, prefix
    return None


def own_layouts(models: Mapping[str, str], network: str | None) -> Iterator[Layout]:
    """Files in our own names, which are torchvision's where it has the network: of every network, or of the named one.

    Args:
        models: the task of every model.
        network: name of a backbone or model.
    """
    for model, task in models.items():
        if network in (None, model):
            # Some are built with an option of their task only.
            with suppress(UserError):
                yield own_model(model, task)
    for backbone in list_backbones():
        if network in (None, backbone):
            yield own_backbone(backbone)


def own_model(name: str, task: str) -> Layout:
    """The layout of a model's own names."""

    def convert(tensors: Tensors) -> Converted:
        return ConvertedModel(name, tensors, task)

    with torch.device("meta"):
        own = ConvertedModel(name, {}, task).spec.build().published_module.state_dict()
    signature = {key: tuple(tensor.shape) for key, tensor in own.items() if not key.endswith(NOT_LEARNED)}
    return Layout(f"our {name}", (name,), signature, convert)


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
