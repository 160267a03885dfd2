"""Our backbones under segmentation-models-pytorch, and timm's under our heads."""

from __future__ import annotations

from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import nn

from densevision.backbones import create_backbone
from densevision.backbones.dilation import dilate
from densevision.backbones.interop.smp import PREFIX, BackboneEncoder, register_in_smp
from densevision.backbones.state_dict_matching import save_weights
from densevision.errors import UserError
from densevision.tasks.heads import create_head

from ..every_backbone import EVERY_BACKBONE

OURS = ("resnet18", "resnet50", "vgg16", "vgg11_bn", "googlenet", "inception_v4", "alexnet")
SIDE = 96
"""Inception-v4, which hardly pads, has one unit left of it."""


@pytest.fixture(autouse=True)
def registered() -> None:
    register_in_smp()


def check_a_step(model: nn.Module, image: torch.Tensor, shape: tuple[int, ...]) -> None:
    """One step changes every parameter that has a gradient, and every parameter has one."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    made = model.train()(image)
    assert tuple(made.shape) == shape
    made.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
    first = next(model.parameters())
    before = first.detach().clone()
    optimizer.step()
    assert not torch.equal(first, before)


@pytest.mark.parametrize("network", ["Unet", "FPN"])
@pytest.mark.parametrize("name", OURS)
def test_our_backbones_train_a_step_in_their_networks(name: str, network: str) -> None:
    model = getattr(smp, network)(PREFIX + name, encoder_weights=None, classes=2)
    check_a_step(model, torch.rand(2, 3, SIDE, SIDE), (2, 2, SIDE, SIDE))


@pytest.mark.parametrize("name", EVERY_BACKBONE)
def test_an_encoder_gives_the_image_and_then_exact_halves(name: str) -> None:
    with torch.device("meta"):
        levels = create_backbone(name, num_classes=0).levels
        depth = min(5, levels[-1].stride.bit_length() - 1)
        encoder = BackboneEncoder(name, depth)
        pyramid = encoder(torch.empty(2, 3, 161, 224))
    assert [tuple(made.shape[1:]) for made in pyramid] == [
        (channels, -(-161 // 2**step), -(-224 // 2**step)) for step, channels in enumerate(encoder.out_channels)
    ]
    assert encoder.output_stride == 2**depth


def test_a_map_of_the_right_size_is_the_backbones_own() -> None:
    encoder = BackboneEncoder("vgg11").eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        pyramid, maps = encoder(image), encoder.backbone.features(image)
    assert pyramid[0] is image
    for made, own in zip(pyramid[1:], maps[1:], strict=True):  # block1 has stride 1
        assert torch.equal(made, own)


def test_less_depth_builds_less_of_the_backbone() -> None:
    model = smp.Unet(PREFIX + "resnet18", encoder_depth=3, encoder_weights=None, decoder_channels=(32, 16, 8))
    encoder = model.encoder
    assert isinstance(encoder, BackboneEncoder)
    assert [level.name for level in encoder.backbone.levels] == ["stem", "layer1", "layer2"]
    check_a_step(model, torch.rand(2, 3, 64, 64), (2, 1, 64, 64))


def test_images_of_other_channels_and_odd_sides() -> None:
    model = smp.Unet(PREFIX + "resnet18", encoder_weights=None, in_channels=5)
    check_a_step(model, torch.rand(2, 5, 65, 79), (2, 1, 65, 79))


def test_options_of_the_backbone_reach_it() -> None:
    options: dict[str, Any] = {"stride_in": "1x1"}  # as keywords of theirs, which they type as dict
    encoder = smp.FPN(PREFIX + "resnet50", encoder_weights=None, **options).encoder
    assert isinstance(encoder, BackboneEncoder) and encoder.backbone.options["stride_in"] == "1x1"


def test_published_weights_arrive_with_what_they_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    published = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: published)
    encoder = smp.Unet(PREFIX + "resnet18", encoder_weights="imagenet").encoder
    assert isinstance(encoder, BackboneEncoder)
    assert torch.equal(encoder.backbone.get_parameter("conv1.weight"), published["conv1.weight"])
    assert smp.encoders.get_preprocessing_params(PREFIX + "resnet18") == {
        "input_space": "RGB",
        "input_range": [0.0, 1.0],
        "mean": [0.485, 0.456, 0.406],  # torchvision's
        "std": [0.229, 0.224, 0.225],
    }


def test_a_file_of_weights_is_read_too(tmp_path) -> None:
    backbone = create_backbone("resnet18", levels=3)
    save_weights(backbone, tmp_path / "backbone.safetensors")
    path = str(tmp_path / "backbone.safetensors")
    encoder = smp.Unet(PREFIX + "resnet18", 3, path, decoder_channels=(8, 8, 8)).encoder
    assert isinstance(encoder, BackboneEncoder)
    assert torch.equal(encoder.backbone.get_parameter("conv1.weight"), backbone.get_parameter("conv1.weight"))


def test_their_networks_are_stored_and_read_back(tmp_path) -> None:
    model: Any = smp.FPN(PREFIX + "resnet18", encoder_weights=None).eval()  # their stub of `save_pretrained` lacks self
    model.save_pretrained(tmp_path)
    again = smp.from_pretrained(str(tmp_path)).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(image), model(image))


def test_their_own_encoders_stay_theirs_however_often_ours_are_registered() -> None:
    register_in_smp()
    names = smp.encoders.get_encoder_names()
    assert len(names) == len(set(names))
    assert {"resnet18", PREFIX + "resnet18"} <= set(names)
    assert not isinstance(smp.Unet("resnet18", encoder_weights=None).encoder, BackboneEncoder)
    with pytest.raises(KeyError, match="Wrong encoder name"):
        smp.Unet("resnet81")


@pytest.mark.parametrize(
    ("network", "name", "options"),
    [
        ("DeepLabV3", "resnet18", {}),
        ("DeepLabV3Plus", "vgg11_bn", {}),
        ("DeepLabV3Plus", "resnet50", {"encoder_output_stride": 8}),
        ("PAN", "resnet18", {}),
        ("DeepLabV3Plus", "googlenet", {}),
    ],
)
def test_dilated_networks_train_a_step_on_our_backbones(name: str, network: str, options: dict) -> None:
    model = getattr(smp, network)(PREFIX + name, encoder_weights=None, classes=2, **options)
    check_a_step(model, torch.rand(2, 3, 128, 128), (2, 2, 128, 128))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg11", "googlenet"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_backbone_has_the_units_of_the_original_between_others(name: str, output_stride: int) -> None:
    torch.manual_seed(0)
    backbone, dilated = (create_backbone(name, num_classes=0).double().eval() for _ in range(2))
    dilated.load_state_dict(backbone.state_dict())
    dilate(dilated, output_stride)
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        for level, own, made in zip(backbone.levels, backbone.features(image), dilated.features(image), strict=True):
            every = max(level.stride // output_stride, 1)
            assert made.shape[-1] == 96 / min(level.stride, output_stride)
            torch.testing.assert_close(made[..., ::every, ::every], own)


def test_weights_may_be_named_as_everywhere_in_the_library() -> None:
    encoder = smp.encoders.get_encoder(PREFIX + "resnet18", encoder_weights=None, depth=2)
    assert isinstance(encoder, BackboneEncoder) and not encoder._is_torch_scriptable


def test_what_the_library_reports_as_a_value_error_is_one() -> None:
    with pytest.raises(ValueError, match="halves an image 2 times"):
        smp.encoders.get_encoder(PREFIX + "resnet20_cifar")
    with pytest.raises(ValueError, match="output stride of 'resnet18' is 8, 16 or 32"):
        smp.encoders.get_encoder(PREFIX + "resnet18", output_stride=4)
    with pytest.raises(ValueError, match="no preprocessing of 'densevision-resnet18' for the weights 'None'"):
        smp.encoders.get_preprocessing_params(PREFIX + "resnet18", None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "name", "options", "sentence"),
    [
        ("Unet", "resnet81", {}, "no backbone named 'resnet81'"),
        ("Unet", "resnet20_cifar", {}, "resnet20_cifar halves an image 2 times; give encoder_depth=1 to 2 .*not 5"),
        ("DeepLabV3Plus", "inception_v4", {}, "inception_v4 cannot be dilated: AvgPool2d has no dilation"),
        ("FPN", "resnet20_cifar", {"encoder_weights": "imagenet", "encoder_depth": 2}, "no published weights"),
        ("Unet", "resnet18", {"stride": 2}, "no option 'stride'"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(network: str, name: str, options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        getattr(smp, network)(PREFIX + name, **({"encoder_weights": None} | options))


# facts of timm 1.0's feature_info
@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("timm:resnet18", [("act1", 2, 64), ("layer1", 4, 64), ("layer4", 32, 512)]),
        ("timm:efficientnet_b0", [("blocks.0", 2, 16), ("blocks.1", 4, 24), ("blocks.6", 32, 320)]),
        ("timm:convnext_atto", [("stages.0", 4, 40), ("stages.1", 8, 80), ("stages.3", 32, 320)]),
    ],
)
@pytest.mark.parametrize("head", ["unet", "fpn"])
def test_timms_backbones_train_a_step_under_our_heads(name: str, levels: list[tuple[str, int, int]], head: str) -> None:
    backbone = create_backbone(name, num_classes=0)
    described = [(level.name, level.stride, level.channels) for level in backbone.levels]
    assert [described[0], described[1], described[-1]] == levels

    class LastMap(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = backbone, create_head(head, backbone.levels, 2)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.head(self.backbone.features(image), image.shape[-2:])

    check_a_step(LastMap(), torch.rand(2, 3, 64, 64), (2, 2, 64, 64))
