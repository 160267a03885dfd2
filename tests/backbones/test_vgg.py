"""VGG against Simonyan and Zisserman 2014 and torchvision. Counts: facts 1.3."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from densevision.backbones import create_backbone
from densevision.backbones.receptive_field import receptive_fields
from densevision.backbones.state_dict_matching import load_weights, published_state
from densevision.backbones.vgg import VGG

# facts 1.3: whole, convolutions only.
COUNTS = {
    "vgg11": (132_863_336, 9_220_480),
    "vgg13": (133_047_848, 9_404_992),
    "vgg16": (138_357_544, 14_714_688),
    "vgg19": (143_667_240, 20_024_384),
    "vgg11_bn": (132_868_840, 9_225_984),
    "vgg13_bn": (133_053_736, 9_410_880),
    "vgg16_bn": (138_365_992, 14_723_136),
    "vgg19_bn": (143_678_248, 20_035_392),
}


# Columns of the paper that torchvision does not have.
PAPER_ONLY = {
    "vgg11_lrn": (132_863_336, 9_220_480),  # facts 1.3: A-LRN adds no parameters
    "vgg16_c": (133_638_952, 9_996_096),
}


@pytest.mark.parametrize("name", COUNTS | PAPER_ONLY)
def test_parameters_are_those_of_the_paper(name: str) -> None:
    with torch.device("meta"):
        whole, bare = create_backbone(name), create_backbone(name, num_classes=0)
    counts = tuple(sum(parameter.numel() for parameter in backbone.parameters()) for backbone in (whole, bare))
    assert counts == (COUNTS | PAPER_ONLY)[name]


@pytest.mark.parametrize("name", COUNTS)
def test_names_and_shapes_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        ours, peer = create_backbone(name), getattr(torchvision.models, name)(init_weights=False)
    theirs = {key: tensor.shape for key, tensor in peer.state_dict().items()}
    assert {key: tensor.shape for key, tensor in published_state(ours).items()} == theirs


@pytest.mark.parametrize("name", ["vgg11_bn", "vgg16"])
def test_convolutions_compute_and_learn_what_torchvisions_do(name: str) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        peer = getattr(torchvision.models, name)(init_weights=False)
    ours = create_backbone(name, num_classes=0)
    layers = peer.features.to_empty(device="cpu")
    layers.load_state_dict({key.removeprefix("features."): value for key, value in published_state(ours).items()})
    image = torch.randn(2, 3, 64, 64)
    for mode in (True, False):
        made, expected = ours.train(mode).features(image)[-1], layers.train(mode)(image)
        assert (made - expected).abs().max() <= 1e-4 * expected.abs().max()
    for network in (lambda x: ours.train().features(x)[-1], layers.train()):
        network(image).square().mean().backward()
    gradients = {f"features.{key}": parameter.grad for key, parameter in layers.named_parameters()}
    for key, parameter in ours.named_parameters():
        gradient, expected = parameter.grad, gradients[ours.state_dict_alias(key)]
        assert gradient is not None
        # A bias before batch normalization has no gradient but rounding.
        assert (gradient - expected).norm() <= 1e-3 * expected.norm() + 1e-6, key


def test_whole_vgg_is_torchvisions_and_its_dense_form_agrees() -> None:
    torch.manual_seed(0)
    peer = torchvision.models.vgg11(num_classes=10).eval()
    with torch.device("meta"):
        ours = create_backbone("vgg11", num_classes=10)
    ours = ours.to_empty(device="cpu").eval()
    with pytest.warns(UserWarning, match="no metadata"):
        load_weights(ours, peer.state_dict())
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = peer(image)
        assert (ours(image) - expected).abs().max() <= 1e-4
        del peer
        assert isinstance(ours, VGG)
        at_224 = ours.forward_dense(image)  # trap 7
        assert at_224.shape == (1, 10, 1, 1)
        assert (at_224[:, :, 0, 0] - expected).abs().max() <= 1e-4
        # facts 1.3: floor(Q / 32) - 6 places per side.
        assert ours.forward_dense(torch.randn(1, 3, 384, 288)).shape == (1, 10, 6, 3)


def test_column_a_lrn_normalizes_once_behind_its_first_relu() -> None:
    torch.manual_seed(0)
    plain, normalized = create_backbone("vgg11", levels=2), create_backbone("vgg11_lrn", levels=2)
    kinds = [type(layer).__name__ for layer in normalized.get_submodule("convolutions").children()]
    assert kinds == ["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d", "Conv2d", "ReLU"]
    normalized.get_submodule("convolutions.0").load_state_dict(plain.get_submodule("convolutions.0").state_dict())
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        rectified, made = plain.features(image)[0], normalized.features(image)[0]
    squares = rectified[:, 8:13].square().sum(1)  # trap 1: channel 10 and two on either side
    assert torch.allclose(made[:, 10], rectified[:, 10] / (2 + 1e-4 * squares) ** 0.75, atol=1e-6)


def test_column_c_ends_its_last_three_blocks_in_one_by_one() -> None:
    with torch.device("meta"):
        backbone = create_backbone("vgg16_c", num_classes=0)
    kernels = [layer.kernel_size[0] for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert kernels == [3, 3, 3, 3, 3, 3, 1, 3, 3, 1, 3, 3, 1]
    fields = [field.size for field in receptive_fields(backbone).values()]
    assert fields == [5, 14, 32, 68, 140, 156]  # facts 1.5: B's


def test_no_relu_overwrites_what_a_hook_took_from_its_convolution() -> None:
    backbone = create_backbone("vgg11", levels=1)  # trap 13
    assert isinstance(backbone, VGG)
    taken: list[Any] = []
    backbone.convolutions[0].register_forward_hook(lambda _module, _inputs, output: taken.append(output))
    backbone.features(torch.randn(1, 3, 32, 32))
    assert taken[0].min() < 0
    assert not any(module.inplace for module in backbone.modules() if isinstance(module, nn.ReLU))
