"""Backbones from partial weights files: a file with the first levels of a backbone opens these levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from . import create_backbone
from .backbone import Backbone, levels_of_tensors
from .state_dict_matching import OPTIONS_FROM_WEIGHTS
from .weights import NOT_LEARNED, OpenedWeights, open_weights


def backbone_from_partial_weights(
    name: str, weights: str | Path, levels: int | None, options: dict[str, Any]
) -> Backbone:
    """A backbone with exactly the levels that its weights file covers.

    If a file ends within a level, that level is built too, with nan for the missing weights: layers before the gap can
    be visualized by their submodule names, and layers after it are nan. The level is not in `levels` then.

    Args:
        name: name of the backbone.
        weights: a file, or "imagenet".
        levels: maximum number of levels, without a classifier; None: all that the file covers.
        options: options of the backbone.

    Raises:
        UserError: as `create_backbone`.
    """
    if not Path(weights).is_file():
        return create_backbone(name, weights, num_classes=None if levels is None else 0, levels=levels, **options)
    weights_file = open_weights(name, weights)
    # The caller's options; those that the caller left out, from the file.
    stated = {} if name.startswith("timm:") else weights_file.metadata
    merged: dict[str, Any] = {key: value for key, value in stated.items() if key in OPTIONS_FROM_WEIGHTS}
    merged |= {key: value for key, value in options.items() if value is not None}
    classes = int(weights_file.metadata["classes"]) if "classes" in weights_file.metadata else None
    with torch.device("meta"):
        full = create_backbone(name, num_classes=classes or None, **merged)
    weights_file = weights_file.for_names([full.state_dict_alias(name) for name in full.state_dict()])
    level_of = {name: level for name, level in levels_of_tensors(full).items() if not name.endswith(NOT_LEARNED)}
    gaps = [level for name, level in level_of.items() if full.state_dict_alias(name) not in weights_file.shapes]
    if levels is not None or not gaps or min(gaps) == 0:
        limits = {"levels": levels, "num_classes": 0} if levels is not None else {"num_classes": classes}
        return create_backbone(name, weights, **limits, **options)
    backbone = create_backbone(name, weights, levels=min(gaps), **options)
    return _extend_one_level(backbone, weights_file, options) or backbone


def _extend_one_level(backbone: Backbone, weights_file: OpenedWeights, options: dict[str, Any]) -> Backbone | None:
    """The backbone with one more level, as far as the file covers it; None if it covers nothing of the next level."""
    merged = {**backbone.options, **options}
    longer = create_backbone(backbone.name, levels=len(backbone.levels) + 1, num_classes=0, **merged)
    covered_state, state = backbone.state_dict(), longer.state_dict()
    beyond = [name for name in state if name not in covered_state]
    if longer.state_dict_alias(beyond[0]) not in weights_file.shapes:
        return None
    with torch.no_grad():
        for name, tensor in state.items():
            file_name = longer.state_dict_alias(name)
            if name in covered_state:
                tensor.copy_(covered_state[name])
            elif file_name in weights_file.shapes:
                tensor.copy_(weights_file.read(file_name))
            elif tensor.is_floating_point():
                tensor.fill_(float("nan"))
    longer.preprocessing = backbone.preprocessing
    longer.levels = backbone.levels
    return longer
