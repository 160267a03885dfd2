"""A small depth network as after training, for the tests of predictors and of tiled inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from densevision.backbones import create_backbone
from densevision.datasets.field_types import Depth as DepthKind
from densevision.datasets.field_types import FieldType, Image
from densevision.tasks.depth import Depth

FIELDS: dict[str, FieldType] = {"image": Image(), "depth": DepthKind()}


def depth_network(backbone: str = "resnet20_cifar", levels: int | None = None, head: str = "unet") -> Any:
    """A depth network as after training: statistics other than 0 and 1, predictions of a few meters."""
    torch.manual_seed(0)
    encoder = create_backbone(backbone, num_classes=0, levels=levels)
    model: Any = Depth().build(FIELDS, encoder, head, None)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    with torch.no_grad():
        model.eval().head.predict.weight.mul_(0.3 / model(torch.rand(1, 3, 64, 64)).log().std())
    return model
