"""AlexNet against Krizhevsky, Sutskever, Hinton 2012, torchvision and Caffe's weights. Facts 1.2 and 1.5."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.backbones.alexnet import BIASES_OF_ONE, CAFFE_LRN, AlexNet
from densevision.backbones.conformance import check_backbone
from densevision.backbones.layers import LRN, LocalResponseNorm
from densevision.backbones.receptive_field import receptive_fields
from densevision.backbones.state_dict_matching import load_weights, published_state, save_weights, verify_weights
from densevision.backbones.weights import WeightsWarning, read_metadata
from densevision.errors import UserError

CAFFE = "alexnet_caffe_conv_pruned8bit_fp16.safetensors"
# facts 1.2, weights and biases of each layer.
COUNTS = {
    "alexnet": {
        "conv1": 34_944,
        "conv2": 307_456,
        "conv3": 885_120,
        "conv4": 663_936,
        "conv5": 442_624,
        "fc6": 37_752_832,
        "fc7": 16_781_312,
        "fc8": 4_097_000,
    },
    "alexnet_tv": {
        "conv1": 23_296,
        "conv2": 307_392,
        "conv3": 663_936,
        "conv4": 884_992,
        "conv5": 590_080,
        "fc6": 37_752_832,
        "fc7": 16_781_312,
        "fc8": 4_097_000,
    },
}
TOTALS = {"alexnet": 60_965_224, "alexnet_tv": 61_100_840}


def on_meta(name: str, **options: Any) -> AlexNet:
    with torch.device("meta"):
        backbone = create_backbone(name, **options)
    assert isinstance(backbone, AlexNet)
    return backbone


def layers_of(backbone: AlexNet) -> dict[str, nn.Conv2d | nn.Linear]:
    named = [*backbone.convolutions.named_children(), *backbone.classifier.named_children()]
    return {name: layer for name, layer in named if isinstance(layer, (nn.Conv2d, nn.Linear))}


def filled(backbone: AlexNet, seed: int = 0, drawn: float = 0.02) -> AlexNet:
    """A backbone from the meta device with drawn numbers: quicker than its own initialization."""
    generator = torch.Generator().manual_seed(seed)
    backbone = backbone.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.uniform_(-drawn, drawn, generator=generator)
    return backbone


@pytest.mark.parametrize("name", TOTALS)
def test_parameters_are_those_of_the_paper_layer_by_layer(name: str) -> None:
    backbone = on_meta(name)
    counts = {
        layer: sum(parameter.numel() for parameter in module.parameters())
        for layer, module in layers_of(backbone).items()
    }
    assert counts == COUNTS[name]
    assert sum(parameter.numel() for parameter in backbone.parameters()) == TOTALS[name]


def test_two_groups_are_in_conv2_conv4_and_conv5_alone() -> None:
    backbone = on_meta("alexnet")  # trap 4
    convolutions = [layer for layer in layers_of(backbone).values() if isinstance(layer, nn.Conv2d)]
    assert [layer.groups for layer in convolutions] == [1, 2, 1, 2, 2]
    # facts 1.2: 62,378,344 without groups
    added = sum(layer.weight.numel() for layer in convolutions if layer.groups == 2)
    assert TOTALS["alexnet"] + added == 62_378_344


@pytest.mark.parametrize("name", TOTALS)
def test_the_backbone_keeps_the_contract(name: str) -> None:
    check_backbone(name)
    check_backbone(create_backbone(name, num_classes=0, in_channels=1, levels=3))


def test_layers_stand_in_the_papers_order_with_overlapping_pools() -> None:
    backbone = on_meta("alexnet")  # trap 2: normalized before the pool
    names = [name for name, _ in backbone.convolutions.named_children()]
    assert names == [
        *("conv1", "relu1", "lrn1", "pool1"),
        *("conv2", "relu2", "lrn2", "pool2"),
        *("conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5"),
    ]
    pools = [layer for layer in backbone.convolutions if isinstance(layer, nn.MaxPool2d)]
    assert {(pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode) for pool in pools} == {(3, 2, 0, False)}
    assert not any(module.inplace for module in backbone.modules() if isinstance(module, nn.ReLU))  # trap 13
    assert "lrn1" not in dict(on_meta("alexnet_tv").convolutions.named_children())


@pytest.mark.parametrize(
    ("name", "side", "sides"),
    [
        ("alexnet", 227, (55, 27, 13, 6)),  # facts 1.2
        ("alexnet", 224, (54, 26, 12, 5)),  # trap 3
        ("alexnet_tv", 224, (55, 27, 13, 6)),
    ],
)
def test_maps_have_the_papers_sides(name: str, side: int, sides: tuple[int, ...]) -> None:
    backbone = on_meta(name, num_classes=0)
    maps = backbone.features(torch.empty(1, 3, side, side, device="meta"))
    assert tuple(made.shape[-1] for made in maps) == sides


def test_the_paper_form_refuses_to_classify_224_pixels() -> None:
    backbone = on_meta("alexnet")  # trap 3
    assert backbone.classifier_input_size == (227, 227) == (backbone.preprocessing.crop,) * 2
    assert backbone(torch.empty(2, 3, 227, 227, device="meta")).shape == (2, 1000)
    with pytest.raises(UserError, match="images of 227 x 227, not of 224 x 224"):
        backbone(torch.empty(1, 3, 224, 224, device="meta"))
    with pytest.raises(UserError, match="sees 6 x 6 units at once, and this image has 5 x 5"):
        backbone.forward_dense(torch.empty(1, 3, 224, 224, device="meta"))
    assert on_meta("alexnet_tv").classifier_input_size is None


@pytest.mark.parametrize(("name", "centers"), [("alexnet", (5, 9, 17, 33)), ("alexnet_tv", (3, 7, 15, 31))])
def test_receptive_fields_and_their_centers(name: str, centers: tuple[int, ...]) -> None:
    fields = receptive_fields(on_meta(name, num_classes=0))  # facts 1.5
    assert list(fields) == ["conv1", "conv2", "conv5", "pool5"]
    assert tuple(field.size for field in fields.values()) == (11, 51, 163, 195)
    assert tuple(field.jump for field in fields.values()) == (4, 8, 16, 32)
    assert tuple(field.center for field in fields.values()) == centers


def test_the_papers_form_computes_its_equations() -> None:
    """Written a second time with torch's functions: order, groups, overlapping pools, the normalization's alpha."""
    backbone = filled(on_meta("alexnet", num_classes=0), drawn=0.05).double()
    named = backbone.convolutions.named_children()
    weights = {name: (layer.weight, layer.bias) for name, layer in named if isinstance(layer, nn.Conv2d)}
    f = nn.functional
    image = 100 * torch.randn(1, 3, 131, 131, dtype=torch.float64)
    with torch.no_grad():
        conv1 = f.conv2d(image, *weights["conv1"], stride=4).relu()
        pool1 = f.max_pool2d(f.local_response_norm(conv1, 5, 5e-4, 0.75, 2.0), 3, 2)
        conv2 = f.conv2d(pool1, *weights["conv2"], padding=2, groups=2).relu()
        pool2 = f.max_pool2d(f.local_response_norm(conv2, 5, 5e-4, 0.75, 2.0), 3, 2)
        conv3 = f.conv2d(pool2, *weights["conv3"], padding=1).relu()
        conv4 = f.conv2d(conv3, *weights["conv4"], padding=1, groups=2).relu()
        conv5 = f.conv2d(conv4, *weights["conv5"], padding=1, groups=2).relu()
        expected = (conv1, conv2, conv5, f.max_pool2d(conv5, 3, 2))
        for made, wanted in zip(backbone.features(image), expected, strict=True):
            assert torch.allclose(made, wanted, rtol=1e-10)


def test_what_one_group_sees_does_not_reach_the_other_before_conv3() -> None:
    backbone = create_backbone("alexnet", num_classes=0, levels=2)
    assert isinstance(backbone, AlexNet)
    pool1 = torch.rand(1, 96, 9, 9)
    changed = pool1.clone()
    changed[:, :48] += 1
    conv2 = backbone.convolutions.get_submodule("conv2")
    moved = (conv2(pool1) - conv2(changed)).abs().amax((0, 2, 3))
    assert (moved[:128] > 0).all()
    assert not moved[128:].any()


def test_the_papers_start_has_biases_of_one_where_it_says() -> None:
    torch.manual_seed(0)
    backbone = create_backbone("alexnet", num_classes=0)
    assert isinstance(backbone, AlexNet)
    for name, layer in backbone.convolutions.named_children():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
            assert layer.bias is not None
            assert set(layer.bias.tolist()) == {1.0 if name in BIASES_OF_ONE else 0.0}
    assert BIASES_OF_ONE == ("conv2", "conv4", "conv5", "fc6", "fc7")  # facts 1.2
    other = create_backbone("alexnet", num_classes=0, init="he_fan_in", levels=2)
    assert isinstance(other, AlexNet)
    weight, bias = (other.convolutions.get_parameter(f"conv2.{part}") for part in ("weight", "bias"))
    assert not bias.any()
    assert weight.var().item() == pytest.approx(2 / (48 * 25), rel=0.02)  # trap 19: a group has 48 channels


def test_the_classifiers_biases_start_at_one_and_the_last_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densevision.backbones.alexnet.CLASSIFIER_WIDTH", 8)
    backbone = create_backbone("alexnet", num_classes=5)
    assert isinstance(backbone, AlexNet)
    biases = {name: set(layer.bias.tolist()) for name, layer in layers_of(backbone).items() if layer.bias is not None}
    assert {name: biases[name] for name in ("fc6", "fc7", "fc8")} == {"fc6": {1.0}, "fc7": {1.0}, "fc8": {0.0}}


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("alexnet", ["fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"]),
        ("alexnet_tv", ["drop5", "fc6", "relu6", "drop6", "fc7", "relu7", "fc8"]),
    ],
)
def test_the_paper_drops_what_fc6_and_fc7_make_and_torchvision_what_they_take(name: str, order: list[str]) -> None:
    assert [part for part, _ in on_meta(name).classifier.named_children()] == order


def test_dropout_keeps_the_expectation_and_is_off_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densevision.backbones.alexnet.CLASSIFIER_WIDTH", 64)
    torch.manual_seed(0)
    backbone = create_backbone("alexnet", num_classes=3)
    assert isinstance(backbone, AlexNet)
    units = torch.rand(1, 256 * 36)
    with torch.no_grad():
        assert not torch.equal(backbone.classifier(units), backbone.classifier(units))
        dropped = backbone.classifier(units.expand(4000, -1)).mean(0)
        whole = backbone.eval().classifier(units)[0]  # trap 22
        assert torch.equal(whole, backbone.classifier(units)[0])
        # facts 1.2: torch scales in training and nothing is scaled in testing
        assert (dropped - whole).abs().max() < 0.05 * whole.abs().max()


@pytest.mark.parametrize("name", TOTALS)
def test_tensors_have_torchvisions_names(name: str) -> None:
    with torch.device("meta"):
        peer = torchvision.models.alexnet()
    assert set(published_state(on_meta(name))) == set(peer.state_dict())


@pytest.fixture(scope="module")
def beside_torchvision() -> tuple[AlexNet, torchvision.models.AlexNet]:
    ours = filled(on_meta("alexnet_tv", num_classes=10))
    with torch.device("meta"):
        peer = torchvision.models.alexnet(num_classes=10)
    peer.load_state_dict(published_state(ours), assign=True)
    return ours, peer


@pytest.mark.parametrize("size", [(224, 224), (143, 200)])
def test_torchvisions_weights_give_torchvisions_logits_and_gradients(
    beside_torchvision: tuple[AlexNet, torchvision.models.AlexNet], size: tuple[int, int]
) -> None:
    ours, peer = (network.eval() for network in beside_torchvision)
    torch.manual_seed(0)
    image = torch.randn(2, 3, *size)
    gradients: list[dict[str, Tensor]] = []
    logits = []
    for network in (ours, peer):
        named = {getattr(network, "state_dict_alias", str)(name): p for name, p in network.named_parameters()}
        for parameter in named.values():
            parameter.requires_grad_()
        made = network(image)
        loss = nn.functional.cross_entropy(made, torch.tensor([3, 7]))
        gradients.append(dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True)))
        logits.append(made.detach())
    assert (logits[0] - logits[1]).abs().max() <= 1e-4
    for name, expected in gradients[1].items():
        assert (gradients[0][name] - expected).norm() <= 1e-4 * expected.norm(), name


def test_the_dense_form_of_torchvisions_agrees_at_224(
    beside_torchvision: tuple[AlexNet, torchvision.models.AlexNet],
) -> None:
    backbone = beside_torchvision[0].eval()
    torch.manual_seed(0)
    with torch.no_grad():
        larger = torch.randn(1, 3, 224, 224 + 32)
        crop = larger[:, :, :, :224]
        assert torch.allclose(backbone.forward_dense(crop)[:, :, 0, 0], backbone(crop), atol=1e-5)
        assert backbone.forward_dense(larger).shape == (1, 10, 1, 2)


def test_the_dense_form_of_the_paper_agrees_at_227(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densevision.backbones.alexnet.CLASSIFIER_WIDTH", 64)
    torch.manual_seed(0)
    backbone = create_backbone("alexnet", num_classes=3, init="he_fan_in").eval()
    image = torch.randn(2, 3, 227, 227)
    with torch.no_grad():
        assert torch.allclose(backbone.forward_dense(image)[:, :, 0, 0], backbone(image), atol=1e-5)
        assert backbone.forward_dense(torch.zeros(1, 3, 227 + 64, 227)).shape == (1, 3, 3, 1)


# The constants of the response normalization.

PAPER_TEXT = '{"n": 5, "alpha": 0.0001, "beta": 0.75, "k": 2, "alpha_is": "not divided"}'
CAFFE_TEXT = '{"n": 5, "alpha": 0.0001, "beta": 0.75, "k": 1, "alpha_is": "divided by n"}'


def test_the_constants_build_what_they_say() -> None:
    paper, caffe = (on_meta("alexnet", num_classes=0, levels=2, lrn=lrn) for lrn in (LRN(), CAFFE_LRN))
    norms = [backbone.convolutions.get_submodule("lrn1") for backbone in (paper, caffe)]
    assert all(isinstance(norm, LocalResponseNorm) for norm in norms)
    assert norms[0].constants == LRN(5, 1e-4, 0.75, 2)  # facts 1.2: k = 2, the sum is not divided
    # facts 1.2: Caffe's k is 1 and its alpha is divided by n
    assert norms[1].constants == LRN(5, 1e-4 / 5, 0.75, 1)
    assert on_meta("alexnet", num_classes=0).options == {"lrn": asdict(LRN())}
    assert on_meta("alexnet_tv", num_classes=0).options == {}


@pytest.mark.parametrize("lrn", [CAFFE_LRN, CAFFE_TEXT, str(CAFFE_LRN), asdict(CAFFE_LRN), json.loads(CAFFE_TEXT)])
def test_every_stored_form_of_the_constants_is_read(lrn: Any) -> None:
    assert LRN.parse(lrn) == CAFFE_LRN
    options = create_backbone("alexnet", num_classes=0, levels=1, lrn=lrn).options
    assert json.loads(json.dumps(options)) == {"lrn": {"size": 5, "alpha": 2e-5, "beta": 0.75, "k": 1}}


@pytest.mark.parametrize("text", [PAPER_TEXT, PAPER_TEXT.replace(": ", ":"), PAPER_TEXT.replace("2", "2.0")])
def test_constants_are_compared_as_numbers(text: str) -> None:
    assert LRN.parse(text) == LRN()


@pytest.mark.parametrize(
    "text",
    [
        "caffe",
        "[5]",
        "",
        "{}",
        "null",
        PAPER_TEXT.replace("not divided", "multiplied"),
        PAPER_TEXT.replace("5,", "4,", 1),
        PAPER_TEXT.replace("}", ', "more": 1}'),
        str(LRN()).replace("}", ', "more": 1}'),
        str(LRN()).replace("5,", "4,", 1),
    ],
)
def test_constants_in_another_form_are_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(UserError, match=r'^lrn.* use \'\{"size": 5, "alpha": 0.0001'):
        on_meta("alexnet", lrn=text)


def test_one_tower_has_no_constants_to_choose() -> None:
    with pytest.raises(UserError, match="alexnet_tv has no response normalization; leave lrn out"):
        create_backbone("alexnet_tv", lrn=LRN())


def test_the_constants_travel_with_a_file_and_are_not_contradicted(tmp_path: Path) -> None:
    path = tmp_path / "caffe.safetensors"
    save_weights(create_backbone("alexnet", num_classes=0, lrn=CAFFE_LRN, levels=2), path)
    assert LRN.parse(read_metadata(path)["lrn"]) == CAFFE_LRN
    for lrn in (None, CAFFE_LRN, CAFFE_TEXT):
        backbone = create_backbone("alexnet", path, num_classes=0, levels=2, lrn=lrn)
        assert backbone.options["lrn"] == asdict(CAFFE_LRN)
    refused = r"caffe.safetensors was trained with lrn='.*\"k\": 1.*', and alexnet was requested with lrn='.*\"k\": 2"
    with pytest.raises(UserError, match=refused):
        create_backbone("alexnet", path, num_classes=0, levels=2, lrn=LRN())
    with pytest.raises(UserError, match=refused):
        load_weights(create_backbone("alexnet", num_classes=0, levels=2), path)


def test_caffes_convolutions_load_completely_with_their_preprocessing(shared_data: Path) -> None:
    path = shared_data / "weights" / CAFFE
    backbone = create_backbone("alexnet", path, num_classes=0)
    assert isinstance(backbone, AlexNet)
    assert backbone.options == {"lrn": asdict(CAFFE_LRN)}
    assert backbone.preprocessing.mean == (122.68, 116.67, 104.01)
    assert (backbone.preprocessing.std, backbone.preprocessing.range) == ((32, 32, 32), (0, 255))
    assert (backbone.preprocessing.order, backbone.preprocessing.crop) == ("RGB", 227)
    stored = sum(int(torch.count_nonzero(parameter)) for parameter in backbone.parameters() if parameter.ndim == 4)
    assert stored == pytest.approx(0.116 * 2_332_704, rel=0.01)  # 11.6 % of the weights are not zero
    first = backbone.convolutions.get_parameter("conv1.weight")
    assert int((first.flatten(1).abs().amax(1) == 0).sum()) == 5  # five filters are all zero
    with torch.no_grad():
        maps = backbone.eval().features(backbone.preprocessing(torch.rand(1, 3, 227, 227)))
    assert [made.shape[-1] for made in maps] == [55, 27, 13, 6]
    assert all(0 < float(made.mean()) < 100 for made in maps)
    assert read_metadata(path)["lrn"] == CAFFE_TEXT
    assert verify_weights(path)["lrn"]["k"] == 1


def test_caffes_convolutions_say_that_a_classifier_is_not_among_them(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("densevision.backbones.alexnet.CLASSIFIER_WIDTH", 8)
    path = shared_data / "weights" / CAFFE
    missing = r"has 0 classes and 1000 were requested, so 'classifier.*fc6.weight' and 5 more are freshly initialized"
    with pytest.warns(WeightsWarning, match=missing):
        backbone = create_backbone("alexnet", path, num_classes=1000)
    assert backbone.num_classes == 1000


def test_caffes_convolutions_are_not_torchvisions(shared_data: Path) -> None:
    with pytest.raises(UserError, match="holds weights of alexnet, not of alexnet_tv"):
        create_backbone("alexnet_tv", shared_data / "weights" / CAFFE, num_classes=0)


def test_caffenet_pools_before_it_normalizes_with_the_same_parameters():
    # Facts-next B.1: CaffeNet swaps the two layers of the first two levels.
    torch.manual_seed(0)
    alexnet, caffenet = (create_backbone("alexnet", num_classes=0, pool_first=first) for first in (False, True))
    assert caffenet.options["pool_first"] is True
    caffenet.load_state_dict(alexnet.state_dict())
    image = 255 * torch.rand(1, 3, 99, 131)
    with torch.no_grad():
        ours, theirs = alexnet.features(image), caffenet.features(image)
        # conv1 is before both layers, all others are another function of them.
        torch.testing.assert_close(ours[0], theirs[0])
        lrn, pool = LocalResponseNorm(LRN()), nn.MaxPool2d(3, stride=2)
        expected = caffenet.get_submodule("convolutions.conv2")(lrn(pool(theirs[0]))).relu()
        torch.testing.assert_close(theirs[1], expected)
    assert [level.shape for level in ours] == [level.shape for level in theirs]
    assert not torch.allclose(ours[1], theirs[1])
    with pytest.raises(UserError, match="leave lrn out, and pool_first"):
        create_backbone("alexnet_tv", pool_first=True)
