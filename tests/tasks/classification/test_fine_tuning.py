"""One's own classifier on a trained backbone: the backbone moves slowly or not at all, the classifier freely."""

from __future__ import annotations

import torch

from densevision.backbones import create_backbone
from densevision.tasks.network import Classifier
from densevision.tasks.training.optimizers import freeze_backbone, parameter_groups
from densevision.tasks.training.options import DEFAULTS


def test_the_backbones_rate_is_not_its_classifiers() -> None:
    model = Classifier(create_backbone("resnet20_cifar", num_classes=3))
    groups = parameter_groups(model, DEFAULTS, 0.1)
    fast = [parameter for group in groups if group["lr_scale"] == 1 for parameter in group["params"]]
    assert {id(parameter) for parameter in fast} == {
        id(parameter) for parameter in model.backbone.get_submodule("fc").parameters()
    }
    count = sum(len(group["params"]) for group in groups)
    assert count == len(list(model.parameters()))


def test_a_frozen_backbone_leaves_its_classifier_to_learn() -> None:
    with torch.device("meta"):
        model = Classifier(create_backbone("vgg11", num_classes=3))
    freeze_backbone(model)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {f"backbone.classifier.{layer}.{part}" for layer in (0, 3, 6) for part in ("weight", "bias")}
