"""Networks of MatConvNet for tests, as its `saveobj` returns them and `scipy.io.savemat` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

EPS = 1e-4
PARTS = {"dagnn.Conv": ("filter", "bias"), "dagnn.BatchNorm": ("mult", "bias", "moments"), "dagnn.ReLU": ()}


def dagnn(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The parts of a DagNN with convolutions and normalizations by name, and a layer without parameters."""
    types: dict[str, str] = {"relu": "dagnn.ReLU"}
    values: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
        layer, part = name.rsplit(".", 1)
        normalization = f"{layer}.running_mean" in state
        types[layer] = "dagnn.BatchNorm" if normalization else "dagnn.Conv"
        if part == "running_mean":
            deviation = (state[f"{layer}.running_var"] + EPS).sqrt()
            values[f"{layer}_moments"] = torch.stack([tensor, deviation], 1).numpy()
        elif part == "weight" and not normalization:
            filters = tensor.permute(2, 3, 1, 0).numpy()
            # MATLAB has no axes of 1 at the end.
            values[f"{layer}_filter"] = filters[..., 0] if len(tensor) == 1 else filters
        elif part != "running_var":
            values[f"{layer}_{'bias' if part == 'bias' else 'mult'}"] = tensor[:, None].numpy()
    layers = []
    for layer, kind in types.items():
        names = [f"{layer}_{part}" for part in PARTS[kind] if f"{layer}_{part}" in values]
        layers.append({"name": layer, "type": kind, "params": cells(names)})
    params = [{"name": name, "value": value, "learningRate": 1.0} for name, value in values.items()]
    return {"layers": structures(layers), "params": structures(params), "meta": 1.0}


def cells(values: list[Any]) -> np.ndarray:
    array = np.empty((1, len(values)), object)
    array[0, :] = values
    return array


def structures(records: list[dict[str, Any]]) -> np.ndarray:
    array = np.empty((1, len(records)), [(name, object) for name in records[0]])
    for number, record in enumerate(records):
        array[0, number] = tuple(record.values())
    return array
