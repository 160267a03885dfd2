"""Neural style transfer: losses, average pooling, and color preservation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from densevision import create_backbone
from densevision.backbones.backbone import Preprocessing
from densevision.errors import UserError
from densevision.visualize.core.model import inspect_backbone
from densevision.visualize.features.style_losses import (
    average_pooling,
    content_loss,
    default_layers,
    gram_matrix,
    luminance,
    match_colors,
    mean_total_variation,
    style_loss,
    to_gray,
    vgg_layer_names,
    with_luminance,
)
from densevision.visualize.features.style_transfer import Losses, StyleOptions, make_loss, transfer_style

from ..toys import random_image, toy

PHOTO, PAINTING = random_image(16, 20, seed=1)[0], random_image(24, 12, seed=2)[0]
LAYERS = {"content_layers": ("b",), "style_layers": ("a", "b")}


def test_gram_matrix_is_the_mean_product_of_channels():
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    # F F' = [[1 + 4, 3 - 2], [1, 9 + 1]], and M = 2.
    assert gram_matrix(maps).tolist() == [[[2.5, 0.5], [0.5, 5.0]]]


def test_gram_matrix_is_per_sample():
    maps = torch.rand(2, 3, 4, 4)
    assert torch.allclose(gram_matrix(maps)[1:], gram_matrix(maps[1:]))


def test_style_loss_is_that_of_the_paper_for_equal_sizes():
    result, expected = torch.rand(1, 3, 2, 5), torch.rand(1, 3, 2, 5)
    n, m = 3, 10
    first, reference = result[0].flatten(1), expected[0].flatten(1)
    # Gatys 2015, equation 4: sum (F F' - A)^2 / (4 N^2 M^2).
    paper = ((first @ first.T - reference @ reference.T) ** 2).sum() / (4 * n**2 * m**2)
    assert torch.allclose(style_loss(gram_matrix(result), gram_matrix(expected)), paper)


def test_style_loss_does_not_depend_on_the_image_size():
    small = torch.rand(1, 3, 4, 5)
    tiled = torch.cat([torch.cat([small, small], 2)] * 2, 3)
    assert torch.allclose(gram_matrix(small), gram_matrix(tiled))
    assert float(style_loss(gram_matrix(small), gram_matrix(tiled))) < 1e-12


def test_content_loss_is_half_the_sum_of_squares():
    assert float(content_loss(torch.tensor([[[[1.0, 4.0]]]]), torch.tensor([[[[3.0, 1.0]]]]))) == 6.5


def test_mean_total_variation_sums_both_axes():
    # Steps 1 and 3 to the right: (1 + 9) / 2; steps 2 and 4 down: (4 + 16) / 2.
    assert float(mean_total_variation(torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]]))) == 15.0


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, ceil_mode=True)],
    ids=["2x2", "padded", "rounded up"],
)
def test_average_pooling_replaces_max_pool_modules(pool):
    x = torch.rand(1, 2, 8, 8)
    maximum = pool(x)
    with average_pooling():
        averaged = pool(x)
    expected = functional.avg_pool2d(
        x, pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, count_include_pad=False
    )
    assert torch.equal(averaged, expected) and not torch.equal(averaged, maximum)
    assert torch.equal(pool(x), maximum)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: functional.max_pool2d(x, 2),
        lambda x: functional.max_pool2d(input=x, kernel_size=2, stride=2),
        lambda x: torch.max_pool2d(x, [2, 2], [2, 2]),
    ],
    ids=["function", "by name", "torch's"],
)
def test_average_pooling_replaces_max_pool_functions(pool):
    x = torch.rand(1, 2, 6, 6)
    with average_pooling():
        assert torch.equal(pool(x), functional.avg_pool2d(x, 2))


def test_the_model_is_unchanged():
    model = toy()
    model.module.train()
    modules = [str(module) for module in model.module.modules()]
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    transfer_style(model, PHOTO, [PAINTING], StyleOptions(**LAYERS, steps=2))
    assert [str(module) for module in model.module.modules()] == modules
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.module.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.module.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.module.parameters())


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("init", ["content", "noise"])
def test_the_loss_falls_and_pixels_stay_in_range(optimizer, init):
    reports: list[Losses] = []
    options = StyleOptions(**LAYERS, steps=20, optimizer=optimizer, init=init, tv_weight=0.1)
    result = transfer_style(toy(), PHOTO, [PAINTING], options, callback=reports.append)
    assert [losses.step for losses in reports] == [0, 10, 20]
    assert reports[-1].total < 0.7 * reports[0].total
    assert (
        result.shape == PHOTO.shape
        and float(result.min()) >= 0
        and float(result.max()) <= 1
        and not result.requires_grad
    )


def test_without_style_loss_the_content_is_unchanged():
    assert torch.equal(
        transfer_style(toy(), PHOTO, [PAINTING], StyleOptions(**LAYERS, style_weight=0.0, steps=3)), PHOTO
    )


def test_normalized_losses_are_one_for_zero_activations():
    model = toy(biased=False, norm=False)
    # Black pixels must be 0 in the normalized input.
    backbone = model.backbone
    assert backbone is not None
    backbone.preprocessing = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3)
    loss_fn = make_loss(model, PHOTO, [PAINTING], (1.0,), StyleOptions(**LAYERS, content_weight=2.0, style_weight=3.0))
    losses = [float(each) for each in loss_fn(torch.zeros_like(PHOTO))]
    assert losses == pytest.approx([5.0, 2.0, 3.0])


def test_the_seed_determines_the_image():
    options_list = [StyleOptions(**LAYERS, steps=3, init="noise", seed=seed) for seed in (4, 4, 5)]
    first, same, reference = (transfer_style(toy(), PHOTO, [PAINTING], options) for options in options_list)
    assert torch.equal(first, same) and not torch.equal(first, reference)


def test_a_style_of_weight_zero_has_no_effect():
    options = StyleOptions(**LAYERS, steps=3)
    both = transfer_style(toy(), PHOTO, [PAINTING, random_image(9, 9, seed=7)[0]], options, (2.0, 0.0))
    assert torch.allclose(both, transfer_style(toy(), PHOTO, [PAINTING], options), atol=1e-5)


def test_match_colors_matches_mean_and_covariance():
    result = match_colors(PAINTING, PHOTO)
    first, reference = (each.double()[0].flatten(1) for each in (result, PHOTO))
    assert torch.allclose(first.mean(1), reference.mean(1), atol=1e-5)
    # 1e-5 is added to both covariances, so that they have a root for gray images.
    assert torch.allclose(torch.cov(first, correction=0), torch.cov(reference, correction=0), atol=1e-4)


def test_match_colors_of_a_gray_image_is_finite():
    assert bool(match_colors(to_gray(PAINTING), PHOTO).isfinite().all())


def test_preserve_color_luminance_keeps_the_chroma_of_the_content():
    photo = 0.4 + 0.2 * PHOTO
    result = transfer_style(
        toy(), photo, [PAINTING * 0.2 + 0.4], StyleOptions(**LAYERS, steps=3, preserve_color="luminance")
    )
    tints = [each - luminance(each) for each in (result, photo)]
    unclipped = ((result > 0) & (result < 1)).all(1, keepdim=True).expand_as(result)
    assert unclipped.float().mean() > 0.9 and not torch.allclose(result, photo, atol=1e-3)
    assert torch.allclose(tints[0][unclipped], tints[1][unclipped], atol=1e-5)


def test_with_luminance_replaces_the_luminance():
    photo, gray = 0.4 + 0.2 * PHOTO, torch.full((1, 3, 16, 20), 0.5)
    assert torch.allclose(luminance(with_luminance(photo, gray)), torch.full((1, 1, 16, 20), 0.5), atol=1e-6)


def test_vgg_layer_names_are_those_of_the_paper():
    # Facts 4: torchvision's VGG-19 indices of conv1_1, 2_1, 3_1, 4_1, 5_1 and conv4_2; the ReLU has the next index.
    with torch.device("meta"):
        backbone = create_backbone("vgg19", num_classes=0)
    indices = {"conv1_1": 0, "conv2_1": 5, "conv3_1": 10, "conv4_1": 19, "conv5_1": 28, "conv4_2": 21}
    names = vgg_layer_names(backbone)
    for name, index in indices.items():
        assert names[name] == f"convolutions.{index}"
        assert names[name.replace("conv", "relu")] == f"convolutions.{index + 1}"
    assert default_layers(backbone) == (("relu4_2",), ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"))


def test_layers_after_the_end_of_the_weights_are_left_out():
    backbone = create_backbone("vgg11", num_classes=0, levels=3)
    nn.init.constant_(backbone.get_parameter("convolutions.8.weight"), float("nan"))
    assert list(vgg_layer_names(backbone)) == ["conv1_1", "relu1_1", "conv2_1", "relu2_1", "conv3_1", "relu3_1"]
    assert default_layers(backbone) == (("relu3_1",), ("relu1_1", "relu2_1", "relu3_1"))


def test_default_layers_of_other_backbones_are_levels():
    with torch.device("meta"):
        backbone = create_backbone("resnet18", num_classes=0)
    assert default_layers(backbone) == (("layer3",), ("stem", "layer1", "layer2", "layer3"))


def test_layer_names_of_the_paper_are_accepted():
    model = inspect_backbone(create_backbone("vgg11", num_classes=0, levels=2))
    by_paper, by_module = (
        transfer_style(model, PHOTO, [PAINTING], StyleOptions(content_layers=content, style_layers=styles, steps=2))
        for content, styles in ((("relu2_1",), ("conv1_1",)), (("convolutions.4",), ("convolutions.0",)))
    )
    assert torch.equal(by_paper, by_module)


@pytest.mark.parametrize(
    ("blend_weights", "options", "message"),
    [
        ((1.0,), StyleOptions(), r"2 style image\(s\) need as many --style-blend-weights"),
        ((0.0, 0.0), StyleOptions(), "at least 0 and not all 0"),
        ((), StyleOptions(steps=0), "--steps is 0; it must be above 0"),
        ((), StyleOptions(style_weight=-1.0), "--style-weight is -1; it must be at least 0"),
        ((), StyleOptions(content_layers=("c",)), "no level of toy named 'c'"),
    ],
)
def test_invalid_arguments_are_refused(blend_weights, options, message):
    with pytest.raises(UserError, match=message):
        transfer_style(toy(), PHOTO, [PAINTING, PAINTING], options, blend_weights)


def test_a_model_with_gray_input_is_refused():
    with pytest.raises(UserError, match="lenet5 has no backbone with color input"):
        transfer_style(inspect_backbone(create_backbone("lenet5")), PHOTO, [PAINTING])


def test_the_command_writes_the_requested_size(run, image, tmp_path):
    for seed, name in enumerate(("photo.png", "paint.png")):
        image(tmp_path / name, 30, 40, seed)
    words = ("--model", "resnet20_cifar", "--image", "photo.png", "--style", "paint.png", "paint.png")
    result = run(
        "visualize",
        "style-transfer",
        *words,
        "--style-blend-weights",
        "1",
        "2",
        "--size",
        "24",
        "--steps",
        "2",
        "--out",
        "s.png",
    )
    assert result.out.splitlines()[-1] == "Wrote s.png and s.npy.", result
    assert np.load(tmp_path / "s.npy").shape == (3, 18, 24)
