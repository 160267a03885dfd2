"""Published weights of FCRN: the converted networks compute what the published definitions compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.io import savemat
from torch import Tensor

from densevision.backbones.resnet import EndPool
from densevision.tasks.conversion import convert_published, open_published
from densevision.tests.matconvnet import dagnn
from densevision.tests.published import Random, assert_same, converted, resnet_body
from densevision.tests.tensorflow_checkpoint import write_checkpoint

WIDTHS = {"2x": 512, "4x": 256, "8x": 128, "16x": 64}


def same_pool(x: Tensor) -> Tensor:
    """TensorFlow's `max_pool` 3x3, stride 2, SAME: the smaller half of the padding comes first."""
    pads = [max(2 * (-(-size // 2) - 1) + 3 - size, 0) for size in x.shape[-2:]]
    return F.max_pool2d(F.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2)), 3, 2)


def authors(net: Random, image: Tensor) -> Tensor:
    """`tensorflow/models/fcrn.py` in the order and names of the graph, weights as PyTorch has them."""

    def norm(name: str, x: Tensor) -> Tensor:
        return net.batch_norm(name, x, eps=1e-4)

    x = same_pool(F.relu(norm("bn_conv1", net.conv("conv1", image, 64, 7, 2, 3))))
    for stage, units in zip("2345", ("abc", "abcd", "abcdef", "abc"), strict=True):
        width = 32 * 2 ** (int(stage) - 1)
        for unit in units:
            at, stride = f"{stage}{unit}_branch", 2 if stage > "2" and unit == "a" else 1
            y = F.relu(norm(f"bn{at}2a", net.conv(f"res{at}2a", x, width, 1, stride, bias=False)))
            y = F.relu(norm(f"bn{at}2b", net.conv(f"res{at}2b", y, width, 3, 1, 1, bias=False)))
            y = norm(f"bn{at}2c", net.conv(f"res{at}2c", y, 4 * width, 1, bias=False))
            if unit == "a":
                x = norm(f"bn{at}1", net.conv(f"res{at}1", x, 4 * width, 1, stride, bias=False))
            x = F.relu(x + y)
    x = norm("layer1_BN", net.conv("layer1", x, 1024, 1))
    for block, width in WIDTHS.items():

        def unpool(branch: str, x: Tensor) -> Tensor:
            at = f"layer{block}_{branch}"  # noqa: B023
            a = net.conv(f"{at}_ConvA", x, width, 3, 1, 1)  # noqa: B023
            b = net.conv(f"{at}_ConvB", F.pad(x, (1, 1, 1, 0)), width, (2, 3))  # noqa: B023
            c = net.conv(f"{at}_ConvC", F.pad(x, (1, 0, 1, 1)), width, (3, 2))  # noqa: B023
            d = net.conv(f"{at}_ConvD", F.pad(x, (1, 0, 1, 0)), width, 2)  # noqa: B023
            y = a.new_empty(*a.shape[:2], 2 * a.shape[2], 2 * a.shape[3])
            y[..., ::2, ::2], y[..., 1::2, ::2], y[..., ::2, 1::2], y[..., 1::2, 1::2] = a, b, c, d
            return norm(f"{at}_BN", y)

        long = net.conv(f"layer{block}_Conv", F.relu(unpool("br1", x)), width, 3, 1, 1)
        x = F.relu(norm(f"layer{block}_BN", long) + unpool("br2", x))
    return F.relu(net.conv("ConvPred", x, 1, 3, 1, 1))


def from_npy(tmp_path: Path, state: dict[str, Tensor]) -> Any:
    """What is made of a `.npy` with a dict of dicts of arrays."""
    table: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in as_in_tensorflow(state).items():
        layer, part = name.rsplit(".", 1)
        table.setdefault(layer, {})[part] = tensor.contiguous().numpy()
    np.save(tmp_path / "published.npy", np.array(table, object), allow_pickle=True)
    return convert_published(open_published(tmp_path / "published.npy"))[1]


def from_checkpoint(tmp_path: Path, state: dict[str, Tensor]) -> Any:
    """What is made of a checkpoint of TensorFlow, with what training and the graph add."""
    variables = {name.replace(".", "/"): tensor for name, tensor in as_in_tensorflow(state).items()}
    slots = {f"{name}/Adam": tensor for name, tensor in variables.items() if name.startswith("ConvPred")}
    others = {"beta1_power": torch.tensor(0.9), "x_0_1": torch.arange(6), "global_step": torch.tensor(5)}
    write_checkpoint(tmp_path, "NYU_FCRN.ckpt", variables | slots | others)
    said, found = convert_published(open_published(tmp_path / "NYU_FCRN.ckpt"))
    assert "Left out 3 tensors that are no weights of the network" in " ".join(said)
    return found


def from_mat(tmp_path: Path, state: dict[str, Tensor]) -> Any:
    """What is made of a `.mat` with the parts of a DagNN."""
    savemat(tmp_path / "published.mat", dagnn(state))
    said, found = convert_published(open_published(tmp_path / "published.mat"))
    assert "The layout is that of FCRN (Laina et al., MatConvNet)." in said
    return found


TENSORFLOW = {"bias": "biases", "running_mean": "mean", "running_var": "variance"}


def as_in_tensorflow(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and axes of the released `.npy`: kernels are height, width, in, out."""
    stored = {}
    for name, tensor in state.items():
        layer, part = name.rsplit(".", 1)
        normalization = f"{layer}.running_mean" in state
        names = {"weight": "scale", "bias": "offset"} if normalization else {"weight": "weights"}
        stored[f"{layer}.{names.get(part) or TENSORFLOW[part]}"] = (
            tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor
        )
    return stored


def plain_port(decoder: str) -> Callable[[Random, Tensor], Tensor]:
    """sparse-to-dense's `models.py` with the decoder "upproj" before its last resize."""

    def network(net: Random, image: Tensor) -> Tensor:
        x = net.batch_norm("bn2", net.conv("conv2", resnet_body(net, image, 50), 1024, 1, bias=False))
        for number, width in enumerate(WIDTHS.values(), 1):
            at = f"{decoder}.layer{number}"
            unpooled = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
            unpooled[..., ::2, ::2] = x
            long = net.conv(f"{at}.upper_branch.conv1", unpooled, width, 5, 1, 2, bias=False)
            long = F.relu(net.batch_norm(f"{at}.upper_branch.batchnorm1", long))
            long = net.conv(f"{at}.upper_branch.conv2", long, width, 3, 1, 1, bias=False)
            short = net.conv(f"{at}.bottom_branch.conv", unpooled, width, 5, 1, 2, bias=False)
            x = F.relu(
                net.batch_norm(f"{at}.upper_branch.batchnorm2", long)
                + net.batch_norm(f"{at}.bottom_branch.batchnorm", short)
            )
        return net.conv("conv3", x, 1, 3, 1, 1, bias=False)

    return network


def swapped_port(net: Random, image: Tensor) -> Tensor:
    """XPFly1989's `fcrn.py` before its last resize, on images of 0 to 255."""
    x = net.batch_norm("bn2", net.conv("conv2", resnet_body(net, image, 50), 1024, 1, bias=False))
    for number, width in enumerate(WIDTHS.values(), 1):

        def unpool(branch: int, x: Tensor) -> Tensor:
            pads = ((1, 1, 1, 1), (1, 1, 1, 0), (1, 0, 1, 1), (1, 0, 1, 0))
            kernels = ((3, 3), (2, 3), (3, 2), (2, 2))
            a, b, c, d = (
                net.conv(f"up{number}.conv{branch}_{part}", F.pad(x, pad), width, kernel)  # noqa: B023
                for part, (pad, kernel) in enumerate(zip(pads, kernels, strict=True), 1)
            )
            rows = [torch.stack(pair, -1).flatten(-2) for pair in ((a, b), (c, d))]
            return net.batch_norm(f"up{number}.bn1_{branch}", torch.stack(rows, -2).flatten(-3, -2))  # noqa: B023

        long = net.conv(f"up{number}.conv3", F.relu(unpool(1, x)), width, 3, 1, 1)
        x = F.relu(net.batch_norm(f"up{number}.bn2", long) + unpool(2, x))
    return F.relu(net.conv("conv3", x, 1, 3, 1, 1))


def from_pth(_: Path, state: dict[str, Tensor]) -> Any:
    return converted(state)[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "stored", "name", "levels"),
    [
        (authors, from_npy, "fcrn_nyu", 255),
        (authors, from_checkpoint, "fcrn_nyu", 255),
        (authors, from_mat, "fcrn_nyu", 255),
        (plain_port("decoder"), from_pth, "fcrn_plain_3x3", 1),
        (plain_port("upSample"), from_pth, "fcrn_plain_3x3", 1),
        (swapped_port, from_pth, "fcrn_swapped_3x3", 255),
    ],
)
def test_a_published_fcrn_computes_what_its_code_computes(tmp_path, network, stored, name, levels):
    net, image = Random(), torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    expected = network(net, levels * image)
    found = stored(tmp_path, net.state)
    assert found.network == name
    with torch.no_grad():
        depth = found.build()(image)
    assert expected.std() > 0
    assert_same(depth, expected)


@pytest.mark.parametrize("size", [(114, 152), (57, 76), (5, 6)])
def test_the_pool_of_the_released_graph_is_tensorflows(size):
    maps = torch.rand(2, 3, *size)
    torch.testing.assert_close(EndPool()(maps), same_pool(maps))
