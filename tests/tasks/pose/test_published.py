"""Published weights of SimpleBaseline: the converted network computes what the published definition computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.io import savemat
from torch import Tensor

from densevision.tasks.conversion import convert_published, open_published
from densevision.tests.published import Random, assert_same, converted, resnet_body


def baseline(net: Random, image: Tensor, joints: int, depth: int, body: str, head: str) -> Tensor:
    """`lib/models/pose_resnet.py`: a preprocessed image (1, 3, H, W) to heat maps at a quarter."""
    x = resnet_body(net, image, depth, prefix=body)
    for layer in (0, 3, 6):
        x = net.deconv(f"{head}deconv_layers.{layer}", x, 256, bias=False)
        x = F.relu(net.batch_norm(f"{head}deconv_layers.{layer + 1}", x))
    return net.conv(f"{head}final_layer", x, joints, 1)


@pytest.mark.parametrize(
    ("depth", "joints", "body", "head", "bgr"),
    [
        pytest.param(50, 16, "", "", True, marks=pytest.mark.slow),
        (18, 17, "backbone.", "keypoint_head.", False),
        (18, 17, "backbone.", "head.", False),
    ],
)
def test_a_published_baseline_computes_what_its_code_computes(depth, joints, body, head, bgr):
    net, image = Random(), torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    color = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    expected = baseline(net, ((image.flip(1) if bgr else image) - color[0]) / color[1], joints, depth, body, head)
    _, found = converted({"meta": {}, "state_dict": net.state})
    assert (found.network, found.head) == (f"resnet{depth}", "deconvolution")
    assert len(found.fields["joints"].skeleton.names) == joints
    with torch.no_grad():
        maps = found.build()(image)
    assert_same(maps, expected)


def belagiannis(net: Random, x: Tensor) -> Tensor:
    """`keypoint-regressor/initializeRegNetwork.m`: (1, 3, 120, 80) minus 128 to 28 numbers."""

    def lrn(x: Tensor) -> Tensor:
        padded = F.pad(x.square(), (0, 0, 0, 0, 2, 2))
        total = sum(padded[:, n : n + x.shape[1]] for n in range(5))
        return x / (1 + 1e-4 / 5 * total) ** 0.75

    x = lrn(F.max_pool2d(F.relu(net.conv("1", x, 32, 5)), 3, 2))
    x = lrn(F.max_pool2d(F.relu(net.conv("2", x, 32, 3)), 3, 2))
    x = F.relu(net.conv("4", F.relu(net.conv("3", x, 64, 3, 1, 1)), 64, 3))
    x = lrn(F.relu(net.conv("5", lrn(F.max_pool2d(x, 3, 2)), 1024, (12, 7))))
    x = F.relu(net.conv("7", F.relu(net.conv("6", x, 2048, 1)), 1024, 1))
    return net.conv("8", x, 28, 1).flatten(1)


@pytest.mark.parametrize("form", ["dagnn", "filters", "weights"])
def test_the_network_of_matconvnet_computes_what_its_definition_computes(tmp_path, form):
    net, image = Random(), torch.rand(1, 3, 120, 80, generator=torch.Generator().manual_seed(1))
    expected = belagiannis(net, 255 * image - 128)
    layers = []
    for number in range(1, 9):
        filters = net.state[f"{number}.weight"].permute(2, 3, 1, 0).numpy()
        biases = net.state[f"{number}.bias"].numpy()[None]
        layers.append((filters, biases))
    saved: dict[str, Any]
    values: list[dict[str, Any]] = []
    if form == "dagnn":
        params = np.empty((1, 2 * len(layers)), [("name", object), ("value", object)])
        for n, array in enumerate(array for layer in layers for array in layer):
            params[0, n] = (f"layer{n // 2}{'fb'[n % 2]}", array)
        saved = {"layers": np.empty((1, 0), object), "params": params}
    else:
        for filters, biases in layers:
            pair = np.empty((1, 2), object)
            pair[0, 0], pair[0, 1] = filters, biases
            entry = {"weights": pair} if form == "weights" else {"filters": filters, "biases": biases}
            values += [{"type": "conv", **entry}, {"type": "relu"}]
        cells = np.empty((1, len(values)), object)
        cells[0, :] = values
        saved = {"layers": cells}
    savemat(tmp_path / "net-epoch-70.mat", {"net": saved})
    _, found = convert_published(open_published(tmp_path / "net-epoch-70.mat"))
    assert found.network == "belagiannis"
    model: Any = found.build()
    with torch.no_grad():
        fractions = model.coordinates(image)[-1]
    assert_same(fractions.flatten(1), expected)
