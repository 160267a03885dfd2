"""First-layer filters, activation maps, and image grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from densevision import create_backbone
from densevision.backbones.backbone import Preprocessing
from densevision.datasets.core.drawing import CAPTION_HEIGHT, GAP
from densevision.errors import UserError
from densevision.visualize.core.model import inspect_backbone
from densevision.visualize.features.activations import (
    CELL,
    activations,
    draw_activations,
    draw_filters,
    filters,
    select_channels,
)

from ..toys import random_image, toy


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_filters_act_on_pixels_like_the_model(order):
    model = toy()
    assert model.backbone is not None
    model.backbone.preprocessing = Preprocessing((120.0, 110.0, 100.0), (2.0, 3.0, 4.0), (0.0, 255.0), order)
    weights = torch.from_numpy(filters(model).array)
    (first,), (second,) = random_image(seed=1), random_image(seed=2)
    conv = model.backbone.get_submodule("conv1")
    with torch.no_grad():
        difference = conv(model.backbone.preprocessing(first)) - conv(model.backbone.preprocessing(second))
    # Biases and means cancel; the border is left out, because zero padding is not preprocessed.
    result = functional.conv2d(first - second, weights)
    assert torch.allclose(result, difference[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-3)


def test_alexnet_has_96_filters_of_11_pixels():
    # Facts 1.2
    assert filters(inspect_backbone(create_backbone("alexnet", num_classes=0, levels=1))).array.shape == (96, 3, 11, 11)


def test_a_model_without_a_first_convolution_is_refused():
    model = toy()
    assert model.backbone is not None
    model.backbone.conv1 = nn.Conv2d(4, 6, 3)
    with pytest.raises(UserError, match="no convolution"):
        filters(model)


def test_every_filter_has_its_own_scale_and_zero_is_gray():
    weights = np.zeros((3, 3, 2, 2), np.float32)
    weights[0, 0] = 1.0
    weights[1, 0] = 0.001
    rendered = draw_filters(weights)
    strong, weak, dead = (rendered[20, number * (44 + GAP) + 20] for number in range(3))
    assert strong.tolist() == weak.tolist() == [255, 128, 128] and dead.tolist() == [128, 128, 128]


def test_activations_are_those_of_the_level():
    model, pixels = toy(), random_image()
    assert model.backbone is not None
    model.module.eval()
    with torch.no_grad():
        _, expected = model.backbone.features(model.backbone.preprocessing(pixels[0]))
    model.module.train()
    assert np.array_equal(activations(model, pixels, "b").array, expected[0].numpy())
    assert model.module.training


def test_a_layer_without_spatial_positions_is_refused():
    with pytest.raises(UserError, match="'fc' of toy has no spatial positions"):
        activations(toy(), random_image(), "fc")


def test_the_strongest_channels_come_first():
    maps = np.stack([np.full((2, 2), value, np.float32) for value in (1, -5, 0, 3)])
    assert select_channels(maps, 3) == [1, 3, 0]
    assert select_channels(maps, 3, "number") == [0, 1, 2]
    assert select_channels(maps, 9, "number") == [0, 1, 2, 3]


def test_a_grid_has_a_cell_for_each_channel():
    rendered = draw_activations(np.random.default_rng(0).random((6, 4, 8), np.float32), [0, 1, 2, 3, 4, 5])
    # Three columns of two rows, half as high as wide, with a caption below each.
    assert rendered.shape == (2 * (CELL // 2 + CAPTION_HEIGHT) + GAP, 3 * CELL + 2 * GAP, 3)


@pytest.mark.parametrize(
    ("verb", "options", "shape"),
    [
        ("filters", (), (16, 3, 3, 3)),
        ("activations", ("--image", "p.png", "--level", "stage1", "--count", "4"), (16, 224, 224)),
    ],
)
def test_the_command_writes_an_image_and_its_array(run, tmp_path, request, verb, options, shape):
    request.getfixturevalue("image")(tmp_path / "p.png", 40, 40)
    result = run("visualize", verb, "--model", "resnet20_cifar", *options, "--out", "s.png")
    assert result.out.splitlines()[-1] == "Wrote s.png and s.npy.", result
    # 16 filters of 3 x 3 (He et al. 2015, section 4.2); the default input size of backbones is 224 x 224.
    assert np.load(tmp_path / "s.npy").shape == shape
