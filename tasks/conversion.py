"""Conversion of checkpoints from before the renaming in 0.1.0 (`densevision weights convert`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from ..atomic_io import atomic_path, json_text
from ..errors import UserError
from . import renamed
from .checkpoint import FORMAT, HEADER, raw_header


def convert_checkpoint(path: str | Path, out: str | Path) -> None:
    """Write the tensors of a checkpoint, unchanged, with a header in the current names.

    Args:
        path: checkpoint with a header in the old names.
        out: the file to write.

    Raises:
        UserError: not a checkpoint, or one that already has the current names.
    """
    header = raw_header(path)
    if header.get("format") == FORMAT:
        raise UserError(f"{path} already has the current names: it needs no conversion.")
    with safe_open(path, "pt") as file:
        tensors = {
            rename_tensor(header["task"], name): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118 - not a dict
        }
    with atomic_path(out) as aside:
        save_file(tensors, aside, metadata={HEADER: json_text(convert_header(header), ensure_ascii=False)})


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
