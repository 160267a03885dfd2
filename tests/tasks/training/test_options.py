from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.training.assembly import settled
from densevision.tasks.training.options import Options, Settled

from .toys import follow

EVERY = Options(
    data="rooms", root=Path("some where"), eval_data="nyu-depth", eval_root=Path("b"), eval_split="test",
    train_samples=5, eval_samples=6, backbone="resnet18", levels=4, head="unet", network="fcrn", weights="imagenet",
    stride_in="1x1", init=Path("c.safetensors"), recipe="rooms", loss="l1", steps=7, epochs=1.5, batch=3,
    size=(96, 128), lr=1e-3, optimizer="sgd", momentum=0.8, weight_decay=1e-5, schedule="poly", warmup=9, trunk_lr=0.1,
    ema=0.99, accumulate=2, clip=5.0, freeze=False, freeze_bn=True, flip=0.5, rotate=5.0, zoom=1.5,
    scale=(96, 120), pad=4, area=(0.5, 1.0), colour=0.25,
    decay="all", find_lr=False, overfit=False, patience=4, evaluate_every=0, save_every=11, log_every=12, seed=13,
    workers=0, threads=1,
    device="cpu", amp="off", compile=False, resume=True, out=Path("runs/x"),
)  # fmt: skip


def test_every_option_survives_the_way_through_yaml(tmp_path):
    unset = [field.name for field in dataclasses.fields(Options) if getattr(EVERY, field.name) is None]
    assert unset == [], "an option that this test forgets"
    EVERY.write(tmp_path / "config.yaml")
    # amp=off must stay the word: YAML 1.1 takes a bare off for False.
    assert Options.read(tmp_path / "config.yaml") == EVERY


def test_options_that_say_nothing_are_not_written(tmp_path):
    Options(steps=3).write(tmp_path / "config.yaml")
    assert (tmp_path / "config.yaml").read_text() == "steps: 3\n"


def test_an_unknown_option_is_answered_with_the_nearest_name(tmp_path):
    (tmp_path / "config.yaml").write_text("wamrup: 3\n")
    with pytest.raises(UserError, match=r"config\.yaml\) named 'wamrup'; did you mean 'warmup'\?"):
        Options.read(tmp_path / "config.yaml")
    with pytest.raises(UserError, match=r"\(train\(\)\) named 'batchsize'; did you mean 'batch'\?"):
        follow(Depth(), tmp_path / "run", batchsize=3)


@pytest.mark.parametrize("text", ["- a\n- b\n", "steps: [1\n", "just words"])
def test_a_file_that_holds_no_options_is_named(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml cannot be read as a run's options"):
        Options.read(tmp_path / "config.yaml")


def test_the_caller_goes_before_the_recipe_and_the_recipe_before_the_base():
    recipe = Depth.recipes["rooms"]
    options = settled(Depth(), Options(batch=5))
    assert options.batch == 5
    assert options.lr == recipe.lr != Settled().lr
    assert recipe.optimizer is None and options.optimizer == Settled().optimizer
    assert options.recipe == "rooms" and options.data == "rooms"


def test_a_falsy_choice_of_the_caller_is_a_choice():
    options = settled(Depth(), Options(warmup=0, ema=0.0, clip=0.0))
    assert (options.warmup, options.ema, options.clip) == (0, 0.0, 0.0)
    assert Depth.recipes["rooms"].warmup and Depth.recipes["rooms"].ema


def test_a_whole_network_replaces_the_recipes_trunk_and_head_and_the_other_way_round():
    options = settled(Depth(), Options(network="fcrn"))
    assert (options.network, options.backbone, options.head, options.levels) == ("fcrn", None, None, None)
    options = settled(Depth(), Options(recipe="laina", backbone="vgg11"))
    assert (options.network, options.backbone, options.head) == (None, "vgg11", Depth.default.head)


def test_another_trunk_does_not_inherit_the_recipes_number_of_levels():
    with_levels = settled(Depth(), Options())
    assert with_levels.backbone == "resnet18"
    assert settled(Depth(), Options(backbone="vgg11")).levels is None
    assert settled(Depth(), Options(backbone="vgg11", levels=2)).levels == 2


def test_the_trunk_learns_slower_exactly_where_it_has_learned_before():
    assert settled(Depth(), Options()).trunk_lr == 1.0
    assert settled(Depth(), Options(weights="imagenet")).trunk_lr == 0.1
    assert settled(Depth(), Options(weights="imagenet", trunk_lr=0.5)).trunk_lr == 0.5


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"batch": 0}, "--batch is 0; it must be at least 1"),
        ({"lr": -1.0}, "--lr is -1.0; it must be at least 0"),
        ({"log_every": 0}, "--log-every is 0"),
        ({"zoom": 0.5}, "--zoom is 0.5; it must be at least 1"),
        ({"ema": 1.5}, "--ema is 1.5; it must lie in 0 to 1"),
        ({"flip": -0.1}, "--flip is -0.1"),
        ({"size": (7, 64)}, "--size is 7x64; both sides must be at least 8"),
        ({"epochs": 0.0}, "--epochs is 0.0; it must be above 0"),
        ({"optimizer": "adamax"}, "no --optimizer named 'adamax'; did you mean 'adam'"),
        ({"schedule": "cosin"}, "no --schedule named 'cosin'; did you mean 'cosine'"),
        ({"amp": "fp16"}, "no --amp named 'fp16'"),
        ({"stride_in": "2x2"}, "no --stride-in named '2x2'"),
        ({"network": "fcrn", "head": "unet"}, "--network is a whole network: give either it, or --backbone"),
        ({"network": "fcrn", "levels": 2}, "--network is a whole network"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_with_its_name(option, sentence):
    with pytest.raises(UserError, match=sentence):
        settled(Depth(), Options(**option)).checked()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"recipe": "room"}, "no recipe of the task depth named 'room'; did you mean 'rooms'"),
        ({"loss": "berhuu"}, "no loss of the task depth named 'berhuu'; did you mean 'berhu'"),
        ({"head": "unett"}, "no head of the task depth named 'unett'; did you mean 'unet'"),
        ({"network": "fcnr"}, "no network of the task depth named 'fcnr'; did you mean 'fcrn'"),
        ({"backbone": "resnet81"}, "no backbone named 'resnet81'; did you mean 'resnet18'"),
        ({"device": "gpu"}, "no device 'gpu'; use cpu, cuda, mps or auto"),
        ({"eval_data": "rooom"}, "no data set named 'rooom'; did you mean 'rooms'"),
    ],
)
def test_an_unknown_name_is_refused_before_anything_is_written(tmp_path, option, sentence):
    from densevision.tasks.training.loop import train

    with pytest.raises(UserError, match=sentence):
        train("depth", out=tmp_path / "run", steps=1, **{"device": "cpu", **option})
    assert not (tmp_path / "run").exists()
