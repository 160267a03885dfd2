"""Every backbone keeps the contract, and the contract's check notices who does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import BACKBONES, create_backbone, list_backbones
from densevision.backbones.backbone import Backbone, Level
from densevision.backbones.conformance import check_backbone
from densevision.errors import UserError

# One light backbone a family in the default suite; all of them with -m slow.
LIGHT = ("resnet18", "resnet20_cifar", "vgg11", "vgg11_bn", "timm:resnet18")


@pytest.mark.parametrize("name", LIGHT)
def test_a_light_backbone_of_every_family_keeps_the_contract(name: str) -> None:
    check_backbone(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in LIGHT])
def test_every_backbone_keeps_the_contract(name: str) -> None:
    check_backbone(name)


@pytest.mark.parametrize("options", [{"shortcut": "B"}, {"in_channels": 1}, {"levels": 2}])
def test_options_keep_the_contract(options: dict[str, Any]) -> None:
    check_backbone(create_backbone("resnet20_cifar", num_classes=10, **options))


def test_a_backbone_with_its_classifier_keeps_the_contract() -> None:
    check_backbone(create_backbone("resnet18", num_classes=10))
    check_backbone(create_backbone("timm:resnet18", num_classes=10))


class Outsider(Backbone):
    """A small backbone that keeps the contract, to be spoilt."""

    def __init__(self) -> None:
        super().__init__()
        levels = [Level("fine", 2, 4), Level("coarse", 4, 8)]
        self._set_metadata("outsider", levels, num_classes=0, in_channels=3, built=None)
        self.first = nn.Conv2d(3, 4, 3, 2, padding=1)
        self.second = nn.Conv2d(4, 8, 3, 2, padding=1)
        self.dropout = nn.Identity()

    def features(self, image: Tensor) -> list[Tensor]:
        fine = self.first(image).relu()
        return [self.dropout(fine), self.second(fine)]


def test_an_outsiders_backbone_passes() -> None:
    check_backbone(Outsider())


class AlwaysDropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=True)


class CenteredOnItsBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean((0, 2, 3), keepdim=True)


def set_levels(*levels: Level) -> Callable[[Outsider], None]:
    return lambda backbone: setattr(backbone, "levels", levels)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (set_levels(Level("fine", 2, 5), Level("coarse", 4, 8)), "4 channels, 5 were stated"),
        (set_levels(Level("fine", 2, 4), Level("coarse", 8, 8)), "which is not stride 8"),
        (set_levels(Level("fine", 2, 4)), "states 1 levels and returns 2"),
        (set_levels(Level("coarse", 4, 4), Level("fine", 2, 8)), "strides decrease"),
        (lambda backbone: setattr(backbone, "spare", nn.Linear(2, 2)), "no level's gradient reaches spare.weight"),
        (lambda backbone: setattr(backbone, "dropout", AlwaysDropping()), "two runs in evaluation differ"),
        (lambda backbone: setattr(backbone, "dropout", CenteredOnItsBatch()), "depend on its batch"),
        (lambda backbone: setattr(backbone, "in_channels", 4), "reads 4 channels"),
    ],
)
def test_what_breaks_the_contract_is_named(spoil: Callable[[Outsider], None], message: str) -> None:
    backbone = Outsider()
    spoil(backbone)
    with pytest.raises(AssertionError, match=message):
        check_backbone(backbone)


def test_the_registry_is_sorted_and_complete() -> None:
    assert list_backbones() == list(BACKBONES)
    for name in BACKBONES:
        with torch.device("meta"):
            assert create_backbone(name, levels=1).name == name


def test_a_backbone_that_is_cut_has_no_classifier() -> None:
    backbone = create_backbone("resnet18", levels=3)
    assert [(level.name, level.stride) for level in backbone.levels] == [("stem", 2), ("layer1", 4), ("layer2", 8)]
    assert backbone.num_classes == 0
    with pytest.raises(UserError, match="built to its level layer2, without a classifier"):
        backbone(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, "did you mean 'resnet18'"),
        ("timm:resnet1888", {}, "no backbone of timm named 'resnet1888'"),
        ("vgg16", {"stride_in": "1x1"}, "vgg16 has no option 'stride_in'; it offers init"),
        ("resnet18", {"levels": 6}, "levels=6 is not in 1 to 5"),
        ("resnet18", {"levels": 0}, "levels=0 is not in 1 to 5"),
        ("resnet18", {"num_classes": -1}, "cannot have -1 classes"),
        ("resnet18", {"in_channels": 0}, "images of 0 channels"),
    ],
)
def test_mistakes_have_error_messages(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_backbone(name, **options)


def test_importing_the_backbones_imports_neither_torchvision_nor_timm() -> None:
    import os
    import subprocess
    import sys
    from pathlib import Path

    import densevision

    assert densevision.__file__ is not None
    code = "import sys, densevision.backbones; print([m for m in ('torchvision', 'timm') if m in sys.modules])"
    path = os.pathsep.join([str(Path(densevision.__path__[0]).parent), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert ran.stdout.strip() == "[]", ran.stderr
