"""Weights and what they say about themselves. The real files are described in ../shared/data/weights/README.md."""

from __future__ import annotations

import urllib.error
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Preprocessing
from densevision.backbones.state_dict_matching import (
    adapt_first_convolution,
    load_weights,
    published_state,
    save_weights,
    verify_weights,
)
from densevision.backbones.weights import WEIGHTS, list_weights, read_metadata, read_weights_info
from densevision.errors import UserError

RESNET50 = "resnet50_imagenet_pruned8bit_fp16.safetensors"
RESNET18 = "resnet18_imagenet_to_layer3_fp16.safetensors"
VGG19 = "vgg19_normalised_to_relu3_1_fp16.safetensors"
EGYPTIAN_CAT = 285


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A complete file of a small network with ten classes."""
    torch.manual_seed(0)
    path = tmp_path / "small.safetensors"
    save_weights(create_backbone("resnet20_cifar", num_classes=10), path, origin="this test", license="none")
    return path


def rewritten(path: Path, name: str, drop: tuple[str, ...] = (), add: dict[str, Any] | None = None) -> Path:
    """A copy of a file without some tensors, with others."""
    tensors = {key: value for key, value in load_file(path).items() if not key.startswith(drop or ("-",))}
    made = path.with_name(name)
    save_file(tensors | (add or {}), made, read_metadata(path))
    return made


def test_a_saved_backbone_comes_back_without_further_words(small: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = create_backbone("resnet20_cifar", small, num_classes=10)
        second = create_backbone("resnet20_cifar", small, num_classes=10)
    others = second.state_dict()
    assert all(torch.equal(tensor, others[key]) for key, tensor in first.state_dict().items())
    facts = read_metadata(small)
    assert facts["network"] == "resnet20_cifar"
    assert (facts["classes"], facts["levels"], facts["origin"]) == ("10", "all", "this test")
    assert Preprocessing.from_json(facts["preprocessing"]) == first.preprocessing


def test_half_precision_files_load_into_float32(tmp_path: Path) -> None:
    backbone = create_backbone("resnet20_cifar", num_classes=10).to(memory_format=torch.channels_last)
    save_weights(backbone, tmp_path / "half.safetensors", dtype=torch.float16)
    stored = load_file(tmp_path / "half.safetensors")
    assert stored["conv1.weight"].dtype == torch.float16
    assert stored["bn1.running_var"].dtype == torch.float32
    again = create_backbone("resnet20_cifar", tmp_path / "half.safetensors", num_classes=10)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    assert torch.allclose(again.get_parameter("conv1.weight"), backbone.get_parameter("conv1.weight"), rtol=1e-3)


def test_the_options_and_the_cut_stand_in_the_file(tmp_path: Path) -> None:
    backbone = create_backbone("resnet50", levels=2, stride_in="1x1")
    save_weights(backbone, tmp_path / "cut.safetensors")
    facts = read_metadata(tmp_path / "cut.safetensors")
    assert (facts["levels"], facts["classes"], facts["stride_in"]) == ("layer1", "0", "1x1")
    again = create_backbone("resnet50", tmp_path / "cut.safetensors", levels=2)
    assert again.options["stride_in"] == "1x1"


def test_vggs_stand_in_files_under_torchvisions_names(tmp_path: Path) -> None:
    backbone = create_backbone("vgg11", levels=2)
    save_weights(backbone, tmp_path / "vgg.safetensors")
    assert set(load_file(tmp_path / "vgg.safetensors")) == {
        "features.0.weight", "features.0.bias", "features.3.weight", "features.3.bias",
    }  # fmt: skip
    with pytest.raises(UserError, match=r"only up to its level block2: 'features.6.weight' .* levels=2"):
        create_backbone("vgg11", tmp_path / "vgg.safetensors")


def test_a_gap_is_named_with_the_largest_backbone_that_works(small: Path) -> None:
    cut = rewritten(small, "cut.safetensors", drop=("stage3.1.conv2",))
    with pytest.raises(UserError, match=r"only up to its level stage2: 'stage3.1.conv2.weight' is missing. .*levels=2"):
        create_backbone("resnet20_cifar", cut, num_classes=10)
    assert len(create_backbone("resnet20_cifar", cut, levels=2).levels) == 2
    headless = rewritten(small, "headless.safetensors", drop=("conv1.weight",))
    with pytest.raises(UserError, match="does not contain the first level"):
        create_backbone("resnet20_cifar", headless, num_classes=10)


def test_a_file_of_another_network_is_refused(small: Path) -> None:
    with pytest.raises(UserError, match="holds weights of resnet20_cifar, not of resnet32_cifar"):
        create_backbone("resnet32_cifar", small)


def test_what_the_network_does_not_have_stops_the_loading(small: Path) -> None:
    strange = rewritten(small, "strange.safetensors", add={"extra.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"'extra.weight' is unexpected"):
        create_backbone("resnet20_cifar", strange, num_classes=10)
    with pytest.raises(UserError, match=r"'extra.weight' is unexpected"):
        create_backbone("resnet20_cifar", strange, levels=1)


def test_a_classifier_that_is_half_there_stops_the_loading(small: Path) -> None:
    half = rewritten(small, "half.safetensors", drop=("fc.bias",))
    with pytest.raises(UserError, match=r"complete classifier of resnet20_cifar: 'fc.bias' is missing\.$"):
        create_backbone("resnet20_cifar", half, num_classes=10)


def test_other_classes_start_a_new_classifier_and_say_so(small: Path) -> None:
    with pytest.warns(UserWarning, match="10 classes and 7 were requested, so 'fc.weight' and 1 more are freshly"):
        backbone = create_backbone("resnet20_cifar", small, num_classes=7)
    assert backbone.get_parameter("fc.weight").shape == (7, 64)
    assert torch.equal(backbone.get_parameter("conv1.weight"), load_file(small)["conv1.weight"])


@pytest.mark.parametrize("wrapped", ["bare", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_plain_pth_files_load_and_say_what_was_assumed(tmp_path: Path, wrapped: str, prefix: str) -> None:
    backbone = create_backbone("resnet50", levels=2)
    state: dict[str, Any] = {prefix + key: value for key, value in backbone.state_dict().items()}
    torch.save(state if wrapped == "bare" else {wrapped: state, "epoch": 3}, tmp_path / "plain.pth")
    with pytest.warns(UserWarning, match=r"no metadata, so it is taken for resnet50, stride_in='3x3' with .* RGB"):
        again = create_backbone("resnet50", tmp_path / "plain.pth", levels=2)
    assert torch.equal(again.get_parameter("conv1.weight"), backbone.get_parameter("conv1.weight"))


class Harmful:
    """What `torch.load` must not build."""


def test_damaged_and_unsafe_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 nothing")
    torch.save({"model": Harmful()}, tmp_path / "harmful.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    for name, sentence in (
        ("torn.safetensors", "not a readable safetensors file"),
        ("torn.pth", "opened safely"),
        ("harmful.pth", "opened safely"),
        ("list.pth", "does not contain a state dict"),
        ("none.pth", "There is no weights file"),
    ):
        with pytest.raises(UserError, match=sentence):
            create_backbone("resnet18", tmp_path / name)


def test_the_first_convolution_follows_the_channels(small: Path) -> None:
    kernels = load_file(small)["conv1.weight"]
    with pytest.warns(UserWarning, match="adapted to 1 channels"):
        gray = create_backbone("resnet20_cifar", small, num_classes=10, in_channels=1)
    assert torch.allclose(gray.get_parameter("conv1.weight"), kernels.sum(1, keepdim=True))
    assert gray.preprocessing.mean == pytest.approx((sum((0.485, 0.456, 0.406)) / 3,))
    image = torch.randn(1, 1, 32, 32)
    color = create_backbone("resnet20_cifar", small, num_classes=10)
    with torch.no_grad():
        expected = color.eval()(image.expand(-1, 3, -1, -1))
        assert torch.allclose(gray.eval()(image), expected, atol=1e-4)
    for channels in (2, 4):
        adapted = adapt_first_convolution(kernels, channels)
        assert torch.allclose(adapted[:, -1], kernels[:, (channels - 1) % 3] * 3 / channels)
        # The same value in every channel gets the same mean magnitude.
        if channels % 3 == 0:
            assert torch.allclose(adapted.sum(1), kernels.sum(1))
    assert torch.equal(adapt_first_convolution(kernels, 4, bgr=True)[:, 0], kernels[:, 2] * 0.75)


def test_a_file_for_gray_images_does_not_become_one_for_color(tmp_path: Path) -> None:
    save_weights(create_backbone("resnet20_cifar", in_channels=1, levels=1), tmp_path / "gray.safetensors")
    with pytest.raises(UserError, match=r"'conv1.weight' is of another shape \(16x1x3x3 in the file, 16x3x3x3 here"):
        create_backbone("resnet20_cifar", tmp_path / "gray.safetensors", levels=1)


def test_published_weights_name_their_address_when_they_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_arguments: object, **_named: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(UserError, match=r"https://.*resnet50.*could not be downloaded .* give the path of the file"):
        create_backbone("resnet50", "imagenet")
    with pytest.raises(UserError, match="no published weights of resnet20_cifar"):
        create_backbone("resnet20_cifar", "imagenet")
    with pytest.raises(UserError, match="did you mean 'imagenet_v2'"):
        create_backbone("resnet50", "imagenet_v3")


def test_published_weights_come_with_what_torchvision_says(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    state = published_state(create_backbone("resnet18"))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_arguments, **_named: dict(state))
    backbone = create_backbone("resnet18", "imagenet", in_channels=3)
    assert backbone.preprocessing == Preprocessing()
    with pytest.raises(UserError, match=r"trained with stride_in='3x3', and resnet50 was requested with .*'1x1'"):
        create_backbone("resnet50", "imagenet", stride_in="1x1")


def test_every_published_entry_exists_in_torchvision() -> None:
    assert list_weights() == list(WEIGHTS)
    for name in WEIGHTS:
        info = read_weights_info(name)
        assert info["network"] == name.split("/")[0]
        assert info["classes"] == "1000"
        assert len(info["sha256"]) == 8
        # torchvision counts without the auxiliary classifiers, which its file holds.
        without: dict[str, Any] = {"auxiliary": False} if info["network"] == "googlenet_tv" else {}
        with torch.device("meta"):
            backbone = create_backbone(info["network"], **without)
        assert info["parameters"] == sum(parameter.numel() for parameter in backbone.parameters())
    assert read_weights_info("resnet50/imagenet_v2")["preprocessing"]["resize"] == 232  # facts 1.4


def test_verifying_finds_a_wrong_hash_a_nan_and_a_strange_tensor(small: Path) -> None:
    info = verify_weights(small)
    assert info["parameters"] == 269_722
    assert verify_weights(small, info["sha256"][:8])["network"] == "resnet20_cifar"
    with pytest.raises(UserError, match="sha256"):
        verify_weights(small, "0" * 64)
    with pytest.raises(UserError, match=r"not finite, in 'fc.bias'"):
        verify_weights(rewritten(small, "nan.safetensors", add={"fc.bias": torch.full((10,), torch.nan)}))
    with pytest.raises(UserError, match="contains 'strange', which resnet20_cifar does not have"):
        verify_weights(rewritten(small, "strange.safetensors", add={"strange": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"'fc.bias' is 11 in wide.safetensors and 10 in"):
        verify_weights(rewritten(small, "wide.safetensors", add={"fc.bias": torch.zeros(11)}))


def test_timms_backbones_save_and_load_under_timms_names(tmp_path: Path) -> None:
    import timm

    name = "timm:mobilenetv3_small_050"
    peer = timm.create_model("mobilenetv3_small_050", num_classes=5)
    torch.save(peer.state_dict(), tmp_path / "peer.pth")
    with pytest.warns(UserWarning, match="no metadata"):
        ours = create_backbone(name, tmp_path / "peer.pth", num_classes=5)
        bare = create_backbone(name, tmp_path / "peer.pth", num_classes=0)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(image), peer.eval()(image), atol=1e-5)
        for a, b in zip(ours.features(image), bare.eval().features(image), strict=True):
            assert torch.allclose(a, b, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# The real files


def test_the_real_resnet50_keeps_its_stride_and_refuses_the_other(shared_data: Path) -> None:
    path = shared_data / "weights" / RESNET50
    backbone = create_backbone("resnet50", path, levels=3)
    assert backbone.options == {"stride_in": "1x1"}
    assert backbone.get_submodule("layer2.0.conv1").stride == (2, 2)
    with pytest.raises(UserError, match=r"trained with stride_in='1x1', and resnet50 was requested with .*'3x3'"):
        create_backbone("resnet50", path, stride_in="3x3")  # trap 11
    built = create_backbone("resnet50", levels=3)
    with pytest.raises(UserError, match="the same parameters, but another function"):
        load_weights(built, path)


def test_the_real_resnet50_sees_a_cat(shared_data: Path) -> None:
    data = pytest.importorskip("skimage.data")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone = create_backbone("resnet50", shared_data / "weights" / RESNET50).eval()
    wanted = backbone.preprocessing
    image = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].float() / 255
    scale = wanted.resize / min(image.shape[-2:])
    size = [round(side * scale) for side in image.shape[-2:]]
    image = torch.nn.functional.interpolate(image, size, mode=wanted.interpolation, antialias=True)
    top, left = ((side - wanted.crop) // 2 for side in size)
    with torch.no_grad():
        scores = backbone(wanted(image[..., top : top + wanted.crop, left : left + wanted.crop])).softmax(1)
    assert int(scores.argmax()) == EGYPTIAN_CAT
    assert float(scores[0, EGYPTIAN_CAT]) == pytest.approx(0.476, abs=0.08)  # README of the weights: 0.476


def test_the_real_resnet18_ends_at_layer3(shared_data: Path) -> None:
    path = shared_data / "weights" / RESNET18
    with pytest.raises(UserError, match=r"only up to its level layer3: 'layer4.0.conv1.weight' .* levels=4"):
        create_backbone("resnet18", path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone = create_backbone("resnet18", path, levels=4)
    assert backbone.levels[-1].name == "layer3"
    assert read_weights_info(path)["licence"] == "origin states none; torchvision BSD-3 weights"


def test_the_real_vgg19_ends_within_its_third_block(shared_data: Path) -> None:
    path = shared_data / "weights" / VGG19
    with pytest.raises(UserError, match=r"only up to its level block2: 'features.12.weight' .* levels=2"):
        create_backbone("vgg19", path)
    backbone = create_backbone("vgg19", path, levels=2)
    assert backbone.preprocessing.mean == (123.68, 116.779, 103.939)
    # Its filters are scaled so that the mean activation is near 1 on photos.
    image = backbone.preprocessing(torch.rand(1, 3, 64, 64))
    with torch.no_grad():
        assert all(0.01 < float(made.mean()) < 100 for made in backbone.features(image))


@pytest.mark.parametrize("name", [RESNET50, RESNET18, VGG19])
def test_the_real_files_verify(shared_data: Path, name: str) -> None:
    stated = (shared_data / "weights" / "README.md").read_text(encoding="utf-8")
    sha256 = next(line.split()[0] for line in stated.splitlines() if line.strip().endswith(f"  {name}"))
    assert verify_weights(shared_data / "weights" / name, sha256)["sha256"] == sha256
