"""Grad-CAM: equality with captum and CAM, and alignment of the units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from densevision.backbones import create_backbone
from densevision.errors import UserError
from densevision.visualize.attribution.grad_cam import UnitGrid, grad_cam, unit_grids, upsample_aligned
from densevision.visualize.core.model import inspect_backbone
from densevision.visualize.core.objectives import evaluate_objective
from densevision.visualize.core.targets import parse_target

from ..core.test_targets import images_of
from ..toys import Toy, random_image, toy, untrained

captum = pytest.importorskip("captum.attr")


@pytest.mark.parametrize("level", ["conv1", "norm", "conv2", "conv3"])
def test_units_equal_captums(level):
    """captum takes the positive part on request, and never upsamples. Maximum difference: 0."""
    model = toy()
    layer = model.backbone.get_submodule(level)
    method = captum.LayerGradCam(model.module.eval(), layer)
    cam = grad_cam(model, random_image(), parse_target("class:2", model), level=level)
    np.testing.assert_allclose(cam.units, method.attribute(random_image()[0], target=2)[0, 0].detach(), atol=1e-7)


@pytest.mark.parametrize("name", ["toy", "resnet20_cifar", "googlenet_tv"])
def test_at_the_last_level_it_is_cam_divided_by_the_number_of_positions(name):
    """Facts 4: with global average pooling and one linear layer, a_k = w_ck / Z, and S = mean(CAM) + bias."""
    backbone: Any = Toy() if name == "toy" else create_backbone(name, num_classes=5)
    model = inspect_backbone(backbone)
    pixels = random_image(64, 96)
    objective = parse_target("class:2", model)
    value, result = evaluate_objective(model, pixels, objective, (backbone.levels[-1].name,))
    last = result.levels[backbone.levels[-1].name][0]
    expected = torch.einsum("k,khw->hw", backbone.fc.weight[2], last)
    cam = grad_cam(model, pixels, objective)
    scale = float(expected.detach().abs().max())
    np.testing.assert_allclose(cam.units * expected.numel(), expected.detach(), atol=1e-5 * scale)
    assert value.item() == pytest.approx((expected.mean() + backbone.fc.bias[2]).item(), rel=1e-4)


def test_the_map_is_the_positive_part():
    model = toy()
    cam = grad_cam(model, random_image(), parse_target("b:3", model), level="conv3")
    assert cam.units.min() < 0 < cam.units.max()
    assert cam.array.shape == (12, 10) and cam.level == "conv3"
    # conv3 has stride 2: its unit i is at 2 i + 0.5, half-way between two pixels.
    assert cam.array.min() == 0
    between = (cam.array[0::2] + cam.array[1::2])[:, 0::2] + (cam.array[0::2] + cam.array[1::2])[:, 1::2]
    peak = np.unravel_index(cam.units.argmax(), cam.units.shape)
    assert between[peak] / 4 == pytest.approx(between.max() / 4) and cam.array.max() <= cam.units.max()


def test_units_are_at_the_centers_of_their_receptive_fields():
    # Facts 1.5: VGG-16's pool5 has stride 32 and its first center at 15.5; AlexNet's conv5 16 and 17.
    for name, level, grid in (("vgg16", "pool5", UnitGrid(15.5, 32)), ("alexnet", "conv5", UnitGrid(17.0, 16))):
        with torch.device("meta"):
            model = inspect_backbone(create_backbone(name, num_classes=0))
        assert unit_grids(model, level, (7, 7), (224, 224)) == (grid, grid)


def test_the_upsampled_map_is_aligned_to_the_units():
    units = torch.tensor([[1.0, 5.0, 2.0], [0.0, 3.0, 7.0]])
    upsampled = upsample_aligned(units, (UnitGrid(2.0, 4.0), UnitGrid(1.0, 3.0)), (9, 10))
    assert upsampled.shape == (9, 10)
    np.testing.assert_allclose(upsampled[[2, 6]][:, [1, 4, 7]], units)
    # Half-way between two units is their mean; beyond the last unit, its value.
    assert upsampled[4, 1] == pytest.approx(0.5) and upsampled[8, 9] == pytest.approx(7.0)


def test_a_level_of_one_unit_fills_the_image():
    assert upsample_aligned(torch.tensor([[3.0]]), (UnitGrid(1.5, 4), UnitGrid(1.5, 4)), (4, 4)).unique().tolist() == [
        3.0
    ]


def test_units_of_an_untraceable_level_are_evenly_spread():
    with torch.device("meta"):
        model = inspect_backbone(create_backbone("timm:seresnet18", num_classes=0))
    assert unit_grids(model, "layer4", (2, 3), (64, 96))[1] == UnitGrid(15.5, 32)


def test_the_maximum_is_where_the_image_differs():
    model = toy(norm=False)
    pixels = torch.full((1, 3, 40, 40), 0.4)
    pixels[..., 28:32, 6:10] = 1.0
    cam = grad_cam(model, (pixels,), parse_target("a:0", model), level="a")
    contrast = np.abs(cam.array - np.median(cam.array))
    y, x = np.unravel_index(int(contrast.argmax()), contrast.shape)
    assert 26 <= y <= 33 and 4 <= x <= 11


def test_grad_cam_of_all_kinds_of_targets():
    for task, text in (("depth", "depth@20,20"), ("flow", "flow-v@20,20"), ("pose", "left wrist x")):
        model = untrained(task)
        cam = grad_cam(model, images_of(model), parse_target(text, model), level="layer1")
        assert cam.units.any() and cam.array.shape == (48, 48)


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        ("class:1", "fc", "'fc' of toy has no spatial positions"),
        ("class:1", "conv4", "no level of toy named 'conv4'; nearest: conv"),
        ("a:1", "b", "a:1 does not depend on 'b'; choose an earlier level"),
    ],
)
def test_invalid_levels_are_refused(text, level, message):
    model = toy()
    with pytest.raises(UserError, match=message):
        grad_cam(model, random_image(), parse_target(text, model), level=level)


def test_a_model_without_a_backbone_needs_a_layer():
    model = untrained("restoration")
    model = type(model)("eigen", model.module, None, model.predictor, model.size)
    with pytest.raises(UserError, match="eigen has no backbone with levels; give a layer with --level"):
        grad_cam(model, images_of(model), parse_target("red@1,1", model))
    assert grad_cam(model, images_of(model), parse_target("red@1,1", model), level="backbone.conv1").array.any()
