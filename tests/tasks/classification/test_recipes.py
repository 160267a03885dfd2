from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from densevision.backbones import BACKBONES, create_backbone
from densevision.tasks.classification import Classification, recipes
from densevision.tasks.classification.recipes import RECIPES
from densevision.tasks.training.optimizers import learning_rate
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import resolve_options

PAPERS = {name for name in RECIPES if name.split("-")[1:2] and name.split("-")[1].isdigit()}
# facts 2.3: batch, rate, momentum, decay, and the length of each paper's training.
PRINTED: dict[str, dict[str, Any]] = {
    "alexnet-2012": {"batch_size": 128, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "epochs": 90},
    "vgg-2014": {"batch_size": 256, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "epochs": 74},
    "googlenet-2014": {"batch_size": 32, "momentum": 0.9, "weight_decay": 2e-4, "crop_area": (0.08, 1.0)},
    "resnet-2015": {"batch_size": 256, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "epochs": 120},
    "resnet-2015-cifar": {"batch_size": 128, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "steps": 64_000},
    "preact-2016": {
        "batch_size": 128,
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "steps": 64_000,
        "warmup_steps": 400,
    },
}
# The same table's row of crops: the image's short side, and the window.
CROPS: dict[str, dict[str, Any]] = {
    "lenet-1998": {"resize_short_side": (28, 28), "crop_padding": 2, "image_size": (32, 32), "hflip": 0.0},
    "alexnet-2012": {"resize_short_side": (256, 256), "image_size": (227, 227), "color_jitter": 1.0},
    "vgg-2014": {"resize_short_side": (256, 512), "image_size": (224, 224), "color_jitter": 1.0},
    "googlenet-2014": {"crop_area": (0.08, 1.0), "image_size": (224, 224)},
    "resnet-2015": {"resize_short_side": (256, 480), "image_size": (224, 224), "color_jitter": 1.0},
    "resnet-2015-cifar": {
        "resize_short_side": (32, 32),
        "crop_padding": 4,
        "image_size": (32, 32),
        "color_jitter": 0.0,
    },
    "preact-2016": {"resize_short_side": (32, 32), "crop_padding": 4, "image_size": (32, 32), "color_jitter": 0.0},
}


def of(name: str, **stated: Any):
    return resolve_options(Classification(), Options(recipe=name, **stated)).validate()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_resolves_and_classifies_with_its_own_backbone_at_its_own_size(name):
    options = of(name)
    assert options.backbone in BACKBONES and options.head is None
    with torch.device("meta"):
        backbone = create_backbone(str(options.backbone), num_classes=7)
        images = torch.empty(2, backbone.in_channels, *options.image_size)
        assert all(logits.shape == (2, 7) for logits in backbone.train().forward_train(images))
        assert backbone.eval()(images).shape == (2, 7)


@pytest.mark.parametrize("name", PRINTED)
def test_a_recipe_says_what_its_paper_prints(name):
    options = of(name)
    assert {key: getattr(options, key) for key in PRINTED[name]} == PRINTED[name]


@pytest.mark.parametrize("name", CROPS)
def test_a_recipe_cuts_its_images_as_its_paper_does(name):
    options = of(name)
    assert {key: getattr(options, key) for key in CROPS[name]} == CROPS[name]


@pytest.mark.parametrize(
    ("name", "falls"),
    [
        ("alexnet-2012", {0.24: 1, 0.26: 0.1, 0.51: 0.01, 0.99: 0.001}),  # facts 2.3: / 10 three times
        ("vgg-2014", {0.24: 1, 0.26: 0.1, 0.51: 0.01, 0.99: 0.001}),
        ("googlenet-2014", {0.01: 1, 8.1 / 240: 0.96, 16.1 / 240: 0.96**2, 239 / 240: 0.96**29}),  # every 8 epochs
        ("resnet-2015-cifar", {31_999 / 64_000: 1, 0.5: 0.1, 47_999 / 64_000: 0.1, 0.75: 0.01}),  # 32k, 48k
    ],
)
def test_the_rate_of_a_recipe_falls_when_its_paper_says(name, falls):
    # trap 29
    steps = 64_000
    recipe = of(name)
    options = (0, recipe.milestones, recipe.gamma)
    rates = {part: learning_rate(recipe.schedule, round(part * steps), steps, *options) for part in falls}
    assert rates == pytest.approx(falls)


def test_the_papers_up_to_2014_have_the_rate_inside_the_velocity_and_later_ones_outside():
    # facts 2.2: textbook, Caffe, AlexNet
    inside = {name for name in RECIPES if of(name).optimizer == "sgd-caffe"}
    assert inside == {"lenet-1998", "alexnet-2012", "vgg-2014", "googlenet-2014"}
    assert all(of(name).optimizer == "sgd" for name in set(RECIPES) - inside)


def test_the_papers_decay_everything_and_ours_kernels():
    # facts 2.2: the textbook's and ResNet's default decays everything; LeNet-5 knew no decay
    assert {name for name in RECIPES if of(name).weight_decay_on == "all"} == PAPERS - {"lenet-1998"}
    assert of("lenet-1998").weight_decay == 0


def test_lenet_trains_with_its_own_loss_and_no_other_paper_smooths():
    assert {name: of(name).loss for name in PAPERS} == {
        name: "map" if name == "lenet-1998" else "cross-entropy" for name in PAPERS
    }


def test_a_recipe_is_named_and_explained_where_it_stands():
    source = inspect.getsource(recipes)
    for name, options in RECIPES.items():
        (constant,) = [key for key, value in vars(recipes).items() if value is options]
        assert f"{constant} = Options(" in source and constant == name.upper().replace("-", "_")
        assert source.split(f"{constant} = Options(")[1].split(")  # fmt: skip\n")[1].startswith('"""')


def test_what_the_caller_says_replaces_the_recipes_way_to_crop():
    assert of("modern", resize_short_side=(64, 80)).crop_area is None
    other = of("resnet-2015-cifar", crop_area=(0.5, 1.0))
    assert (other.resize_short_side, other.crop_padding, other.crop_area) == (None, 0, (0.5, 1.0))
