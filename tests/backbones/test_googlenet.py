"""GoogLeNet against Szegedy et al. 2014 and torchvision. Counts and fields: facts 1.4 and 1.5."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Preprocessing
from densevision.backbones.conformance import check_backbone
from densevision.backbones.googlenet import ConvUnit, GoogLeNet, InceptionModule
from densevision.backbones.layers import LRN, LocalResponseNorm
from densevision.backbones.receptive_field import receptive_fields
from densevision.backbones.state_dict_matching import load_weights, published_state, save_weights, verify_weights
from densevision.backbones.weights import read_metadata, read_weights_info
from densevision.errors import UserError

# facts 1.4: main, with both auxiliary classifiers, each of them.
COUNTS = {
    "googlenet": (6_998_552, 13_378_280, 3_188_840, 3_190_888),
    "googlenet_tv": (6_624_904, 13_004_888, 3_188_968, 3_191_016),
}
# facts 1.4, columns "parameters" and "torchvision".
MODULE_COUNTS = {
    "googlenet": (163_696, 388_736, 376_176, 449_160, 510_104, 605_376, 868_352, 1_043_456, 1_444_080),
    "googlenet_tv": (155_872, 340_224, 364_512, 425_232, 486_192, 573_312, 803_840, 978_944, 1_347_040),
}
# facts 1.5: size of the levels, center of the last.
FIELDS = {"googlenet": ([7, 19, 91, 427, 715], 30), "googlenet_tv": ([7, 19, 59, 235, 379], 22)}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def without_dropout(module: nn.Module) -> nn.Module:
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return module


def torchvisions(**options: Any) -> Any:
    """torchvision's network with the statistics of one batch: with the initial ones the image fades on its way."""
    torch.manual_seed(0)
    network = torchvision.models.googlenet(aux_logits=True, init_weights=False, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 96, 96))
    return without_dropout(network)


@pytest.fixture(scope="module")
def peer() -> Any:
    return torchvisions(num_classes=5).double()


def like(peer: nn.Module) -> GoogLeNet:
    ours = create_backbone("googlenet_tv", num_classes=5)
    assert isinstance(ours, GoogLeNet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_weights(ours, peer.state_dict())
    without_dropout(ours)
    return ours.double()


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_paper_and_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        main, both = create_backbone(name, auxiliary=False), create_backbone(name)
        bare = create_backbone(name, num_classes=0)
    auxiliary = [count(both.get_submodule(called)) for called in ("aux1", "aux2")]
    assert (count(main), count(both), *auxiliary) == COUNTS[name]
    modules = [count(module) for module in bare.modules() if isinstance(module, InceptionModule)]
    assert tuple(modules) == MODULE_COUNTS[name]
    assert count(bare) == COUNTS[name][0] - 1_025_000


@pytest.mark.parametrize("name", COUNTS)
def test_pools_round_up(name: str) -> None:
    with torch.device("meta"):
        maps = create_backbone(name, num_classes=0).features(torch.empty(1, 3, 224, 224))
    assert [each.shape[-1] for each in maps] == [112, 56, 28, 14, 7]  # trap 8: not 55, 27, 13, 6


@pytest.mark.parametrize("name", COUNTS)
def test_levels_see_what_the_five_by_five_and_the_pools_let_them_see(name: str) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name, num_classes=0)
    side = 5 if name == "googlenet" else 3  # trap 9
    assert backbone.get_submodule("inception_3a.branch3.1.conv").kernel_size == (side, side)
    fields = list(receptive_fields(backbone).values())
    assert ([field.size for field in fields], fields[-1].center) == FIELDS[name]
    assert [field.jump for field in fields] == [level.stride for level in backbone.levels] == [2, 4, 8, 16, 32]
    assert [field.center for field in fields[:4]] == [0, 2, 6, 14]  # facts 1.5


def test_response_is_normalized_after_the_first_pool_and_before_the_second() -> None:
    with torch.device("meta"):
        backbone = create_backbone("googlenet")
    rows = [name for name, _ in backbone.named_children()]
    assert rows[:7] == ["conv1", "pool1", "norm1", "conv2_reduce", "conv2", "norm2", "pool2"]  # trap 2, facts 1.4
    norms = [module for module in backbone.modules() if isinstance(module, LocalResponseNorm)]
    assert [norm.constants for norm in norms] == [LRN(5, 1e-4, 0.75, 2.0)] * 2  # facts 1.2


@pytest.mark.parametrize("name", COUNTS)
def test_auxiliary_classifiers_speak_in_training_logits_only(name: str) -> None:
    torch.manual_seed(0)
    backbone = without_dropout(create_backbone(name, num_classes=3))
    assert isinstance(backbone, GoogLeNet)
    passes: list[Any] = []
    backbone.get_submodule("conv1").register_forward_hook(lambda *_: passes.append(0))
    image = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        for mode in (True, False):  # trap 10
            logits = backbone.train(mode)(image)
            assert logits.shape == (2, 3)
            passes.clear()
            main, first, second = backbone.forward_train(image)
            assert len(passes) == 1
            assert torch.allclose(main, logits, atol=1e-5)
            assert first.shape == second.shape == (2, 3)
        assert torch.allclose(backbone.forward_dense(image).mean((2, 3)), logits, atol=1e-5)
    with torch.device("meta"):
        alone = create_backbone(name, num_classes=3, auxiliary=False)
        assert len(alone.forward_train(torch.empty(2, 3, 96, 96))) == 1
        assert not any(key.startswith("aux") for key in create_backbone(name, levels=4).state_dict())


def test_auxiliary_classifiers_pool_five_by_five_at_224_and_reach_every_other_size() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("googlenet", num_classes=3).eval()
    auxiliary: Any = backbone.get_submodule("aux1")
    x = torch.randn(1, 512, 14, 14)
    with torch.no_grad():
        pooled = functional.avg_pool2d(x, 5, 3)  # facts 1.4: 14 -> 4 x 4
        expected = auxiliary.fc2(auxiliary.fc1(auxiliary.conv(pooled).flatten(1)).relu())
        assert torch.allclose(auxiliary(x), expected, atol=1e-6)
    with torch.device("meta"):
        empty = create_backbone("googlenet", num_classes=3)
        for side in (32, 97, 299):
            assert [tuple(each.shape) for each in empty.forward_train(torch.empty(2, 3, side, side))] == [(2, 3)] * 3


def test_dropout_is_the_papers() -> None:
    with torch.device("meta"):
        for name, main in (("googlenet", 0.4), ("googlenet_tv", 0.2)):
            found = [module.p for module in create_backbone(name).modules() if isinstance(module, nn.Dropout)]
            assert sorted(found) == [main, 0.7, 0.7]


def test_initial_weights_are_those_of_the_caffe_port() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("googlenet", num_classes=10)
    convolution = backbone.get_submodule("inception_5b.branch2.1.conv")
    assert isinstance(convolution, nn.Conv2d)
    variance, bound = 1 / (192 * 9), (3 / (192 * 9)) ** 0.5  # facts 2.1: 1 / n_in
    assert float(convolution.weight.detach().var()) == pytest.approx(variance, rel=0.02)
    assert float(convolution.weight.detach().abs().max()) <= bound
    for unit in backbone.modules():
        if isinstance(unit, ConvUnit):
            assert unit.conv.bias is not None
            assert unit.conv.bias.unique().tolist() == pytest.approx([0.2])
    assert not backbone.get_parameter("fc.bias").any()


def test_names_and_shapes_are_torchvisions(peer: nn.Module) -> None:
    with torch.device("meta"):
        ours = create_backbone("googlenet_tv", num_classes=5)
    theirs = {key: tensor.shape for key, tensor in peer.state_dict().items()}
    assert {key: tensor.shape for key, tensor in published_state(ours).items()} == theirs
    eps = {module.eps for module in ours.modules() if isinstance(module, nn.BatchNorm2d)}
    assert eps == {1e-3}  # facts 1.4


def test_logits_auxiliary_logits_and_gradients_are_torchvisions(peer: Any) -> None:
    torch.manual_seed(1)
    ours = like(peer)
    image, wanted = torch.randn(2, 3, 96, 96).double(), torch.tensor([1, 3])
    with torch.no_grad():
        assert torch.allclose(ours.eval()(image), peer.eval()(image), atol=1e-8)
    made, outputs = ours.train().forward_train(image), peer.train()(image)
    expected: list[Tensor] = [outputs.logits, outputs.aux_logits1, outputs.aux_logits2]
    for each, other in zip(made, expected, strict=True):
        assert torch.allclose(each, other, atol=1e-8)
    for logits in (made, expected):
        losses = [functional.cross_entropy(each, wanted) for each in logits]
        (losses[0] + 0.3 * losses[1] + 0.3 * losses[2]).backward()
    theirs = {name: parameter.grad for name, parameter in peer.named_parameters()}
    peer.zero_grad()
    for name, parameter in ours.named_parameters():
        gradient, other = parameter.grad, theirs[ours.state_dict_alias(name)]
        assert gradient is not None
        assert torch.allclose(gradient, other, atol=1e-8), name


def test_published_weights_see_what_torchvision_shows_them_to_the_very_border(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = torchvisions(transform_input=True).eval()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_arguments, **_named: peer.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = create_backbone("googlenet_tv", "imagenet").eval()
    assert (ours.preprocessing.mean, ours.preprocessing.std) == ((0.5,) * 3, (0.5,) * 3)
    stated = read_weights_info("googlenet_tv/imagenet")["preprocessing"]
    assert (stated["mean"], stated["resize"], stated["crop"]) == ([0.5] * 3, 256, 224)
    image = torch.rand(1, 3, 97, 129)
    with torch.no_grad():
        inputs, expected = ours.preprocessing(image), Preprocessing()(image)
        first = peer.conv1(peer._transform_input(expected))
        assert torch.allclose(ours.features(inputs)[0], first, atol=1e-5)
        assert torch.allclose(ours(inputs), peer(expected), atol=1e-4)
        # The same image normalized as ImageNet's is another input.
        assert (ours(expected) - peer(expected)).abs().max() > 0.1


def test_a_plain_file_of_torchvisions_is_taken_for_images_of_mean_one_half(tmp_path: Path, peer: nn.Module) -> None:
    torch.save(peer.state_dict(), tmp_path / "plain.pth")
    with pytest.warns(UserWarning, match=r"taken for googlenet_tv with preprocessing RGB, range 0 to 1, mean 0.5 0.5"):
        backbone = create_backbone("googlenet_tv", tmp_path / "plain.pth", levels=2)
    assert backbone.preprocessing.std == (0.5,) * 3


@pytest.mark.parametrize("options", [{"auxiliary": False}, {"num_classes": 0}, {"levels": 3}])
def test_a_file_with_auxiliary_classifiers_fits_a_network_without(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = create_backbone("googlenet", num_classes=4)
    save_weights(whole, tmp_path / "whole.safetensors")
    verify_weights(tmp_path / "whole.safetensors")
    backbone = create_backbone("googlenet", tmp_path / "whole.safetensors", **{"num_classes": 4, **options})
    assert torch.equal(backbone.get_parameter("conv1.conv.weight"), whole.get_parameter("conv1.conv.weight"))


def test_a_file_without_auxiliary_classifiers_says_how_to_build_the_network(tmp_path: Path) -> None:
    path = tmp_path / "main.safetensors"
    save_weights(create_backbone("googlenet", num_classes=4, auxiliary=False), path)
    assert read_metadata(path)["levels"] == "all"
    verify_weights(path)
    with pytest.raises(UserError, match=r"'aux1.conv.conv.weight' and 11 more are missing. Build it with auxiliary=Fa"):
        create_backbone("googlenet", path, num_classes=4)
    assert create_backbone("googlenet", path, num_classes=4, auxiliary=False).options == {"auxiliary": False}


@pytest.mark.parametrize("name", COUNTS)
def test_no_relu_overwrites_what_a_hook_took_from_its_convolution(name: str) -> None:
    backbone = create_backbone(name, levels=1)  # trap 13
    taken: list[Any] = []
    last = "conv1.bn" if name == "googlenet_tv" else "conv1.conv"
    backbone.get_submodule(last).register_forward_hook(lambda _module, _inputs, output: taken.append(output))
    backbone.features(torch.randn(1, 3, 32, 32))
    assert taken[0].min() < 0


def test_googlenet_keeps_the_contract() -> None:
    check_backbone("googlenet")
