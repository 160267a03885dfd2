"""Grad-CAM: captum's numbers, CAM's map, and every unit where it looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densevision.apps.visualize.grad_cam import Grid, at_pixels, grad_cam, unit_grids
from densevision.apps.visualize.probes import parse_probe
from densevision.apps.visualize.sensitivity import score
from densevision.apps.visualize.subject import subject_of_trunk
from densevision.backbones import create_backbone
from densevision.errors import UserError

from .test_probes import pictures_of
from .toys import Toy, picture, toy, untrained

captum = pytest.importorskip("captum.attr")


@pytest.mark.parametrize("level", ["conv1", "norm", "conv2", "conv3"])
def test_its_units_are_captums(level):
    """captum takes the positive part when asked to, and never enlarges. Largest difference found: 0."""
    subject = toy()
    layer = subject.trunk.get_submodule(level)
    method = captum.LayerGradCam(subject.model.eval(), layer)
    found = grad_cam(subject, picture(), parse_probe("class:2", subject), level)
    np.testing.assert_allclose(found.units, method.attribute(picture()[0], target=2)[0, 0].detach(), atol=1e-7)


@pytest.mark.parametrize("name", ["toy", "resnet20_cifar", "googlenet_tv"])
def test_at_the_last_level_it_is_cam_over_the_number_of_places(name):
    """Facts 4: with a mean over places and one linear layer, a_k = w_ck / Z, and S = mean(CAM) + bias."""
    trunk: Any = Toy() if name == "toy" else create_backbone(name, classes=5)
    subject = subject_of_trunk(trunk)
    pixels = picture(64, 96)
    probe = parse_probe("class:2", subject)
    value, seen = score(subject, pixels, probe, (trunk.levels[-1].name,))
    last = seen.levels[trunk.levels[-1].name][0]
    cam = torch.einsum("k,khw->hw", trunk.fc.weight[2], last)
    found = grad_cam(subject, pixels, probe)
    scale = float(cam.detach().abs().max())
    np.testing.assert_allclose(found.units * cam.numel(), cam.detach(), atol=1e-5 * scale)
    assert value.item() == pytest.approx((cam.mean() + trunk.fc.bias[2]).item(), rel=1e-4)


def test_the_picture_shows_the_positive_part():
    subject = toy()
    found = grad_cam(subject, picture(), parse_probe("b:3", subject), "conv3")
    assert found.units.min() < 0 < found.units.max()
    assert found.pixels.shape == (12, 10) and found.level == "conv3"
    # conv3 has stride 2: its unit i stands at 2 i + 0.5, half-way between two pixels.
    assert found.pixels.min() == 0
    between = (found.pixels[0::2] + found.pixels[1::2])[:, 0::2] + (found.pixels[0::2] + found.pixels[1::2])[:, 1::2]
    peak = np.unravel_index(found.units.argmax(), found.units.shape)
    assert between[peak] / 4 == pytest.approx(between.max() / 4) and found.pixels.max() <= found.units.max()


def test_a_unit_stands_at_the_centre_of_what_it_sees():
    # Facts 1.5: VGG-16's pool5 has stride 32 and its first centre at 15.5; AlexNet's conv5 16 and 17.
    for name, level, grid in (("vgg16", "pool5", Grid(15.5, 32)), ("alexnet", "conv5", Grid(17.0, 16))):
        with torch.device("meta"):
            subject = subject_of_trunk(create_backbone(name, classes=0))
        assert unit_grids(subject, level, (7, 7), (224, 224)) == (grid, grid)


def test_the_enlarged_map_has_each_units_number_at_its_pixel():
    units = torch.tensor([[1.0, 5.0, 2.0], [0.0, 3.0, 7.0]])
    made = at_pixels(units, (Grid(2.0, 4.0), Grid(1.0, 3.0)), (9, 10))
    assert made.shape == (9, 10)
    np.testing.assert_allclose(made[[2, 6]][:, [1, 4, 7]], units)
    # Half-way between two units is their mean; beyond the last one, its number.
    assert made[4, 1] == pytest.approx(0.5) and made[8, 9] == pytest.approx(7.0)


def test_a_level_of_one_unit_fills_the_picture():
    assert at_pixels(torch.tensor([[3.0]]), (Grid(1.5, 4), Grid(1.5, 4)), (4, 4)).unique().tolist() == [3.0]


def test_a_level_behind_a_global_operation_is_spread_over_the_picture():
    with torch.device("meta"):
        subject = subject_of_trunk(create_backbone("timm:seresnet18", classes=0))
    assert unit_grids(subject, "layer4", (2, 3), (64, 96))[1] == Grid(15.5, 32)


def test_a_peak_of_the_picture_is_where_the_picture_differs():
    subject = toy(norm=False)
    pixels = torch.full((1, 3, 40, 40), 0.4)
    pixels[..., 28:32, 6:10] = 1.0
    found = grad_cam(subject, (pixels,), parse_probe("a:0", subject), "a")
    contrast = np.abs(found.pixels - np.median(found.pixels))
    y, x = np.unravel_index(int(contrast.argmax()), contrast.shape)
    assert 26 <= y <= 33 and 4 <= x <= 11


def test_any_probe_will_do():
    for task, text in (("depth", "depth@20,20"), ("flow", "flow-v@20,20"), ("pose", "left wrist x")):
        subject = untrained(task)
        found = grad_cam(subject, pictures_of(subject), parse_probe(text, subject), "layer1")
        assert found.units.any() and found.pixels.shape == (48, 48)


@pytest.mark.parametrize(
    ("text", "level", "sentence"),
    [
        ("class:1", "fc", "'fc' of toy has no places"),
        ("class:1", "conv4", "no level of toy named 'conv4'; nearest: conv"),
        ("a:1", "b", "a:1 does not depend on 'b'; name a level in front of it"),
    ],
)
def test_a_mistake_is_a_sentence(text, level, sentence):
    subject = toy()
    with pytest.raises(UserError, match=sentence):
        grad_cam(subject, picture(), parse_probe(text, subject), level)


def test_a_network_without_a_trunk_needs_the_name_of_a_layer():
    subject = untrained("restoration")
    subject = type(subject)("eigen", subject.model, None, subject.predictor, subject.size)
    with pytest.raises(UserError, match="eigen has no trunk with levels; name a layer with --level"):
        grad_cam(subject, pictures_of(subject), parse_probe("red@1,1", subject))
    assert grad_cam(subject, pictures_of(subject), parse_probe("red@1,1", subject), "backbone.conv1").pixels.any()
