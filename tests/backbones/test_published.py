"""Published weights of backbones: the converted network computes what the published definition computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from densevision.backbones import create_backbone
from densevision.backbones.published import ConvertedBackbone
from densevision.tasks.conversion import convert_published, open_published
from densevision.tests.caffe import Layer, caffe_bytes, layers_of
from densevision.tests.published import Random, assert_same, converted, resnet_body
from densevision.tests.torch7 import Module, convolution, normalization, sequence, torch7_bytes


def photo(size: int, channels: int = 3) -> Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def cifar_resnet(net: Random, x: Tensor, units: int, option: str, shortcut: str, head: str) -> Tensor:
    """akamaster's `resnet.py` (option A or B) and bearpaw's `models/cifar/resnet.py` (B)."""
    x = F.relu(net.batch_norm("bn1", net.conv("conv1", x, 16, 3, 1, 1, bias=False)))
    for stage, width in enumerate((16, 32, 64), 1):
        for unit in range(units):
            at, stride = f"layer{stage}.{unit}", 2 if stage > 1 and unit == 0 else 1
            y = F.relu(net.batch_norm(f"{at}.bn1", net.conv(f"{at}.conv1", x, width, 3, stride, 1, bias=False)))
            y = net.batch_norm(f"{at}.bn2", net.conv(f"{at}.conv2", y, width, 3, 1, 1, bias=False))
            if stride == 2 and option == "A":
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, width // 4, width // 4))
            elif stride == 2:
                x = net.conv(f"{at}.{shortcut}.0", x, width, 1, 2, bias=False)
                x = net.batch_norm(f"{at}.{shortcut}.1", x)
            x = F.relu(x + y)
    return net.linear(head, x.mean((2, 3)), 10)


@pytest.mark.parametrize(
    ("units", "option", "shortcut", "head"),
    [(3, "A", "", "linear"), (5, "A", "", "linear"), (3, "B", "shortcut", "linear"), (9, "B", "downsample", "fc")],
)
def test_a_published_resnet_for_cifar_computes_what_its_code_computes(tmp_path, units, option, shortcut, head):
    net, image = Random(), photo(32)
    expected = cifar_resnet(net, image, units, option, shortcut, head)
    _, found = converted({"state_dict": {f"module.{name}": tensor for name, tensor in net.state.items()}})
    found.save(tmp_path / "cifar.safetensors", "resnet.th", "their terms")
    # The file decides on the place of the zeros.
    backbone = create_backbone(f"resnet{6 * units + 2}_cifar", tmp_path / "cifar.safetensors").eval()
    assert backbone.options["shortcut"] == ("A-centered" if option == "A" else "B")
    assert backbone.preprocessing.crop == 32
    with torch.no_grad():
        assert_same(backbone(image), expected)


def preact(net: Random, x: Tensor, units: tuple[int, ...], bottleneck: bool) -> Tensor:
    """kuangliu's `models/preact_resnet.py`."""
    x = net.conv("conv1", x, 64, 3, 1, 1, bias=False)
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for unit in range(units[stage - 1]):
            at, stride = f"layer{stage}.{unit}", 2 if stage > 1 and unit == 0 else 1
            kernels, out = ((1, 3, 1), 4 * width) if bottleneck else ((3, 3), width)
            y = F.relu(net.batch_norm(f"{at}.bn1", x))
            if stride == 2 or x.shape[1] != out:
                x = net.conv(f"{at}.shortcut.0", y, out, 1, stride, bias=False)
            for part, kernel in enumerate(kernels, 1):
                y = F.relu(net.batch_norm(f"{at}.bn{part}", y)) if part > 1 else y
                channels, step = out if part == len(kernels) else width, stride if part == len(kernels) - 1 else 1
                y = net.conv(f"{at}.conv{part}", y, channels, kernel, step, kernel // 2, bias=False)
            x = x + y
    return net.linear("linear", F.avg_pool2d(x, 4).flatten(1), 10)


@pytest.mark.parametrize(
    ("depth", "units", "bottleneck", "parameters"),
    [
        (18, (2, 2, 2, 2), False, 11_171_146),
        pytest.param(34, (3, 4, 6, 3), False, 21_279_306, marks=pytest.mark.slow),
        pytest.param(50, (3, 4, 6, 3), True, 23_509_066, marks=pytest.mark.slow),
        pytest.param(101, (3, 4, 23, 3), True, 42_501_194, marks=pytest.mark.slow),
        pytest.param(152, (3, 8, 36, 3), True, 58_144_842, marks=pytest.mark.slow),
    ],
)
def test_a_published_preact_resnet_for_cifar_computes_what_its_code_computes(
    tmp_path, depth, units, bottleneck, parameters
):
    net, image = Random(), photo(32)
    expected = preact(net, image, units, bottleneck)
    _, found = converted({"net": {f"module.{name}": tensor for name, tensor in net.state.items()}, "acc": 95.1})
    found.save(tmp_path / "preact.safetensors", "ckpt.pth", "their terms")
    backbone = create_backbone(f"preact{depth}_cifar", tmp_path / "preact.safetensors").eval()
    assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters
    with torch.no_grad():
        assert_same(backbone(image), expected)


@pytest.mark.parametrize("tables", [
    "model_state_dict.", "net.", "state_dict_ema.", "model.", "state_dict.backbone.", "state_dict.module.encoder_q.",
    "_orig_mod.", "state_dict.module._orig_mod.model.", "",
])  # fmt: skip
def test_a_wrapped_resnet_is_imported_without_its_prefix_which_is_said(tables):
    net, image = Random(), photo(64)
    expected = net.linear("fc", resnet_body(net, image, 18).mean((2, 3)), 7)
    others = {"module.queue": torch.rand(3, 5), "optimizer": {"state": {0: torch.rand(3)}}}
    said, found = converted({**{f"{tables}{name}": tensor for name, tensor in net.state.items()}, **others}, "resnet18")
    prefix = tables.replace("_orig_mod.", "")
    assert any(f"'{prefix}'" in sentence for sentence in said) == bool(prefix)
    with torch.no_grad():
        assert_same(found.build()(image), expected)


def test_a_head_of_another_kind_is_left_out_and_said():
    net, image = Random(), photo(64)
    x = resnet_body(net, image, 18, prefix="module.encoder_q.")
    net.linear("module.encoder_q.fc.2", net.linear("module.encoder_q.fc.0", x.mean((2, 3)), 512), 128)
    said, found = converted({"state_dict": net.state}, "resnet18")
    assert "Left out 4 tensors that resnet18 does not have: fc.0.weight" in " ".join(said)
    backbone = found.build()
    assert backbone.num_classes == 0
    with torch.no_grad():
        assert_same(backbone.features(image)[-1], x)


def caffe_file(tmp_path: Path, layers: list[Layer], old: bool) -> Any:
    """What is made of a `.caffemodel` with these layers."""
    path = tmp_path / "published.caffemodel"
    path.write_bytes(caffe_bytes(layers, old))
    return convert_published(open_published(path))[1]


def lrn(x: Tensor) -> Tensor:
    """Caffe's `LRN`: the sum of squares times alpha / n, and k = 1."""
    padded = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
    total = sum(padded[:, n : n + x.shape[1]] for n in range(5))
    return x / (1 + 1e-4 / 5 * total) ** 0.75


def bgr(image: Tensor, mean: tuple[float, float, float]) -> Tensor:
    """RGB of 0 to 1 as Caffe's networks take it."""
    return 255 * image.flip(1) - torch.tensor(mean).view(3, 1, 1)


def alexnet(net: Random, x: Tensor, pool_first: bool, width: int) -> Tensor:
    """`models/bvlc_alexnet/deploy.prototxt` and `models/bvlc_reference_caffenet/deploy.prototxt`."""

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    x = F.relu(net.conv("conv1", x, 96, 11, 4))
    x = lrn(pool(x)) if pool_first else pool(lrn(x))
    x = F.relu(net.conv("conv2", x, 256, 5, 1, 2, groups=2))
    x = lrn(pool(x)) if pool_first else pool(lrn(x))
    x = F.relu(net.conv("conv3", x, 384, 3, 1, 1))
    x = F.relu(net.conv("conv4", x, 384, 3, 1, 1, groups=2))
    x = pool(F.relu(net.conv("conv5", x, 256, 3, 1, 1, groups=2)))
    x = F.relu(net.linear("fc7", F.relu(net.linear("fc6", x.flatten(1), 4096)), 4096))
    return net.linear("fc8", x, width)


@pytest.mark.slow
@pytest.mark.parametrize(("pool_first", "old"), [(False, True), (True, False)])
def test_caffes_alexnets_compute_what_their_definitions_compute(tmp_path, pool_first, old):
    net, image = Random(), photo(227)
    expected = alexnet(net, bgr(image, (104, 117, 123)), pool_first, 11)
    between = "relu1 pool1 norm1" if pool_first else "relu1 norm1 pool1"
    found = caffe_file(tmp_path, layers_of(net.state, [f"conv1:{between}"]), old)
    found.save(tmp_path / "alexnet.safetensors", "published", "")
    backbone = create_backbone("alexnet", tmp_path / "alexnet.safetensors", 11).eval()
    with torch.no_grad():
        logits = backbone(backbone.preprocessing(image))
    assert_same(logits, expected)


def googlenet(net: Random, x: Tensor) -> Tensor:
    """`models/bvlc_googlenet/train_val.prototxt`, without its losses in between."""

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def conv(name: str, x: Tensor, width: int, kernel: int, stride: int = 1) -> Tensor:
        return F.relu(net.conv(name, x, width, kernel, stride, kernel // 2))

    x = lrn(pool(conv("conv1/7x7_s2", x, 64, 7, 2)))
    x = pool(lrn(conv("conv2/3x3", conv("conv2/3x3_reduce", x, 64, 1), 192, 3)))
    rows = {
        "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
    }  # fmt: skip
    for name, (one, reduce3, three, reduce5, five, project) in rows.items():
        if name in ("4a", "5a"):
            x = pool(x)
        at = f"inception_{name}"
        branches = [conv(f"{at}/1x1", x, one, 1), conv(f"{at}/3x3", conv(f"{at}/3x3_reduce", x, reduce3, 1), three, 3)]
        branches.append(conv(f"{at}/5x5", conv(f"{at}/5x5_reduce", x, reduce5, 1), five, 5))
        branches.append(conv(f"{at}/pool_proj", F.max_pool2d(x, 3, 1, 1), project, 1))
        x = torch.cat(branches, 1)
        if name in ("4a", "4d"):  # its own classifier, in training
            loss = "loss1" if name == "4a" else "loss2"
            y = conv(f"{loss}/conv", F.avg_pool2d(x, 5, 3, ceil_mode=True), 128, 1)
            net.linear(f"{loss}/classifier", F.relu(net.linear(f"{loss}/fc", y.flatten(1), 1024)), 5)
    return net.linear("loss3/classifier", x.mean((2, 3)), 5)


@pytest.mark.slow
def test_caffes_googlenet_computes_what_its_definition_computes(tmp_path):
    net, image = Random(), photo(224)[:1]
    expected = googlenet(net, bgr(image, (104, 117, 123)))
    found = caffe_file(tmp_path, layers_of(net.state), True)
    found.save(tmp_path / "googlenet.safetensors", "published", "")
    backbone = create_backbone("googlenet", tmp_path / "googlenet.safetensors", 5).eval()
    with torch.no_grad():
        logits = backbone(backbone.preprocessing(image))
    assert_same(logits, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("network", "units"), [("vgg16", (2, 2, 3, 3, 3)), ("vgg19", (2, 2, 4, 4, 4))])
def test_the_authors_vgg_computes_what_its_definition_computes(tmp_path, network, units):
    net, image = Random(), photo(224)[:1]
    x = bgr(image, (103.939, 116.779, 123.68))
    for block, (count, width) in enumerate(zip(units, (64, 128, 256, 512, 512), strict=True), 1):
        for n in range(1, count + 1):
            x = F.relu(net.conv(f"conv{block}_{n}", x, width, 3, 1, 1))
        x = F.max_pool2d(x, 2, 2)
    x = F.relu(net.linear("fc7", F.relu(net.linear("fc6", x.flatten(1), 4096)), 4096))
    expected = net.linear("fc8", x, 3)
    found = caffe_file(tmp_path, layers_of(net.state), True)
    assert found.network == network
    backbone = found.build()
    with torch.no_grad():
        logits = backbone(backbone.preprocessing(image))
    assert_same(logits, expected)


def caffe_resnet(net: Random, x: Tensor, units: tuple[int, ...], bias: bool) -> Tensor:
    """`ResNet-50-deploy.prototxt`: the pool has no padding and rounds up, and units halve in their first 1x1."""
    x = F.relu(net.batch_norm("bn_conv1", net.conv("conv1", x, 64, 7, 2, 3, bias=bias)))
    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
    for stage, count in enumerate(units, 2):
        width = 16 * 2**stage
        for unit in range(count):
            letter = "abcdef"[unit] if count < 7 else "a" if unit == 0 else f"b{unit}"
            at, stride = f"{stage}{letter}_branch", 2 if stage > 2 and unit == 0 else 1
            y = F.relu(net.batch_norm(f"bn{at}2a", net.conv(f"res{at}2a", x, width, 1, stride, bias=False)))
            y = F.relu(net.batch_norm(f"bn{at}2b", net.conv(f"res{at}2b", y, width, 3, 1, 1, bias=False)))
            y = net.batch_norm(f"bn{at}2c", net.conv(f"res{at}2c", y, 4 * width, 1, bias=False))
            if unit == 0:
                x = net.batch_norm(f"bn{at}1", net.conv(f"res{at}1", x, 4 * width, 1, stride, bias=False))
            x = F.relu(x + y)
    return net.linear("fc1000", x.mean((2, 3)), 9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "units", "bias"),
    [
        ("resnet50", (3, 4, 6, 3), True),
        ("resnet101", (3, 4, 23, 3), False),
    ],
)
def test_the_authors_resnets_compute_what_their_definitions_compute(tmp_path, network, units, bias):
    net, image = Random(), photo(64)
    expected = caffe_resnet(net, bgr(image, (103.939, 116.779, 123.68)), units, bias)
    found = caffe_file(tmp_path, layers_of(net.state), False)
    found.save(tmp_path / "resnet.safetensors", "published", "")
    backbone = create_backbone(network, tmp_path / "resnet.safetensors", 9).eval()
    assert (backbone.options["stride_in"], backbone.options["pool"]) == ("1x1", "end")
    with torch.no_grad():
        logits = backbone(backbone.preprocessing(image))
    assert_same(logits, expected)


@pytest.mark.slow
def test_cadenes_inception_resnet_v2_is_timms_without_the_background(tmp_path):
    with torch.device("meta"):
        shapes = timm.create_model("inception_resnet_v2").state_dict()
    net = Random()
    for name, tensor in shapes.items():
        if not name.endswith("num_batches_tracked"):
            low = 0.5 if name.endswith("running_var") else -1.0
            net.draw(name.replace("classif.", "last_linear."), *tensor.shape, scale=0.1 if low < 0 else 1.0, low=low)
    for name in ("last_linear.weight", "last_linear.bias"):
        net.state[name] = torch.cat([net.state[name][:1], net.state[name]])
    said, found = converted(net.state)
    assert "Left out the first of 1001 classes, the background" in " ".join(said)
    reference = timm.create_model("inception_resnet_v2").eval()
    reference.load_state_dict(
        {
            name: net.state[name] if name in net.state else net.state[name.replace("classif.", "last_linear.")][1:]
            for name in shapes
            if not name.endswith("num_batches_tracked")
        },
        strict=False,
    )
    image = photo(128)[:1]
    with torch.no_grad():
        expected = reference(image)
        torch.testing.assert_close(found.build()(image), expected, atol=1e-4 * float(expected.std()), rtol=1e-3)


def torch7_unit(net: Random, x: Tensor, at: str, width: int, stride: int, preact: str | None) -> tuple[Tensor, Module]:
    """A bottleneck of fb.resnet.torch: its output and its module; `preact` is None for the original unit.

    "no" has no normalization in front, "both" one in front of both branches, "one" in front of the convolutions.
    """
    modules, relu = [], Module("cudnn.ReLU")
    y = x
    front: list[Module] = []
    if preact in ("both", "one"):
        y = F.relu(net.batch_norm(f"{at}.bn0", x))
        (front if preact == "both" else modules).extend([normalization(net.state, f"{at}.bn0"), relu])
        x = y if preact == "both" else x
    for n, (channels, kernel, step) in enumerate(((width, 1, 1), (width, 3, stride), (4 * width, 1, 1)), 1):
        y = net.conv(f"{at}.conv{n}", y, channels, kernel, step, kernel // 2, bias=False)
        modules.append(convolution(net.state, f"{at}.conv{n}", step))
        if preact is None or n < 3:
            y = net.batch_norm(f"{at}.bn{n}", y)
            modules.append(normalization(net.state, f"{at}.bn{n}"))
            y = F.relu(y) if n < 3 else y
            modules += [relu] if n < 3 else []
    beside = [Module("nn.Identity")]
    if x.shape[1] != 4 * width:
        x = net.conv(f"{at}.short", x, 4 * width, 1, stride, bias=False)
        beside = [convolution(net.state, f"{at}.short", stride)]
        if preact is None:
            x = net.batch_norm(f"{at}.shortbn", x)
            beside.append(normalization(net.state, f"{at}.shortbn"))
    both = sequence("nn.ConcatTable", sequence("nn.Sequential", *modules), sequence("nn.Sequential", *beside))
    unit = sequence("nn.Sequential", *front, both, Module("nn.CAddTable"))
    return (F.relu(x + y) if preact is None else x + y), unit


def torch7_resnet(net: Random, x: Tensor, units: tuple[int, ...], preact: bool) -> tuple[Tensor, Module]:
    """fb.resnet.torch's `models/resnet.lua` and `models/preresnet.lua` for ImageNet: logits and the network."""
    x = F.max_pool2d(F.relu(net.batch_norm("bn", net.conv("conv", x, 64, 7, 2, 3, bias=False))), 3, 2, 1)
    modules = [convolution(net.state, "conv", 2), normalization(net.state, "bn"), Module("cudnn.ReLU")]
    for stage, count in enumerate(units):
        stack = []
        for unit in range(count):
            kind = None if not preact else "one" if unit else "both" if stage else "no"
            stride = 2 if stage and unit == 0 else 1
            x, module = torch7_unit(net, x, f"{stage}.{unit}", 64 * 2**stage, stride, kind)
            stack.append(module)
        modules.append(sequence("nn.Sequential", *stack))
    if preact:
        x = F.relu(net.batch_norm("last", x))
        modules.append(normalization(net.state, "last"))
    logits = net.linear("fc", x.mean((2, 3)), 5)
    modules.append(Module("nn.Linear", weight=net.state["fc.weight"], bias=net.state["fc.bias"]))
    return logits, sequence("nn.Sequential", *modules)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "units", "preact"), [("resnet50", (3, 4, 6, 3), False), ("preact200", (3, 24, 36, 3), True)]
)
def test_networks_of_torch7_compute_what_their_definitions_compute(tmp_path, network, units, preact):
    net, image = Random(), photo(64)
    expected, module = torch7_resnet(net, image, units, preact)
    (tmp_path / "resnet.t7").write_bytes(torch7_bytes(module))
    _, found = convert_published(open_published(tmp_path / "resnet.t7"))
    assert isinstance(found, ConvertedBackbone)
    assert (found.network, found.options["stride_in"]) == (network, "3x3")
    with torch.no_grad():
        logits = found.build()(image)
    assert_same(logits, expected)
