"""What an exported file says of itself, so that a program without this package knows what to do before and after.

| key | |
| --- | --- |
| version | of densevision that wrote it |
| task, title | "depth", "Depth from one picture" |
| network | trunk, head or whole network; None where a run has not saved it yet |
| inputs | in order: name, channels in order, type, range and what it holds |
| answer | name, channels in order, unit, and its shape for one input of `size` |
| preprocessing | mean, std, range and order that the trunk's weights ask for; "where" says: in the file; or None |
| size | (height, width) of the training, in whole multiples |
| multiple | sides are continued to multiples of it, to the right and below, and the answer is cut |
| free | whether batch and sides may be others than 1 and `size` |
| shown | how a picture of `picture` is brought to the network: to `size`, through `matrix` |
| fields | of the data: names of joints and classes, edges of the skeleton |
| data, terms | what it was trained on, and what that asks of users |
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from ...datasets.fields import Image, Kind, OneHot, fields_to_json
from ...datasets.geometry import Size
from ...version import VERSION
from ..inference import Predictor
from .asking import Asked, Freedom, drawn

KEY = "densevision"
"""Where the metadata stand: among an ONNX file's properties; in a .pt2 they are the extra file "densevision.json"."""
ANSWER = "answer"
"""What an ONNX file calls its output."""
EXAMPLE: Size = (480, 640)
"""Size of the picture of which `shown` tells."""
COLOURS = {1: ("grey",), 3: ("red", "green", "blue")}


@torch.no_grad()
def facts_of(
    predictor: Predictor, asked: Asked, kinds: dict[str, Kind], freedom: Freedom, terms: list[str]
) -> dict[str, Any]:
    """The metadata as plain data.

    Args:
        predictor: whose network is exported.
        asked: that network.
        kinds: of its inputs.
        freedom: of the file.
        terms: what data and weights ask of users.
    """
    task, header, view = predictor.task, predictor.header, predictor.task.views[0]
    trunk = getattr(predictor.model, "backbone", None)
    geometry = task.shown(view, EXAMPLE, predictor.size, predictor.model)[0]
    shape = list(asked(*drawn(kinds, 1, asked.usual)).shape)
    return {
        "version": VERSION,
        "task": task.name,
        "title": task.title,
        "network": {part: header.get(part) for part in ("backbone", "head", "network")},
        "inputs": [{"name": name, **what_goes_in(kind)} for name, kind in kinds.items()],
        "answer": {"name": ANSWER, **asdict(task.output(predictor.model, predictor.fields)), "shape": shape},
        "preprocessing": None if trunk is None else {"where": "in the file", **asdict(trunk.preprocessing)},
        "size": list(asked.usual),
        "multiple": asked.multiple,
        "free": asdict(freedom),
        "shown": {
            "view": view,
            "picture": list(EXAMPLE),
            "size": list(geometry.size),
            "matrix": geometry.matrix().tolist(),
        },
        "fields": fields_to_json({**task.inputs(predictor.fields), **task.targets(predictor.fields)}),
        "data": header.get("data"),
        "terms": terms,
    }


def what_goes_in(kind: Kind) -> dict[str, Any]:
    """One input, (B, C, H, W) float32."""
    if isinstance(kind, OneHot):
        channels, holds = (*kind.names, "nothing"), "1 in the channel of the pixel's label, 0 in the others"
    else:
        count = kind.channels if isinstance(kind, Image) else 3
        channels = COLOURS.get(count, tuple(f"channel {place}" for place in range(count)))
        holds = "a picture, values of 8 bits divided by 255"
    return {"channels": channels, "type": "float32", "range": [0, 1], "holds": holds}
