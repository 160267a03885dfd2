"""First-layer filters with respect to pixels, and grids of activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from densevision import create_backbone
from densevision.apps.visualize.activations import CELL, activations, chosen_channels, draw_activations
from densevision.apps.visualize.filters import draw_filters, filters
from densevision.apps.visualize.subject import subject_of_trunk
from densevision.apps.visualize.tiles import GAP, LINE, fitted, grid
from densevision.backbones.backbone import Preprocessing
from densevision.errors import UserError

from .toys import picture, toy


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_filters_act_on_pixels_as_the_network_does(order):
    subject = toy()
    assert subject.trunk is not None
    subject.trunk.preprocessing = Preprocessing((120.0, 110.0, 100.0), (2.0, 3.0, 4.0), (0.0, 255.0), order)
    weights = torch.from_numpy(filters(subject))
    (one,), (other,) = picture(seed=1), picture(seed=2)
    conv = subject.trunk.get_submodule("conv1")
    with torch.no_grad():
        by_network = conv(subject.trunk.preprocessing(one)) - conv(subject.trunk.preprocessing(other))
    # Biases and means cancel; zero padding, which the preprocessing does not move, is left out.
    made = functional.conv2d(one - other, weights)
    assert torch.allclose(made, by_network[:, :, 1:-1, 1:-1], rtol=1e-4, atol=1e-3)


def test_alexnet_has_96_filters_of_11_pixels():
    # facts 1.2
    assert filters(subject_of_trunk(create_backbone("alexnet", classes=0, levels=1))).shape == (96, 3, 11, 11)


def test_a_network_that_reads_without_a_convolution_is_refused():
    subject = toy()
    assert subject.trunk is not None
    subject.trunk.conv1 = nn.Conv2d(4, 6, 3)
    with pytest.raises(UserError, match="no convolution"):
        filters(subject)


def test_every_filter_is_drawn_at_its_own_scale_and_a_dead_one_grey():
    weights = np.zeros((3, 3, 2, 2), np.float32)
    weights[0, 0] = 1.0
    weights[1, 0] = 0.001
    drawn = draw_filters(weights)
    strong, weak, dead = (drawn[20, number * (44 + GAP) + 20] for number in range(3))
    assert strong.tolist() == weak.tolist() == [255, 128, 128] and dead.tolist() == [128, 128, 128]


def test_activations_are_those_of_the_level():
    subject, pixels = toy(), picture()
    assert subject.trunk is not None
    subject.model.eval()
    with torch.no_grad():
        _, wanted = subject.trunk.features(subject.trunk.preprocessing(pixels[0]))
    subject.model.train()
    assert np.array_equal(activations(subject, pixels, "b"), wanted[0].numpy())
    assert subject.model.training


def test_a_layer_without_places_is_refused():
    with pytest.raises(UserError, match="'fc' of toy has no places"):
        activations(toy(), picture(), "fc")


def test_the_strongest_channels_come_first():
    maps = np.stack([np.full((2, 2), value, np.float32) for value in (1, -5, 0, 3)])
    assert chosen_channels(maps, 3) == [1, 3, 0]
    assert chosen_channels(maps, 3, "number") == [0, 1, 2]
    assert chosen_channels(maps, 9, "number") == [0, 1, 2, 3]


def test_a_grid_has_a_cell_for_each_channel():
    drawn = draw_activations(np.random.default_rng(0).random((6, 4, 8), np.float32), [0, 1, 2, 3, 4, 5])
    # Three columns of two rows, half as high as wide, a line of words below each.
    assert drawn.shape == (2 * (CELL // 2 + LINE) + GAP, 3 * CELL + 2 * GAP, 3)


def test_a_picture_fits_its_cell_whole():
    made = fitted(np.zeros((10, 40, 3), np.uint8), (60, 60))
    assert made.shape == (60, 60, 3)
    dark = np.argwhere(made[..., 0] == 0)
    assert dark.min(0).tolist() == [22, 0] and dark.max(0).tolist() == [36, 59]


def test_a_grid_keeps_its_order():
    cells = [np.full((2, 3, 3), value, np.uint8) for value in (1, 2, 3)]
    made = grid(cells, 2)
    assert made.shape == (4 + GAP, 6 + GAP, 3)
    assert (made[0, 0, 0], made[0, -1, 0], made[-1, 0, 0], made[-1, -1, 0]) == (1, 2, 3, 255)


@pytest.mark.parametrize(
    ("verb", "options", "shape"),
    [
        ("filters", (), (16, 3, 3, 3)),
        ("activations", ("--image", "p.png", "--level", "stage1", "--count", "4"), (16, 224, 224)),
    ],
)
def test_a_verb_writes_a_picture_and_its_array(run, tmp_path, request, verb, options, shape):
    request.getfixturevalue("picture")(tmp_path / "p.png", 40, 40)
    said = run("visualize", verb, "--network", "resnet20_cifar", *options, "--out", "s.png")
    assert said.out.splitlines()[-1] == "Wrote s.png and s.npy.", said
    # 16 filters of 3 x 3 (He et al. 2015, section 4.2); untrained trunks are shown 224 x 224.
    assert np.load(tmp_path / "s.npy").shape == shape
