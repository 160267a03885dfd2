"""Neural style: its losses by hand, pools that average for a while, and colours that stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from densevision import create_backbone
from densevision.apps.visualize.colours import brightness_of, in_grey, with_brightness_of, with_colours_of
from densevision.apps.visualize.style import Recipe, measured, transfer_style
from densevision.apps.visualize.style_losses import (
    averaging_pools,
    content_loss,
    gram,
    paper_layers,
    roughness,
    style_loss,
    usual_layers,
)
from densevision.apps.visualize.subject import subject_of_trunk
from densevision.backbones.backbone import Preprocessing
from densevision.errors import UserError

from .toys import picture, toy

PHOTO, PAINTING = picture(16, 20, seed=1)[0], picture(24, 12, seed=2)[0]
LAYERS = {"content": ("b",), "styles": ("a", "b")}


def test_a_gram_matrix_is_the_mean_product_of_channels():
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    # F F' = [[1 + 4, 3 - 2], [1, 9 + 1]], and M = 2.
    assert gram(maps).tolist() == [[[2.5, 0.5], [0.5, 5.0]]]


def test_every_sample_of_a_batch_has_its_own_gram_matrix():
    maps = torch.rand(2, 3, 4, 4)
    assert torch.allclose(gram(maps)[1:], gram(maps[1:]))


def test_style_is_the_papers_where_both_pictures_have_as_many_places():
    made, wanted = torch.rand(1, 3, 2, 5), torch.rand(1, 3, 2, 5)
    n, m = 3, 10
    one, other = made[0].flatten(1), wanted[0].flatten(1)
    # Gatys 2015, equation 4: sum (F F' - A)^2 / (4 N^2 M^2).
    paper = ((one @ one.T - other @ other.T) ** 2).sum() / (4 * n**2 * m**2)
    assert torch.allclose(style_loss(gram(made), gram(wanted)), paper)


def test_a_style_picture_twice_as_large_has_the_same_style():
    small = torch.rand(1, 3, 4, 5)
    twice = torch.cat([torch.cat([small, small], 2)] * 2, 3)
    assert torch.allclose(gram(small), gram(twice))
    assert float(style_loss(gram(small), gram(twice))) < 1e-12


def test_content_is_half_the_sum_of_squares():
    assert float(content_loss(torch.tensor([[[[1.0, 4.0]]]]), torch.tensor([[[[3.0, 1.0]]]]))) == 6.5


def test_roughness_is_the_mean_square_step_along_both_axes():
    # Steps 1 and 3 to the right: (1 + 9) / 2; steps 2 and 4 down: (4 + 16) / 2.
    assert float(roughness(torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]]))) == 15.0


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 2, ceil_mode=True)],
    ids=["2x2", "padded", "rounded up"],
)
def test_a_max_pool_averages_for_a_while(pool):
    x = torch.rand(1, 2, 8, 8)
    usual = pool(x)
    with averaging_pools():
        averaged = pool(x)
    wanted = functional.avg_pool2d(
        x, pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode, count_include_pad=False
    )
    assert torch.equal(averaged, wanted) and not torch.equal(averaged, usual)
    assert torch.equal(pool(x), usual)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: functional.max_pool2d(x, 2),
        lambda x: functional.max_pool2d(input=x, kernel_size=2, stride=2),
        lambda x: torch.max_pool2d(x, [2, 2], [2, 2]),
    ],
    ids=["function", "by name", "torch's"],
)
def test_pools_that_are_functions_average_as_well(pool):
    x = torch.rand(1, 2, 6, 6)
    with averaging_pools():
        assert torch.equal(pool(x), functional.avg_pool2d(x, 2))


def test_the_network_is_as_it_was():
    subject = toy()
    subject.model.train()
    modules = [str(module) for module in subject.model.modules()]
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    transfer_style(subject, PHOTO, [PAINTING], Recipe(**LAYERS, steps=2))
    assert [str(module) for module in subject.model.modules()] == modules
    assert all(torch.equal(tensor, before[name]) for name, tensor in subject.model.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in subject.model.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in subject.model.parameters())


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("start", ["content", "noise"])
def test_the_loss_falls_and_pixels_stay_in_their_range(optimizer, start):
    told = []
    recipe = Recipe(**LAYERS, steps=20, optimizer=optimizer, start=start, smoothness=0.1)
    made = transfer_style(toy(), PHOTO, [PAINTING], recipe, report=told.append)
    assert [losses.step for losses in told] == [0, 10, 20]
    assert told[-1].total < 0.7 * told[0].total
    assert made.shape == PHOTO.shape and float(made.min()) >= 0 and float(made.max()) <= 1 and not made.requires_grad


def test_without_style_the_content_stays():
    assert torch.equal(transfer_style(toy(), PHOTO, [PAINTING], Recipe(**LAYERS, style_weight=0.0, steps=3)), PHOTO)


def test_relative_terms_are_one_for_a_picture_without_activations():
    subject = toy(biased=False, norm=False)
    # With the usual preprocessing, black pixels are not 0 for the network.
    trunk = subject.trunk
    assert trunk is not None
    trunk.preprocessing = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3)
    measure = measured(subject, PHOTO, [PAINTING], (1.0,), Recipe(**LAYERS, content_weight=2.0, style_weight=3.0))
    found = [float(each) for each in measure(torch.zeros_like(PHOTO))]
    assert found == pytest.approx([5.0, 2.0, 3.0])


def test_the_same_seed_paints_the_same_picture():
    recipes = [Recipe(**LAYERS, steps=3, start="noise", seed=seed) for seed in (4, 4, 5)]
    one, same, other = (transfer_style(toy(), PHOTO, [PAINTING], recipe) for recipe in recipes)
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_style_of_no_share_plays_no_part():
    recipe = Recipe(**LAYERS, steps=3)
    both = transfer_style(toy(), PHOTO, [PAINTING, picture(9, 9, seed=7)[0]], recipe, (2.0, 0.0))
    assert torch.allclose(both, transfer_style(toy(), PHOTO, [PAINTING], recipe), atol=1e-5)


def test_a_picture_takes_the_mean_and_covariance_of_anothers_colours():
    made = with_colours_of(PAINTING, PHOTO)
    one, other = (each.double()[0].flatten(1) for each in (made, PHOTO))
    assert torch.allclose(one.mean(1), other.mean(1), atol=1e-5)
    # The covariances carry 1e-5 each, so that a grey picture has a root.
    assert torch.allclose(torch.cov(one, correction=0), torch.cov(other, correction=0), atol=1e-4)


def test_colours_of_a_grey_picture_are_finite():
    assert bool(with_colours_of(in_grey(PAINTING), PHOTO).isfinite().all())


def test_the_content_keeps_its_colours_where_brightness_alone_is_transferred():
    photo = 0.4 + 0.2 * PHOTO
    made = transfer_style(toy(), photo, [PAINTING * 0.2 + 0.4], Recipe(**LAYERS, steps=3, colours="brightness"))
    tints = [each - brightness_of(each) for each in (made, photo)]
    unclipped = ((made > 0) & (made < 1)).all(1, keepdim=True).expand_as(made)
    assert unclipped.float().mean() > 0.9 and not torch.allclose(made, photo, atol=1e-3)
    assert torch.allclose(tints[0][unclipped], tints[1][unclipped], atol=1e-5)


def test_brightness_is_replaced_and_nothing_else():
    photo, grey = 0.4 + 0.2 * PHOTO, torch.full((1, 3, 16, 20), 0.5)
    assert torch.allclose(brightness_of(with_brightness_of(photo, grey)), torch.full((1, 1, 16, 20), 0.5), atol=1e-6)


def test_a_vggs_layers_have_the_papers_names():
    # facts 4: torchvision's VGG-19 indices of conv1_1, 2_1, 3_1, 4_1, 5_1 and conv4_2; the ReLU is one further.
    with torch.device("meta"):
        trunk = create_backbone("vgg19", classes=0)
    indices = {"conv1_1": 0, "conv2_1": 5, "conv3_1": 10, "conv4_1": 19, "conv5_1": 28, "conv4_2": 21}
    named = paper_layers(trunk)
    for name, index in indices.items():
        assert named[name] == f"convolutions.{index}"
        assert named[name.replace("conv", "relu")] == f"convolutions.{index + 1}"
    assert usual_layers(trunk) == (("relu4_2",), ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"))


def test_layers_behind_the_end_of_the_weights_are_not_offered():
    trunk = create_backbone("vgg11", classes=0, levels=3)
    nn.init.constant_(trunk.get_parameter("convolutions.8.weight"), float("nan"))
    assert list(paper_layers(trunk)) == ["conv1_1", "relu1_1", "conv2_1", "relu2_1", "conv3_1", "relu3_1"]
    assert usual_layers(trunk) == (("relu3_1",), ("relu1_1", "relu2_1", "relu3_1"))


def test_other_trunks_take_their_levels():
    with torch.device("meta"):
        trunk = create_backbone("resnet18", classes=0)
    assert usual_layers(trunk) == (("layer3",), ("stem", "layer1", "layer2", "layer3"))


def test_a_layers_paper_name_is_understood():
    subject = subject_of_trunk(create_backbone("vgg11", classes=0, levels=2))
    by_paper, by_module = (
        transfer_style(subject, PHOTO, [PAINTING], Recipe(content=content, styles=styles, steps=2))
        for content, styles in ((("relu2_1",), ("conv1_1",)), (("convolutions.4",), ("convolutions.0",)))
    )
    assert torch.equal(by_paper, by_module)


@pytest.mark.parametrize(
    ("shares", "recipe", "said"),
    [
        ((1.0,), Recipe(), "2 styles need as many shares"),
        ((0.0, 0.0), Recipe(), "none below 0 and one above"),
        ((), Recipe(steps=0), "--steps is 0; it must be above 0"),
        ((), Recipe(style_weight=-1.0), "--style-weight is -1; it must be at least 0"),
        ((), Recipe(content=("c",)), "no level of toy named 'c'"),
    ],
)
def test_mistakes_are_named(shares, recipe, said):
    with pytest.raises(UserError, match=said):
        transfer_style(toy(), PHOTO, [PAINTING, PAINTING], recipe, shares)


def test_a_network_of_grey_pictures_paints_nothing():
    with pytest.raises(UserError, match="lenet5 takes no picture in colour"):
        transfer_style(subject_of_trunk(create_backbone("lenet5")), PHOTO, [PAINTING])


def test_the_verb_paints_at_the_asked_size(run, picture, tmp_path):
    for seed, name in enumerate(("photo.png", "paint.png")):
        picture(tmp_path / name, 30, 40, seed)
    words = ("--network", "resnet20_cifar", "--image", "photo.png", "--style", "paint.png", "paint.png")
    said = run("visualize", "style", *words, "--shares", "1", "2", "--size", "24", "--steps", "2", "--out", "s.png")
    assert said.out.splitlines()[-1] == "Wrote s.png and s.npy.", said
    assert np.load(tmp_path / "s.npy").shape == (3, 18, 24)
