from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from densevision import create_task
from densevision.errors import UserError
from densevision.tasks.depth import Depth
from densevision.tasks.training.options import DEFAULTS, Options
from densevision.tasks.training.setup import resolve_options, train

from .toys import BACKBONE, TINY, Relief, Reliefs, train_toy

EVERY = Options(
    data="synthetic-rooms", root="some where", eval_data="nyu-depth", eval_root="b", cache=Path("d"), eval_split="test",
    train_samples=5, eval_samples=6, backbone="resnet18", backbone_levels=4, head="unet", model="fcrn",
    weights="imagenet", stride_in="1x1", init_from=Path("c.safetensors"), recipe="synthetic-rooms", loss="l1", steps=7,
    epochs=1.5, minutes=2.5, sample_uses=4, batch_size=3, image_size=(96, 128), lr=1e-3, optimizer="sgd", momentum=0.8,
    weight_decay=1e-5, schedule="multistep", milestones=(0.3, 0.6), gamma=0.2, warmup_steps=9, backbone_lr_factor=0.1,
    ema_decay=0.99, micro_batches=2, clip_grad_norm=5.0, freeze_backbone=False, freeze_bn=True, sync_bn=False,
    hflip=0.5, max_rotation=5.0, max_zoom=1.5, resize_short_side=(96, 120), crop_padding=4, crop_area=(0.5, 1.0),
    color_jitter=0.25, weight_decay_on="all", find_lr=False, overfit_one_batch=False, patience=4, eval_every=0,
    save_every="11s", log_every=12, collective_timeout=60.0, seed=13, workers=0, threads=1, device="cpu", amp="off",
    compile=False, resume="auto", out=Path("runs/x"), config=Path("runs/y/config.yaml"), dry_run=False, force=False,
    checkpoint_gradients=False, keep_best=2, keep_every=3,
)  # fmt: skip


def test_every_option_survives_yaml(tmp_path):
    unset = [field.name for field in dataclasses.fields(Options) if getattr(EVERY, field.name) is None]
    assert unset == [], "an option that is missing in this test"
    EVERY.write(tmp_path / "config.yaml")
    # amp=off must stay the word: YAML 1.1 takes a bare off for False.
    assert Options.read(tmp_path / "config.yaml") == EVERY


def test_options_that_are_none_are_not_written(tmp_path):
    Options(steps=3).write(tmp_path / "config.yaml")
    assert (tmp_path / "config.yaml").read_text() == "steps: 3\n"


def test_an_unknown_option_is_refused_with_the_nearest_name(tmp_path):
    (tmp_path / "config.yaml").write_text("wamrup_steps: 3\n")
    with pytest.raises(UserError, match=r"config\.yaml\) named 'wamrup_steps'; did you mean 'warmup_steps'\?"):
        Options.read(tmp_path / "config.yaml")
    with pytest.raises(UserError, match=r"\(train\(\)\) named 'batchsize'; did you mean 'batch_size'\?"):
        train_toy(Depth(), tmp_path / "run", batchsize=3)


@pytest.mark.parametrize("text", ["- a\n- b\n", "steps: [1\n", "just words"])
def test_a_file_without_options_is_named(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml cannot be read as training options"):
        Options.read(tmp_path / "config.yaml")


def test_precedence_is_caller_recipe_defaults():
    recipe = Depth.recipes["synthetic-rooms"]
    options = resolve_options(Depth(), Options(batch_size=5))
    assert options.batch_size == 5
    assert options.lr == recipe.lr != DEFAULTS.lr
    assert recipe.optimizer is None and options.optimizer == DEFAULTS.optimizer
    assert options.recipe == "synthetic-rooms" and options.data == "synthetic-rooms"


@pytest.mark.parametrize(
    ("task", "data", "recipe"),
    [
        ("classification", "class-folders", "modern"),
        ("classification", "imagenet", "modern"),
        ("classification", "cifar10", "synthetic-shapes"),
        ("classification", "mnist", "synthetic-shapes"),
        ("colorization", "image-folders", "photos"),
        ("depth", "depth-folders", "indoor"),
        ("depth", "nyu-depth", "indoor"),
        ("flow", "flow-folders", "photos"),
        ("pose", "pose-folders", "sports"),
        ("restoration", "paired-folders", "photos"),
        ("translation", "paired-folders", "synthetic-facades"),
        ("pose", "synthetic-athletes", "synthetic-figures"),
        ("pose", None, "synthetic-figures"),
        ("depth", "SomeClass", "synthetic-rooms"),
    ],
)
def test_real_images_have_a_default_recipe_of_their_own(task, data, recipe):
    options = resolve_options(create_task(task), Options(data=data)).validate()
    assert (options.recipe, options.data) == (recipe, data or create_task(task).defaults.data)


def test_the_callers_recipe_takes_precedence_over_that_for_real_images():
    stated = Options(data="depth-folders", recipe="synthetic-rooms", batch_size=3)
    assert resolve_options(Depth(), stated).recipe == "synthetic-rooms"
    assert resolve_options(Depth(), dataclasses.replace(stated, recipe=None)).batch_size == 3


def test_a_backbone_from_scratch_is_not_spared():
    assert Depth.recipes["indoor"].freeze_bn
    scratch = resolve_options(create_task("colorization"), Options(recipe="photos"))
    assert scratch.backbone_lr_factor == 1.0 and not resolve_options(Depth(), Options(recipe="indoor")).freeze_bn
    assert resolve_options(Depth(), Options(recipe="indoor", freeze_bn=True)).freeze_bn
    assert resolve_options(Depth(), Options(recipe="indoor", weights="imagenet")).freeze_bn
    pretrained = Options(recipe="photos", init_from=Path("c.safetensors"))
    assert resolve_options(create_task("colorization"), pretrained).backbone_lr_factor == 0.2


def test_falsy_options_of_the_caller_count():
    options = resolve_options(Depth(), Options(warmup_steps=0, ema_decay=0.0, clip_grad_norm=0.0))
    assert (options.warmup_steps, options.ema_decay, options.clip_grad_norm) == (0, 0.0, 0.0)
    assert Depth.recipes["synthetic-rooms"].warmup_steps and Depth.recipes["synthetic-rooms"].ema_decay


def test_a_model_replaces_the_recipes_backbone_and_head_and_vice_versa():
    options = resolve_options(Depth(), Options(model="fcrn"))
    assert (options.model, options.backbone, options.head, options.backbone_levels) == ("fcrn", None, None, None)
    options = resolve_options(Depth(), Options(recipe="laina", backbone="vgg11"))
    assert (options.model, options.backbone, options.head) == (None, "vgg11", Depth.defaults.head)


def test_another_backbone_does_not_inherit_the_recipes_levels():
    with_levels = resolve_options(Depth(), Options())
    assert with_levels.backbone == "resnet18"
    assert resolve_options(Depth(), Options(backbone="vgg11")).backbone_levels is None
    assert resolve_options(Depth(), Options(backbone="vgg11", backbone_levels=2)).backbone_levels == 2


def test_the_backbone_lr_factor_is_lower_with_pretrained_weights():
    assert resolve_options(Depth(), Options()).backbone_lr_factor == 1.0
    assert resolve_options(Depth(), Options(weights="imagenet")).backbone_lr_factor == 0.1
    assert resolve_options(Depth(), Options(weights="imagenet", backbone_lr_factor=0.5)).backbone_lr_factor == 0.5


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"batch_size": 0}, "--batch-size is 0; it must be between 1 and 65536"),
        ({"lr": -1.0}, "--lr is -1.0; it must be at least 0"),
        ({"log_every": 0}, "--log-every is 0"),
        ({"max_zoom": 0.5}, "--max-zoom is 0.5; it must be at least 1"),
        ({"ema_decay": 1.5}, "--ema-decay is 1.5; it must be between 0 and 1"),
        ({"hflip": -0.1}, "--hflip is -0.1"),
        ({"image_size": (7, 64)}, "--image-size is 7x64; height and width must be at least 8"),
        ({"epochs": 0.0}, "--epochs is 0.0; it must be above 0"),
        ({"optimizer": "adamax"}, "no --optimizer named 'adamax'; did you mean 'adam'"),
        ({"schedule": "cosin"}, "no --schedule named 'cosin'; did you mean 'cosine'"),
        ({"amp": "fp8"}, "no --amp named 'fp8'"),
        ({"stride_in": "2x2"}, "no --stride-in named '2x2'"),
        ({"model": "fcrn", "head": "unet"}, "--model is a complete model: give either it, or --backbone"),
        ({"model": "fcrn", "backbone_levels": 2}, "--model is a complete model"),
    ],
)
def test_an_invalid_option_is_refused_with_its_name(option, message):
    with pytest.raises(UserError, match=message):
        resolve_options(Depth(), Options(**option)).validate()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"recipe": "room"}, "no recipe of the task depth named 'room'; did you mean 'synthetic-rooms'"),
        ({"loss": "berhuu"}, "no loss of the task depth named 'berhuu'; did you mean 'berhu'"),
        ({"head": "unett"}, "no head of the task depth named 'unett'; did you mean 'unet'"),
        ({"model": "fcnr"}, "no model of the task depth named 'fcnr'; did you mean 'fcrn'"),
        ({"backbone": "resnet81"}, "no backbone named 'resnet81'; did you mean 'resnet18'"),
        ({"device": "gpu"}, "no device 'gpu'; use cpu, cuda, mps or auto"),
        ({"eval_data": "synthetic-room"}, "no dataset named 'synthetic-room'; did you mean 'synthetic-rooms'"),
    ],
)
def test_an_unknown_name_is_refused_before_anything_is_written(tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        train("depth", out=tmp_path / "run", steps=1, **{"device": "cpu", **option})
    assert not (tmp_path / "run").exists()


# Every value that a stated option must not meet again, whether it comes from a recipe or from another run's config.
@pytest.mark.parametrize(
    ("stated", "other", "gone"),
    [
        ({"epochs": 2.0}, {"steps": 9}, "steps"),
        ({"steps": 9}, {"epochs": 2.0}, "epochs"),
        ({"model": "fcrn"}, {"backbone": "resnet50", "head": "unet", "stride_in": "1x1"}, "stride_in"),
        ({"head": "unet"}, {"model": "fcrn"}, "model"),
        ({"crop_area": (0.5, 1.0)}, {"resize_short_side": (64, 64), "crop_padding": 4}, "crop_padding"),
        ({"resize_short_side": (64, 64)}, {"crop_area": (0.5, 1.0)}, "crop_area"),
        ({"schedule": "cosine"}, {"schedule": "multistep", "milestones": (0.5,)}, "milestones"),
    ],
)
def test_a_stated_option_replaces_what_says_the_same_in_another_way(stated, other, gone):
    merged = Options(**stated).over(Options(**other, lr=0.5))
    assert getattr(merged, gone) is None
    assert merged.lr == 0.5 and all(getattr(merged, name) == value for name, value in stated.items())


def test_milestones_apply_to_multistep_alone():
    assert resolve_options(Depth(), Options()).milestones is None
    options = resolve_options(Depth(), Options(schedule="multistep"))
    assert (options.milestones, options.gamma) == (DEFAULTS.milestones, DEFAULTS.gamma)
    with pytest.raises(UserError, match="--milestones and --gamma need --schedule multistep"):
        resolve_options(Depth(), Options(gamma=0.5)).validate()


# --config


@dataclass(frozen=True)
class Other(Relief):
    """Another task with the same options."""

    name: ClassVar[str] = "other"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of a task with an option of its own."""
    folder = tmp_path_factory.mktemp("config") / "run"
    train_toy(Relief(width=9), folder, model="plain", steps=2, seed=3)
    return folder


def train_from(config: Path, out: Path, task: Relief | None = None, **options) -> Options:
    """Train from a config, and return the options of the new run."""
    train(
        Relief() if task is None else task,
        data=Reliefs(),
        eval_data=Reliefs(5, "test"),
        config=config,
        out=out,
        **options,
    )
    return Options.read(out / "config.yaml")


def test_a_run_starts_from_another_runs_config(finished, tmp_path):
    config = finished / "config.yaml"
    options = train_from(config, tmp_path / "run")
    assert options == dataclasses.replace(Options.read(config), out=tmp_path / "run")
    # Equal options, also those of the task, give an equal run; the first one is not resumed.
    assert (tmp_path / "run" / "task.json").read_bytes() == (finished / "task.json").read_bytes()
    best = [(folder / "best.safetensors").read_bytes() for folder in (finished, tmp_path / "run")]
    assert best[0] == best[1]


def test_options_stated_beside_a_config_take_precedence(finished, tmp_path):
    options = train_from(finished / "config.yaml", tmp_path / "run", Relief(width=4), lr=0.5, epochs=1.0)
    assert (options.lr, options.epochs, options.steps, options.seed) == (0.5, 1.0, None, 3)
    assert json.loads((tmp_path / "run" / "task.json").read_text())["options"]["width"] == 4


def test_a_config_without_task_json_has_the_tasks_default_options(finished, tmp_path):
    (tmp_path / "mine.yaml").write_bytes((finished / "config.yaml").read_bytes())
    assert train_from(tmp_path / "mine.yaml", tmp_path / "run").seed == 3
    assert json.loads((tmp_path / "run" / "task.json").read_text())["options"]["width"] == Relief().width


def test_a_config_that_does_not_fit_is_refused(finished, tmp_path):
    config = finished / "config.yaml"
    with pytest.raises(UserError, match="is a run of 'relief', not of 'other'"):
        train_from(config, tmp_path / "run", Other())
    with pytest.raises(UserError, match="--config and --resume contradict each other"):
        train_from(config, tmp_path / "run", resume=True)
    with pytest.raises(UserError, match="--config and --recipe contradict each other"):
        train_from(config, tmp_path / "run", recipe="synthetic-rooms")
    with pytest.raises(UserError, match=r"nowhere\.yaml cannot be read .*--config takes the config\.yaml of a run"):
        train_from(tmp_path / "nowhere.yaml", tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --dry-run


def test_a_dry_run_describes_the_run_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {**TINY, "model": "plain", "batch_size": 3, "dry_run": True}
    summary = train(Relief(width=6), data=Reliefs(), eval_data=Reliefs(5, "test"), **options)
    assert not list(tmp_path.iterdir())
    assert summary["options"]["lr"] == TINY["lr"] and summary["options"]["recipe"] == "synthetic-rooms"
    assert not {"dry_run", "out", "resume"} & summary["options"].keys()
    # 3 -> 6 channels at half of 16 x 16 pixels, 6 -> 1 there, and 3 -> 1 in every pixel; biases.
    assert summary["parameters"] == (27 * 6 + 6) + (54 + 1) + (3 + 1)
    assert summary["multiply_adds"] == 64 * 27 * 6 + 64 * 54 + 256 * 3
    # Kept until the backward pass: the image in fp32 at least; not the parameters.
    assert 3 * 256 * 4 <= summary["memory_per_image"] < 50_000
    assert summary["batch"] == {"image": (3, 3, 16, 16), "depth": (3, 16, 16), "depth_mask": (3, 16, 16)}


def test_the_memory_of_a_dry_run_grows_with_the_pixels(tmp_path):
    memory = {}
    for size in (32, 64):
        options = {**TINY, **BACKBONE, "image_size": (size, size), "dry_run": True, "out": tmp_path / "run"}
        memory[size] = train(Depth(), data=Reliefs(), eval_data=Reliefs(5, "test"), **options)["memory_per_image"]
    # The first stage of a ResNet-20 alone keeps 14 maps of 16 channels in fp32: outputs of convolutions and of norms.
    assert memory[32] > 14 * 16 * 32 * 32 * 4
    assert memory[64] == pytest.approx(4 * memory[32], rel=0.01)


def test_a_dry_run_refuses_what_the_run_refuses(tmp_path):
    with pytest.raises(UserError, match="no head of the task depth named 'unett'"):
        train("depth", dry_run=True, head="unett")
    train_toy(Relief(), tmp_path / "run", model="plain", steps=1)
    with pytest.raises(UserError, match="already contains a run"):
        train_toy(Relief(), tmp_path / "run", model="plain", steps=1, dry_run=True)
