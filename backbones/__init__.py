"""Classification backbones with named feature levels.

>>> backbone = create_backbone("resnet18", levels=3)
>>> [level.name for level in backbone.levels], backbone.num_classes
(['stem', 'layer1', 'layer2'], 0)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .backbone import Backbone, Level, Preprocessing
from .build import BACKBONES, build_backbone, check_options, list_backbones
from .state_dict_matching import copy_tensors, match, resolve_options
from .weights import open_weights

__all__ = ["BACKBONES", "Backbone", "Level", "Preprocessing", "create_backbone", "list_backbones"]


def create_backbone(
    name: str,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    levels: int | None = None,
    **options: Any,
) -> Backbone:
    """Create a backbone by name.

    Args:
        name: one of `list_backbones()`, or `timm:NAME` for a backbone of timm.
        weights: None for the initialization of the paper, "imagenet" for published weights, or the path of a
            `.safetensors` or `.pth` file. A file's preprocessing comes with it.
        num_classes: length of the logits; 0 builds no classifier, None is the paper's (1000; 10 for digits and CIFAR).
            Where it differs from that of the weights, the last layer is freshly initialized, with a warning.
        in_channels: channels of the image, None for the paper's (3; 1 for digits); the first convolution of the
            weights is adapted to it.
        levels: build only this many levels, counted from the finest; None builds all. A truncated backbone has no
            classifier, whatever `num_classes` is: `create_backbone("resnet18", levels=3).num_classes == 0`.
        options: the network's own options (`stride_in` of the ResNets). None means: as stated by the weights file.

    Returns:
        The backbone, in training mode, in float32.

    Raises:
        UserError: an unknown name or option; weights that are missing, belong to another network, do not cover what is
            built, or contradict an option.
    """
    check_options(name, options)
    if weights is None:
        return build_backbone(name, num_classes, in_channels, levels, **options)
    file = open_weights(name, weights)
    options = resolve_options(file, name, options)
    # A file that does not fit is refused before the network takes memory.
    with torch.device("meta"):
        found = match(build_backbone(name, num_classes, in_channels, levels, **options), file)
    backbone = build_backbone(name, num_classes, in_channels, levels, **options)
    copy_tensors(backbone, found)
    return backbone
