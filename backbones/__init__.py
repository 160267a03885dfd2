"""Classification backbones with named feature levels.

>>> backbone = create_backbone("resnet18", levels=3)
>>> [level.name for level in backbone.levels], backbone.num_classes
(['stem', 'layer1', 'layer2'], 0)
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..registry import lookup
from .backbone import Backbone, Level, Preprocessing
from .weights import open_weights

__all__ = ["BACKBONES", "Backbone", "Level", "Preprocessing", "create_backbone", "list_backbones"]

# A backbone is one file and its lines here. Its class is called with name, num_classes, in_channels, levels, ...
BACKBONES: dict[str, str] = {
    "alexnet": "backbones.alexnet:AlexNet",
    "alexnet_tv": "backbones.alexnet:AlexNet",
    "googlenet": "backbones.googlenet:GoogLeNet",
    "googlenet_tv": "backbones.googlenet:GoogLeNet",
    "inception_resnet_v2": "backbones.inception_resnet_v2:InceptionResNetV2",
    "inception_v4": "backbones.inception_v4:InceptionV4",
    "lenet5": "backbones.lenet:LeNet5",
    "plain20_cifar": "backbones.resnet_cifar:CifarResNet",
    "plain56_cifar": "backbones.resnet_cifar:CifarResNet",
    "preact1001_cifar": "backbones.preact_resnet:PreActResNet",
    "preact110_cifar": "backbones.preact_resnet:PreActResNet",
    "preact152": "backbones.preact_resnet:PreActResNet",
    "preact164_cifar": "backbones.preact_resnet:PreActResNet",
    "preact200": "backbones.preact_resnet:PreActResNet",
    "resnet101": "backbones.resnet:ResNet",
    "resnet110_cifar": "backbones.resnet_cifar:CifarResNet",
    "resnet1202_cifar": "backbones.resnet_cifar:CifarResNet",
    "resnet152": "backbones.resnet:ResNet",
    "resnet18": "backbones.resnet:ResNet",
    "resnet20_cifar": "backbones.resnet_cifar:CifarResNet",
    "resnet32_cifar": "backbones.resnet_cifar:CifarResNet",
    "resnet34": "backbones.resnet:ResNet",
    "resnet44_cifar": "backbones.resnet_cifar:CifarResNet",
    "resnet50": "backbones.resnet:ResNet",
    "resnet56_cifar": "backbones.resnet_cifar:CifarResNet",
    "vgg11": "backbones.vgg:VGG",
    "vgg11_bn": "backbones.vgg:VGG",
    "vgg11_lrn": "backbones.vgg:VGG",
    "vgg13": "backbones.vgg:VGG",
    "vgg13_bn": "backbones.vgg:VGG",
    "vgg16": "backbones.vgg:VGG",
    "vgg16_bn": "backbones.vgg:VGG",
    "vgg16_c": "backbones.vgg:VGG",
    "vgg19": "backbones.vgg:VGG",
    "vgg19_bn": "backbones.vgg:VGG",
}

TIMM_PREFIX = "timm:"
_COMMON = ("name", "num_classes", "in_channels", "levels")


def list_backbones() -> list[str]:
    """The names of the package's own backbones, sorted. Those of timm are available as `timm:NAME`."""
    return sorted(BACKBONES)


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
    if name.startswith(TIMM_PREFIX):
        from .interop.timm import TimmBackbone

        builder: Any = TimmBackbone
    else:
        builder = lookup("backbone", name, BACKBONES)
    known = [parameter for parameter in inspect.signature(builder).parameters if parameter not in _COMMON]
    for option in options:
        if option not in known:
            offered = f"it offers {', '.join(known)}" if known else "it has none of its own"
            raise UserError(f"{name} has no option '{option}'; {offered}.")
    opened = None if weights is None else open_weights(name, weights)
    if opened is not None:
        options = opened.resolve_options(name, options, known)
    numbers = {"num_classes": num_classes, "in_channels": in_channels, "levels": levels}
    given = {key: value for key, value in numbers.items() if value is not None}
    backbone: Backbone = builder(name, **given, **options)
    stated = {key: value for key, value in options.items() if value is not None}
    backbone.options = {**backbone.options, **stated}
    if opened is not None:
        opened.load_into(backbone)
    return backbone
