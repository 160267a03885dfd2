"""Receptive fields of the facts' section 1.5, and the same by gradient support."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from densevision.backbones import create_backbone, list_backbones
from densevision.backbones.backbone import Backbone, Level, Preprocessing, features_on_meta
from densevision.backbones.receptive_field import ReceptiveField, layer_fields, receptive_fields

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
# By block, and the pool behind it. Column C has B's values: its third convolutions are 1x1.
VGG_SIZES = {
    "vgg11": ((3,), 4, (8,), 10, (18, 26), 30, (46, 62), 70, (102, 134), 150),
    "vgg13": ((3, 5), 6, (10, 14), 16, (24, 32), 36, (52, 68), 76, (108, 140), 156),
    "vgg16": ((3, 5), 6, (10, 14), 16, (24, 32, 40), 44, (60, 76, 92), 100, (132, 164, 196), 212),
    "vgg19": ((3, 5), 6, (10, 14), 16, (24, 32, 40, 48), 52, (68, 84, 100, 116), 124, (156, 188, 220, 252), 268),
}
VGG_FC6 = {"vgg11": 342, "vgg13": 348, "vgg16": 404, "vgg19": 460}
ALEXNET_LAYERS = ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5")
ALEXNET_SIZES = (11, 19, 51, 67, 99, 131, 163, 195)
ALEXNET_CENTERS = {"alexnet": (5, 9, 9, 17, 17, 17, 17, 33), "alexnet_tv": (3, 7, 7, 15, 15, 15, 15, 31)}
ALEXNET_FIRSTS = {"alexnet": (0, 0, -16, -16, -32, -48, -64, -64), "alexnet_tv": (-2, -2, -18, -18, -34, -50, -66, -66)}
GOOGLENET_LAYERS = (
    *("conv1", "pool1", "conv2", "pool2", "inception_3a", "inception_3b", "pool3", "inception_4a", "inception_4b"),
    *("inception_4c", "inception_4d", "inception_4e", "pool4", "inception_5a", "inception_5b"),
)
GOOGLENET_SIZES = {  # trap 9: 715 against 379
    "googlenet": (7, 11, 19, 27, 59, 91, 107, 171, 235, 299, 363, 427, 459, 587, 715),
    "googlenet_tv": (7, 11, 19, 27, 43, 59, 75, 107, 139, 171, 203, 235, 251, 315, 379),
}
GOOGLENET_CENTERS = {
    "googlenet": (0, 2, 2, 6, 6, 6, 14, 14, 14, 14, 14, 14, 30, 30, 30),
    "googlenet_tv": (0, 2, 2, 6, 6, 6, 14, 14, 14, 14, 14, 14, 22, 22, 22),
}
WIDEST_QUICK = 220
"""Pixels. Wider fields are left to the slow test, and so are networks of a thousand layers."""
# They take seconds each; `-m slow` runs all.
VERY_DEEP = (
    "preact1001_cifar", "resnet1202_cifar", "resnet110_cifar", "resnet152", "preact110_cifar", "preact152",
    "preact164_cifar", "preact101_cifar", "preact152_cifar", "preact200", "inception_v4", "inception_resnet_v2",
)  # fmt: skip


def backbone_of(name: str, **options: Any) -> Backbone:
    wanted: dict[str, Any] = {"num_classes": 0} | options
    with torch.device("meta"):
        return create_backbone(name, **wanted)


def fields_of(name: str, **options: Any) -> list[ReceptiveField]:
    backbone = backbone_of(name, **options)
    fields = receptive_fields(backbone)
    assert list(fields) == [level.name for level in backbone.levels]
    assert [field.jump for field in fields.values()] == [level.stride for level in backbone.levels]
    return list(fields.values())


def layers_of(name: str, names: Iterator[str] | tuple[str, ...]) -> list[ReceptiveField]:
    found = layer_fields(backbone_of(name))
    return [found[layer] for layer in names]


class Behind(Backbone):
    """One more layer on the coarsest level of a backbone."""

    def __init__(self, backbone: Backbone, layer: Any) -> None:
        super().__init__()
        self._set_metadata(
            "behind", [Level("layer", backbone.levels[-1].stride, 1)], num_classes=0, in_channels=3, built=None
        )
        self.backbone, self.layer = backbone, layer

    def features(self, image: Tensor) -> list[Tensor]:
        return [self.layer(self.backbone, image)]


@pytest.mark.parametrize(("name", "stride_in"), RESNET_SIZES)
def test_resnets(name: str, stride_in: str | None) -> None:
    fields = fields_of(name, stride_in=stride_in)
    assert tuple(field.size for field in fields) == RESNET_SIZES[name, stride_in]
    assert {field.center for field in fields} == {0}  # trap 15: no offset in a ResNet


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("name", CIFAR_SIZES)
def test_cifar_resnets(name: str, shortcut: str) -> None:
    fields = fields_of(name, shortcut=shortcut)
    assert tuple(field.size for field in fields) == CIFAR_SIZES[name]
    assert {field.center for field in fields} == {0}


@pytest.mark.parametrize("name", VGG_SIZES)
@pytest.mark.parametrize("variant", ["", "_bn"])
def test_vggs_convolution_by_convolution(name: str, variant: str) -> None:
    backbone = backbone_of(name + variant)
    sizes = [size for row in VGG_SIZES[name] for size in (row if isinstance(row, tuple) else (row,))]
    fields = list(layer_fields(backbone).values())
    assert [field.size for field in fields] == sizes
    # trap 15: 15.5 pixels at stride 32
    assert [field.center for field in fields] == [(field.jump - 1) / 2 for field in fields]
    ends = [row[-1] for row in VGG_SIZES[name][::2] if isinstance(row, tuple)]
    assert [field.size for field in fields_of(name + variant)] == [*ends, sizes[-1]]


@pytest.mark.parametrize(("name", "like"), [("vgg16_c", "vgg13"), ("vgg11_lrn", "vgg11")])
def test_places_seen_alone_widen_nothing(name: str, like: str) -> None:
    assert fields_of(name) == fields_of(like)


@pytest.mark.parametrize("name", VGG_FC6)
def test_the_first_fully_connected_layer_of_a_vgg_sees_more_than_its_image(name: str) -> None:
    field = receptive_fields(
        Behind(backbone_of(name, num_classes=10), lambda backbone, image: backbone.forward_dense(image))
    )["layer"]
    assert (field.size, field.jump, field.center) == (VGG_FC6[name], 32, 111.5)


@pytest.mark.parametrize("name", ALEXNET_CENTERS)
def test_alexnets_layer_by_layer(name: str) -> None:
    fields = layers_of(name, tuple(f"convolutions.{layer}" for layer in ALEXNET_LAYERS))
    assert tuple(field.size for field in fields) == ALEXNET_SIZES
    assert tuple(field.jump for field in fields) == (4, 8, 8, 16, 16, 16, 16, 32)
    assert tuple(field.center for field in fields) == ALEXNET_CENTERS[name]
    assert tuple(field.first for field in fields) == ALEXNET_FIRSTS[name]
    assert [field.size for field in fields_of(name)] == [11, 51, 163, 195]


@pytest.mark.parametrize(("name", "center"), [("alexnet", 113), ("alexnet_tv", 111)])
def test_fc6_of_alexnet(name: str, center: int) -> None:
    def fc6(backbone: Backbone, image: Tensor) -> Tensor:
        return functional.avg_pool2d(backbone.features(image)[-1], 6, 1)  # 6x6 units, without padding

    field = receptive_fields(Behind(backbone_of(name), fc6))["layer"]
    assert (field.size, field.jump, field.center) == (355, 32, center)


@pytest.mark.parametrize("name", GOOGLENET_SIZES)
def test_googlenets_module_by_module(name: str) -> None:
    fields = layers_of(name, GOOGLENET_LAYERS)
    assert tuple(field.size for field in fields) == GOOGLENET_SIZES[name]
    assert tuple(field.jump for field in fields) == (2, 4, 4, 8, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32, 32)
    assert tuple(field.center for field in fields) == GOOGLENET_CENTERS[name]
    fields_of(name)


@pytest.mark.parametrize(("name", "size", "center"), [("googlenet", 907, 126), ("googlenet_tv", 571, 118)])
def test_the_last_pool_of_a_googlenet(name: str, size: int, center: int) -> None:
    def pooled(backbone: Backbone, image: Tensor) -> Tensor:
        return functional.avg_pool2d(backbone.features(image)[-1], 7, 1)

    field = receptive_fields(Behind(backbone_of(name), pooled))["layer"]
    assert (field.size, field.jump, field.center) == (size, 32, center)


def test_lenet5() -> None:
    fields = fields_of("lenet5")
    assert [field.size for field in fields] == [5, 6, 14, 16, 32]
    assert [field.jump for field in fields] == [1, 2, 2, 4, 4]
    assert [field.center for field in fields] == [2, 2.5, 6.5, 7.5, 15.5]


# facts 1.4: the figures of the published code. Rows of seven and columns of seven see the same.
@pytest.mark.parametrize(("name", "size"), [("inception_v4", 2071), ("inception_resnet_v2", 3039)])
def test_the_deep_inceptions(name: str, size: int) -> None:
    fields = receptive_fields(backbone_of(name))
    assert list(fields.values())[-1].size == size
    assert fields == receptive_fields(backbone_of(name), "height")


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet152"])
def test_stem_and_pool_of_a_resnet(name: str) -> None:
    assert [(field.size, field.jump) for field in layers_of(name, ("conv1", "maxpool"))] == [(7, 2), (11, 4)]


# facts 1.5, "grid centering": the mean of the units' centers minus the image's center.
@pytest.mark.parametrize(
    ("name", "side", "offset"),
    [
        ("vgg16", 224, 0),
        ("alexnet", 227, 0),
        ("alexnet_tv", 224, -0.5),
        ("googlenet", 224, 14.5),
        ("googlenet_tv", 224, 6.5),
        ("resnet50", 224, -15.5),
        ("resnet50", 225, 0),
    ],
)
def test_offset_of_the_coarsest_grid_from_the_image(name: str, side: int, offset: float) -> None:
    backbone = backbone_of(name)
    maps, _ = features_on_meta(backbone, torch.empty(1, 3, side, side, device="meta"))
    field = list(receptive_fields(backbone).values())[-1]
    assert field.center + field.jump * (maps[-1].shape[-1] - 1) / 2 - (side - 1) / 2 == offset


def test_timms_backbones_are_followed_too() -> None:
    fields = receptive_fields(create_backbone("timm:resnet18", num_classes=0))
    assert tuple(field.size for field in fields.values()) == RESNET_SIZES["resnet18", None]


# Gradient support


@pytest.fixture
def mean_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maxima pass a gradient to one pixel only; means of the same windows pass it to all."""

    def mean_of_the_same_window(
        maps: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, **rounding: Any
    ) -> Tensor:
        assert dilation == 1
        return functional.avg_pool2d(maps, kernel_size, stride, padding, rounding.get("ceil_mode", False))

    monkeypatch.setattr(functional, "max_pool2d", mean_of_the_same_window)


def pass_every_gradient(backbone: Backbone) -> None:
    """Weights of one sign, so that no two ways cancel, and gradients of 0 and 1, so that none fades on a long way."""
    for name, parameter in backbone.requires_grad_(False).named_parameters():
        with torch.no_grad():
            parameter.fill_(1 / parameter[0].numel() if parameter.ndim > 1 else float(not name.endswith("bias")))

    def see_that_any_arrives(_module: nn.Module, _inputs: Any, made: Tensor) -> None:
        if made.requires_grad:
            made.register_hook(lambda gradient: (gradient != 0).to(gradient.dtype))

    for module in backbone.modules():
        if not list(module.children()):
            module.register_forward_hook(see_that_any_arrives)


def narrow_image(backbone: Backbone, width: int) -> Tensor:
    """Ones, no higher than the backbone needs: along a row, a field needs the width only."""
    for height in (16, 32, 48, 64, 80, 96, 128, 160):
        image = torch.ones(1, backbone.in_channels, height, width)
        try:
            features_on_meta(backbone, image.to("meta"))
        except RuntimeError:
            continue
        return image.requires_grad_()
    raise AssertionError(f"{backbone.name} takes no low image")


def check_support(name: str, along: str, **options: Any) -> None:
    backbone = create_backbone(name, num_classes=0, **options).eval()
    fields = receptive_fields(backbone, along)
    pass_every_gradient(backbone)
    widest = max(field.size for field in fields.values())
    image = narrow_image(backbone, int(widest) + 4 * backbone.levels[-1].stride)
    if along == "height":
        image = image.detach().transpose(-1, -2).contiguous().requires_grad_()
    for (level, field), made in zip(fields.items(), backbone.features(image), strict=True):
        row, column = made.shape[-2] // 2, made.shape[-1] // 2
        (gradient,) = torch.autograd.grad(made[0, :, row, column].sum(), image, retain_graph=True)
        seen = gradient[0].sum(0).amax(-1 if along == "height" else -2).nonzero().flatten()
        unit = row if along == "height" else column
        assert (int(seen[0]), int(seen[-1])) == field.pixels(unit), level


@pytest.mark.parametrize("name", [name for name in list_backbones() if name not in VERY_DEEP])
def test_fields_are_the_support_of_the_gradient(name: str, mean_pools: None) -> None:
    fields = receptive_fields(backbone_of(name)).values()
    assert {field.global_operation for field in fields} == {None}
    narrow = [field for field in fields if field.size <= WIDEST_QUICK]
    if narrow:
        check_support(name, "width", levels=len(narrow))


@pytest.mark.slow
@pytest.mark.parametrize("name", list_backbones())
def test_all_fields_are_the_support_of_the_gradient(name: str, mean_pools: None) -> None:
    check_support(name, "width")


@pytest.mark.parametrize("along", ["width", "height"])
def test_fields_are_the_support_of_the_gradient_with_the_papers_stride(along: str, mean_pools: None) -> None:
    check_support("resnet50", along, stride_in="1x1")


def test_units_are_exactly_those_that_an_occlusion_changes() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("vgg11", levels=3).double().eval()
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    occluded = image.clone()
    occluded[:, :, :, 41:50] += 1
    for level, before, after in zip(
        receptive_fields(backbone).values(), backbone.features(image), backbone.features(occluded), strict=True
    ):
        changed = (before != after)[0].any(0).any(0).nonzero().flatten()
        units = level.units(41, 50, before.shape[-1])
        assert units.start <= int(changed[0])
        assert int(changed[-1]) < units.stop
        assert len(units) - len(changed) <= 2  # a maximum need not pass a change on


# facts 4, "Incremental (tiled) occlusion": pixels 100 to 115 of 227, and how many units each layer has.
@pytest.mark.parametrize(
    ("layer", "count", "first", "last"),
    [
        ("conv1", 55, 23, 28),
        ("pool1", 27, 11, 14),
        ("conv2", 27, 9, 16),
        ("pool2", 13, 4, 8),
        ("conv3", 13, 3, 9),
        ("conv4", 13, 2, 10),
        ("conv5", 13, 1, 11),
        ("pool5", 6, 0, 5),
    ],
)
def test_units_of_alexnet_that_an_occlusion_reaches(layer: str, count: int, first: int, last: int) -> None:
    (field,) = layers_of("alexnet", (f"convolutions.{layer}",))
    assert field.units(100, 116, count) == range(first, last + 1)


# What is not a window


class Recalibrated(Backbone):
    """A convolution whose channels are weighed by their global mean."""

    def __init__(self) -> None:
        super().__init__()
        self._set_metadata("recalibrated", [Level("only", 1, 4)], num_classes=0, in_channels=3, built=None)
        self.convolution = nn.Conv2d(3, 4, (3, 5), padding=(1, 2))

    def features(self, image: Tensor) -> list[Tensor]:
        x = self.convolution(image)
        return [x * x.mean((2, 3), keepdim=True).sigmoid()]


def test_behind_a_global_operation_the_field_is_the_whole_image() -> None:
    field = receptive_fields(Recalibrated())["only"]
    assert math.isinf(field.size) and math.isinf(field.overlap)
    assert field.global_operation == "mean over positions"
    assert field.jump == 1
    assert field.units(3, 4, 10) == range(10)


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("timm:seresnet18", "mean over positions in model.layer1.0.se"),
        ("timm:resnetv2_50x1_bit", "group normalization in model.stages_0.blocks.0.norm1"),
    ],
)
def test_the_first_global_operation_is_named_and_levels_before_it_are_exact(name: str, operation: str) -> None:
    first, *others = receptive_fields(create_backbone(name, num_classes=0)).values()
    assert (first.size, first.global_operation) == (7, None)
    assert {field.global_operation for field in others} == {operation}


def test_overlap_is_what_neighbors_share() -> None:
    field = ReceptiveField(11, 4, 5)
    assert field.overlap == 7
    (_, last), (first, _) = field.pixels(0), field.pixels(1)
    assert last - first + 1 == field.overlap


def test_looking_leaves_the_backbone_without_hooks() -> None:
    backbone = backbone_of("resnet18", levels=2)
    layer_fields(backbone)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())


def test_axes_with_other_kernels_have_other_fields() -> None:
    class Oblong(Recalibrated):
        def features(self, image: Tensor) -> list[Tensor]:
            return [self.convolution(image)]

    assert receptive_fields(Oblong(), "height")["only"].size == 3
    assert receptive_fields(Oblong(), "width")["only"].size == 5


def test_preprocessing_of_other_channels() -> None:
    color = Preprocessing(mean=(0.1, 0.2, 0.6), std=(1, 2, 3), order="BGR")
    assert color.for_channels(3) is color
    assert color.for_channels(1).mean == pytest.approx((0.3,))
    four = color.for_channels(4)
    assert four.mean == (0.6, 0.2, 0.1, 0.6)
    assert four.order == "RGB"
