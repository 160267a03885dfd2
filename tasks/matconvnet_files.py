"""MatConvNet's files (`.mat`) of networks: the filters, biases and normalizations of every layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.formats.mat import read_mat

PARTS = {"dagnn.Conv": ("filters", "biases"), "dagnn.BatchNorm": ("multipliers", "biases", "moments")}
"""The parameters of a layer of DagNN in their order, by the class of its block."""


def read_matconvnet(path: str | Path) -> dict[str, Tensor]:
    """The parameters of all layers, in their order; filters are out, in, height, width.

    A network of convolutions alone has them by number, as "0.filters" and "0.biases"; one with normalizations by the
    names of its layers, as "conv1.filters" and "bn_conv1.moments" (per channel the mean and the standard deviation).

    The file has a variable `net`, or the parts of one: `params` with a `name` and a `value` each and `layers` that name
    their `params` (DagNN), or `layers` with `weights`, or with `filters` and `biases` (SimpleNN).

    Raises:
        DatasetError: it is no MATLAB file up to v7, or larger than `max_file_mb`.
        ValueError: it has no such variables.
    """
    variables = read_mat(path)
    net: Any = variables.get("net", variables)
    net = net.flat[0] if isinstance(net, np.ndarray) and net.size else net
    fields = _fields(net)
    if not {"params", "layers"} & set(fields):
        raise ValueError("no variable 'net' with params or layers")
    layers = list(_records(net["layers"])) if "layers" in fields else []
    params = list(_records(net["params"])) if "params" in fields else []
    if any(_text(layer, "type") == "dagnn.BatchNorm" for layer in layers):
        return _by_name(layers, {_text(param, "name"): param["value"] for param in params})
    return _by_number(params or layers)


def _by_name(layers: list[Any], values: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for layer in layers:
        parts = PARTS.get(_text(layer, "type"), ())
        names = [str(cell.flat[0]) for cell in layer["params"].flat]
        if len(names) > len(parts) or not set(names) <= values.keys():
            raise ValueError(f"a layer '{_text(layer, 'name')}' with the parameters {', '.join(names)}")
        for part, name in zip(parts, names, strict=False):
            tensors[f"{_text(layer, 'name')}.{part}"] = _tensor(values[name], part)
    return tensors


def _by_number(entries: list[Any]) -> dict[str, Tensor]:
    arrays: list[np.ndarray] = []
    for entry in entries:
        for name in _fields(entry):
            if name in ("value", "weights", "filters", "biases"):
                stored = entry[name]
                arrays += list(stored.flat) if stored.dtype.hasobject else [stored]
    numbers = [each for each in arrays if isinstance(each, np.ndarray) and each.dtype.kind == "f" and each.size]
    if not numbers or len(numbers) % 2:
        raise ValueError(f"{len(numbers)} arrays, which are no filters and biases by turns")
    parts = ("filters", "biases")
    return {f"{index // 2}.{parts[index % 2]}": _tensor(array, parts[index % 2]) for index, array in enumerate(numbers)}


def _tensor(array: np.ndarray, part: str) -> Tensor:
    if part == "filters":
        # Height, width, in, out; MATLAB drops axes of 1 at the end.
        whole = array.reshape(array.shape + (1,) * (4 - array.ndim)).transpose(3, 2, 0, 1)
    else:
        whole = array if part == "moments" else array.reshape(-1)
    return torch.from_numpy(whole.astype(np.float32, order="C"))


def _records(array: np.ndarray) -> Iterator[Any]:
    """The entries of an array of structures, or of cells with one each."""
    for entry in array.flat:
        yield entry.flat[0] if isinstance(entry, np.ndarray) and entry.size else entry


def _fields(record: Any) -> tuple[str, ...]:
    """Names of the fields of a structure, or of the variables of a file."""
    return tuple(record) if isinstance(record, dict) else getattr(getattr(record, "dtype", None), "names", None) or ()


def _text(record: Any, name: str) -> str:
    """A text of a structure; empty where it has none."""
    return str(record[name].flat[0]) if name in _fields(record) and record[name].size else ""
