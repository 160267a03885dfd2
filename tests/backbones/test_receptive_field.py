"""Receptive fields of the facts' section 1.5, and the same by gradient support."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Backbone, Level, Preprocessing
from densevision.backbones.receptive_field import ReceptiveField, receptive_fields

RESNET_SIZES = {
    ("resnet18", None): (7, 43, 99, 211, 435),
    ("resnet34", None): (7, 59, 179, 547, 899),
    ("resnet50", "3x3"): (7, 35, 91, 267, 427),  # trap 11: 427 against 483
    ("resnet50", "1x1"): (7, 35, 99, 291, 483),
    ("resnet101", "3x3"): (7, 35, 91, 811, 971),
    ("resnet101", "1x1"): (7, 35, 99, 835, 1027),
    ("resnet152", "3x3"): (7, 35, 155, 1291, 1451),
    ("resnet152", "1x1"): (7, 35, 163, 1315, 1507),
}
CIFAR_SIZES = {
    "resnet20_cifar": (15, 37, 81),
    "resnet56_cifar": (39, 109, 249),
    "resnet110_cifar": (75, 217, 501),
}
VGG_SIZES = {
    "vgg11": (3, 8, 26, 62, 134, 150),
    "vgg13": (5, 14, 32, 68, 140, 156),
    "vgg16": (5, 14, 40, 92, 196, 212),
    "vgg19": (5, 14, 48, 116, 252, 268),
    "vgg16_bn": (5, 14, 40, 92, 196, 212),
}


def fields_of(name: str, **options: Any) -> list[ReceptiveField]:
    with torch.device("meta"):
        trunk = create_backbone(name, classes=0, **options)
    fields = receptive_fields(trunk)
    assert list(fields) == [level.name for level in trunk.levels]
    assert [field.jump for field in fields.values()] == [level.stride for level in trunk.levels]
    return list(fields.values())


@pytest.mark.parametrize(("name", "stride_in"), RESNET_SIZES)
def test_resnets(name: str, stride_in: str | None) -> None:
    fields = fields_of(name, stride_in=stride_in)
    assert tuple(field.size for field in fields) == RESNET_SIZES[name, stride_in]
    assert {field.centre for field in fields} == {0}  # trap 15: no offset in a ResNet


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("name", CIFAR_SIZES)
def test_cifar_resnets(name: str, shortcut: str) -> None:
    fields = fields_of(name, shortcut=shortcut)
    assert tuple(field.size for field in fields) == CIFAR_SIZES[name]
    assert {field.centre for field in fields} == {0}


@pytest.mark.parametrize("name", VGG_SIZES)
def test_vggs(name: str) -> None:
    fields = fields_of(name)
    assert tuple(field.size for field in fields) == VGG_SIZES[name]
    # trap 15: 15.5 pixels at stride 32
    assert [field.centre for field in fields] == [(field.jump - 1) / 2 for field in fields]


def test_timms_trunks_are_followed_too() -> None:
    fields = receptive_fields(create_backbone("timm:resnet18", classes=0))
    assert tuple(field.size for field in fields.values()) == RESNET_SIZES["resnet18", None]


@pytest.mark.parametrize(("name", "levels"), [("resnet18", 3), ("vgg11", 4), ("resnet20_cifar", 2)])
def test_fields_are_the_support_of_the_gradient(name: str, levels: int) -> None:
    trunk = create_backbone(name, levels=levels).double().eval()
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        # Maxima pass a gradient to one pixel only; means of the same windows pass it to all.
        for child, below in module.named_children():
            if isinstance(below, nn.MaxPool2d):
                setattr(module, child, nn.AvgPool2d(below.kernel_size, below.stride, below.padding))
    picture = torch.ones(1, 3, 160, 160, dtype=torch.float64, requires_grad=True)
    for field, made in zip(receptive_fields(trunk).values(), trunk.features(picture), strict=True):
        unit = made.shape[-1] // 2
        (gradient,) = torch.autograd.grad(made[0, :, unit, unit].sum(), picture, retain_graph=True)
        seen = gradient[0].abs().amax((0, 1)).nonzero().flatten()
        assert (int(seen[0]), int(seen[-1])) == field.pixels(unit)


def test_units_are_exactly_those_that_an_occlusion_changes() -> None:
    torch.manual_seed(0)
    trunk = create_backbone("vgg11", levels=3).double().eval()
    picture = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    occluded = picture.clone()
    occluded[:, :, :, 41:50] += 1
    for level, before, after in zip(
        receptive_fields(trunk).values(), trunk.features(picture), trunk.features(occluded), strict=True
    ):
        changed = (before != after)[0].any(0).any(0).nonzero().flatten()
        units = level.units(41, 50, before.shape[-1])
        assert units.start <= int(changed[0])
        assert int(changed[-1]) < units.stop
        assert len(units) - len(changed) <= 2  # a maximum need not pass a change on


class Recalibrated(Backbone):
    """A convolution whose channels are weighed by their global mean."""

    def __init__(self) -> None:
        super().__init__()
        self.describe("recalibrated", [Level("only", 1, 4)], classes=0, in_channels=3, built=None)
        self.convolution = nn.Conv2d(3, 4, (3, 5), padding=(1, 2))

    def features(self, image: Tensor) -> list[Tensor]:
        x = self.convolution(image)
        return [x * x.mean((2, 3), keepdim=True).sigmoid()]


def test_behind_a_global_operation_the_field_is_the_whole_picture() -> None:
    field = receptive_fields(Recalibrated())["only"]
    assert math.isinf(field.size)
    assert field.jump == 1
    assert field.units(3, 4, 10) == range(10)


def test_axes_with_other_kernels_have_other_fields() -> None:
    class Oblong(Recalibrated):
        def features(self, image: Tensor) -> list[Tensor]:
            return [self.convolution(image)]

    assert receptive_fields(Oblong(), "height")["only"].size == 3
    assert receptive_fields(Oblong(), "width")["only"].size == 5


def test_preprocessing_of_other_channels() -> None:
    colour = Preprocessing(mean=(0.1, 0.2, 0.6), std=(1, 2, 3), order="BGR")
    assert colour.for_channels(3) is colour
    assert colour.for_channels(1).mean == pytest.approx((0.3,))
    four = colour.for_channels(4)
    assert four.mean == (0.6, 0.2, 0.1, 0.6)
    assert four.order == "RGB"
