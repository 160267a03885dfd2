"""A trunk as far as a weights file goes: files that hold the first levels of a network open those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...backbones import create_backbone
from ...backbones.backbone import Backbone
from ...backbones.opened_weights import NOT_LEARNED, SETTLED_BY_WEIGHTS, OpenedWeights, levels_of_tensors
from ...backbones.weights import open_weights


def covered_trunk(network: str, weights: str | Path, levels: int | None, options: dict[str, Any]) -> Backbone:
    """A trunk with everything that its weights cover, and nothing else.

    A file that ends within a level opens that level too, with nan where it says nothing: layers in front of the gap can
    be looked at by their own names, and what depends on it has no number. The level is not among `levels` then.

    Args:
        network: a trunk's name.
        weights: a file, or "imagenet".
        levels: at most so many levels, without a classifier; None: as far as the file goes.
        options: of the network itself.

    Raises:
        UserError: as `create_backbone`.
    """
    if not Path(weights).is_file():
        return create_backbone(network, weights, classes=None if levels is None else 0, levels=levels, **options)
    opened = open_weights(network, weights)
    stated = {key: value for key, value in opened.metadata.items() if key in SETTLED_BY_WEIGHTS}
    classes = int(opened.metadata["classes"]) if "classes" in opened.metadata else None
    with torch.device("meta"):
        whole = create_backbone(network, classes=classes or None, **_offered(network, options, stated))
    level_of = {name: level for name, level in levels_of_tensors(whole).items() if not name.endswith(NOT_LEARNED)}
    gaps = [level for name, level in level_of.items() if whole.published_name(name) not in opened.shapes]
    if levels is not None or not gaps or min(gaps) == 0:
        cut = {"levels": levels, "classes": 0} if levels is not None else {"classes": classes}
        return create_backbone(network, weights, **cut, **options)
    covered = create_backbone(network, weights, levels=min(gaps), **options)
    return _continued(covered, opened, options) or covered


def _offered(network: str, options: dict[str, Any], stated: dict[str, Any]) -> dict[str, Any]:
    """The caller's options, and of what the file states what the caller left open."""
    return {**({} if network.startswith("timm:") else stated), **{k: v for k, v in options.items() if v is not None}}


def _continued(covered: Backbone, opened: OpenedWeights, options: dict[str, Any]) -> Backbone | None:
    """One level more, as far as the file goes; None where it holds nothing of that level's beginning."""
    named = {**covered.options, **options}
    longer = create_backbone(covered.name, levels=len(covered.levels) + 1, classes=0, **named)
    known, state = covered.state_dict(), longer.state_dict()
    beyond = [name for name in state if name not in known]
    if longer.published_name(beyond[0]) not in opened.shapes:
        return None
    with torch.no_grad():
        for name, tensor in state.items():
            called = longer.published_name(name)
            if name in known:
                tensor.copy_(known[name])
            elif called in opened.shapes:
                tensor.copy_(opened.read(called))
            elif tensor.is_floating_point():
                tensor.fill_(float("nan"))
    longer.preprocessing = covered.preprocessing
    longer.levels = covered.levels
    return longer
