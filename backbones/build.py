"""Registry of backbones, and their construction without weights."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from pydantic import create_model

from ..atomic_io import json_text
from ..errors import UserError
from ..registry import lookup
from ..schema import Closed, validate_json
from .backbone import Backbone

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
    "preact101_cifar": "backbones.preact_resnet:PreActResNet",
    "preact110_cifar": "backbones.preact_resnet:PreActResNet",
    "preact152": "backbones.preact_resnet:PreActResNet",
    "preact152_cifar": "backbones.preact_resnet:PreActResNet",
    "preact164_cifar": "backbones.preact_resnet:PreActResNet",
    "preact18_cifar": "backbones.preact_resnet:PreActResNet",
    "preact200": "backbones.preact_resnet:PreActResNet",
    "preact34_cifar": "backbones.preact_resnet:PreActResNet",
    "preact50_cifar": "backbones.preact_resnet:PreActResNet",
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
TIMM_BACKBONE = "backbones.interop.timm:TimmBackbone"
_COMMON = ("name", "num_classes", "in_channels", "levels")
AUXILIARY_OPTION = "auxiliary"
"""The option that builds classifiers for training alone."""


def list_backbones() -> list[str]:
    """The names of the package's own backbones, sorted. Those of timm are available as `timm:NAME`."""
    return sorted(BACKBONES)


def check_options(name: str, options: Iterable[str]) -> list[str]:
    """Names of all of a backbone's own options, after checking that the given ones are among them.

    Raises:
        UserError: an unknown name or option.
    """
    known = [parameter for parameter in inspect.signature(_backbone_class(name)).parameters if parameter not in _COMMON]
    for option in options:
        if option not in known:
            offered = f"it offers {', '.join(known)}" if known else "it has none of its own"
            raise UserError(f"{name} has no option '{option}'; {offered}.")
    return known


def stored_options(name: str, options: dict[str, Any], source: str) -> dict[str, Any]:
    """A backbone's options from a file, validated by the type hints of its constructor.

    Args:
        name: name of the backbone.
        options: `levels` and the backbone's own options, from JSON.
        source: what states them, to begin the message.

    Raises:
        UserError: an unknown name or option, or a value of another type.
    """
    check_options(name, options.keys() - {"levels"})
    parameters = inspect.signature(_backbone_class(name), eval_str=True).parameters
    keys: dict[str, Any] = {option: (parameters[option].annotation, None) for option in options}
    validate_json(create_model(name, __base__=Closed, **keys), json_text(options), source, "copy the file again")
    return options


def build_backbone(
    name: str,
    num_classes: int | None = None,
    in_channels: int | None = None,
    levels: int | None = None,
    **options: Any,
) -> Backbone:
    """Build a backbone with the initialization of its paper.

    Args:
        name, num_classes, in_channels, levels, options: as in `create_backbone`.

    Raises:
        UserError: an unknown name or option, or an impossible number.
    """
    check_options(name, options)
    numbers = {"num_classes": num_classes, "in_channels": in_channels, "levels": levels}
    given = {key: value for key, value in numbers.items() if value is not None}
    backbone: Backbone = _backbone_class(name)(name, **given, **options)
    stated = {key: value for key, value in options.items() if value is not None}
    # Its own form of an option comes first: it is plain.
    backbone.options = {**stated, **backbone.options}
    return backbone


def complete_backbone(backbone: Backbone) -> Backbone | None:
    """The complete network of this name, with its default input channels and all optional parts, on the meta device.

    None where the name is not in the registry.
    """
    options: dict[str, Any] = {key: key == AUXILIARY_OPTION or value for key, value in backbone.options.items()}
    try:
        with torch.device("meta"):
            return build_backbone(backbone.name, num_classes=1, **options)
    except UserError:
        return None


def _backbone_class(name: str) -> Any:
    if name.startswith(TIMM_PREFIX):
        return lookup("backbone", TIMM_PREFIX, {TIMM_PREFIX: TIMM_BACKBONE})
    return lookup("backbone", name, BACKBONES)
