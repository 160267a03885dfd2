from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from densevision.backbones import create_backbone
from densevision.datasets.synthetic import SyntheticRooms
from densevision.errors import UserError
from densevision.tasks.checkpoint import write_model
from densevision.tasks.depth import Depth
from densevision.tasks.training.optimizers import PhaseRunner, train_mode
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import train

from .toys import (
    BACKBONE,
    TINY,
    Exploding,
    Relief,
    Reliefs,
    Rivals,
    build_toy_trainer,
    difference,
    largest_gap,
    log_lines,
    train_toy,
    weights_after,
)

SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"}


def finish(trainer) -> dict:
    return trainer.run()


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_overfitting_one_batch_brings_the_loss_near_zero(tmp_path):
    options = {"overfit_one_batch": True, "steps": 200, "lr": 0.1, "log_every": 1, "max_zoom": 1.0, "max_rotation": 0.0}
    # Images of the training size are not resampled: depth is a mean of the colors, which a convolution can represent.
    train_toy(Relief(), tmp_path / "run", Reliefs(size=(16, 16)), model="plain", **options)
    losses = [line["l1"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"]
    assert losses[0] > 1 and losses[-1] < 0.05


def test_gradient_checkpointing_changes_no_step_and_saves_memory(tmp_path):
    # Adam would divide the rounding of a gradient by the gradient.
    options = {**BACKBONE, **SGD, "steps": 2, "eval_samples": 1}
    runs = {}
    for saves in (False, True):
        train_toy(Depth(), tmp_path / f"{saves}", checkpoint_gradients=saves, **options)
        plan = train("depth", **TINY, **BACKBONE, checkpoint_gradients=saves, dry_run=True, out=tmp_path / "none")
        runs[saves] = weights_after(tmp_path / f"{saves}"), plan["memory_per_image"]
    assert largest_gap(runs[False][0], runs[True][0]) < 1e-6
    assert runs[True][1] < 0.8 * runs[False][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "plain"}, "--checkpoint-gradients needs a model with a backbone"),
        ({**BACKBONE, "compile": True}, "--checkpoint-gradients and --compile cannot be combined"),
        ({**BACKBONE, "backbone": "lenet5"}, "lenet5 has no blocks"),
    ],
)
def test_gradient_checkpointing_without_blocks_is_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        train_toy(Relief(), tmp_path / "run", checkpoint_gradients=True, **options)


def test_overfitting_uses_the_same_augmented_batch_at_every_step(tmp_path):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", overfit_one_batch=True, steps=3)
    first, *others = trainer.data_loader()
    assert len(others) == 2
    assert all(difference(first, other) is None for other in others)


@pytest.mark.parametrize(("amp", "inside"), [("off", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_amp_sets_the_precision_of_the_model_and_losses_are_fp32(tmp_path, amp, inside):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", amp=amp)
    dtypes = []
    trainer.model.second.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    terms = trainer.phase_runner(0, trainer.to_device(next(iter(trainer.data_loader()))), {})
    assert dtypes == [inside]
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_freeze_backbone_keeps_weights_and_statistics_exactly(tmp_path):
    # Trap 23 of the facts on backbones: statistics of frozen layers that still change.
    trainer = build_toy_trainer(Depth(), tmp_path / "run", **BACKBONE, freeze_backbone=True, ema_decay=0.5, steps=3)
    backbone, head = copy_of(trainer.model.backbone), copy_of(trainer.model.head)
    finish(trainer)
    assert difference(backbone, copy_of(trainer.model.backbone)) is None
    assert largest_gap(head, copy_of(trainer.model.head)) > 1e-4
    assert trainer.ema is not None
    averaged = {f"backbone.{name}": value for name, value in backbone.items()}
    assert difference(averaged, {name: trainer.ema.average[name] for name in averaged}) is None


def test_freeze_bn_keeps_statistics_and_trains_weights(tmp_path):
    trainer = build_toy_trainer(Depth(), tmp_path / "run", **BACKBONE, freeze_bn=True, steps=3)
    backbone, head = dict(trainer.model.backbone.named_buffers()), dict(trainer.model.head.named_buffers())
    before = {name: value.clone() for name, value in {**backbone, **{f"head.{n}": v for n, v in head.items()}}.items()}
    weights = copy_of(trainer.model.backbone)
    finish(trainer)
    assert difference({name: before[name] for name in backbone}, dict(trainer.model.backbone.named_buffers())) is None
    assert largest_gap({n: before[f"head.{n}"] for n in head}, dict(trainer.model.head.named_buffers())) > 1e-4
    assert largest_gap(weights, copy_of(trainer.model.backbone)) > 1e-4


def test_train_mode_keeps_normalizations_in_evaluation_mode():
    model: Any = Depth().build({}, create_backbone("resnet20_cifar", num_classes=0), "unet", None)
    train_mode(model, Options(freeze_bn=True))
    modes = {type(module).__name__: module.training for module in model.backbone.modules()}
    assert modes["BatchNorm2d"] is False and modes["Conv2d"] is True
    train_mode(model, Options(freeze_backbone=True))
    assert not any(module.training for module in model.backbone.modules())
    assert all(module.training for module in model.head.modules())


@pytest.mark.parametrize("option", [{"freeze_backbone": True}, {"freeze_bn": True}, {"backbone_lr_factor": 0.1}])
def test_an_option_of_the_backbone_is_refused_for_a_model_without_one(tmp_path, option):
    name = next(iter(option)).replace("_", "-")
    with pytest.raises(UserError, match=f"--{name} needs a model with a backbone; this model has none"):
        build_toy_trainer(Relief(), tmp_path / "run", model="plain", **option)
    assert not (tmp_path / "run").exists()


def test_a_recipes_options_of_the_backbone_have_no_effect_on_a_model_without_one(tmp_path):
    # A recipe for photos with initial weights keeps its values; without a backbone they are neither refused nor stored.
    class Spared(Relief):
        recipes: ClassVar = {**Relief.recipes, "spared": Options(model="plain", freeze_bn=True, backbone_lr_factor=0.2)}

    first = build_toy_trainer(Relief(), tmp_path / "first", model="plain")
    write_model(tmp_path / "first.safetensors", first.model, first.model_spec, first.checkpoint_metadata())
    options = {"recipe": "spared", "init_from": tmp_path / "first.safetensors"}
    trainer = build_toy_trainer(Spared(), tmp_path / "run", **options)
    assert (trainer.options.freeze_bn, trainer.options.backbone_lr_factor) == (False, 1.0)


def test_accumulating_two_batches_equals_one_of_twice_the_size(tmp_path):
    options = {"model": "plain", **SGD, "lr": 0.05, "log_every": 6}
    train_toy(Relief(), tmp_path / "two", batch_size=2, micro_batches=2, **options)
    train_toy(Relief(), tmp_path / "one", batch_size=4, **options)
    assert largest_gap(weights_after(tmp_path / "one"), weights_after(tmp_path / "two")) < 1e-6
    one, two = log_lines(tmp_path / "one")[0], log_lines(tmp_path / "two")[0]
    assert two["l1"] == pytest.approx(one["l1"], rel=1e-6)


def test_running_statistics_follow_the_first_micro_batch_alone(tmp_path):
    # That one process always has, so that they are the same on any number of processes.
    for count in (1, 3):
        train_toy(Relief(), tmp_path / str(count), model="normalized", **SGD, steps=1, lr=0.05, micro_batches=count)
    one, three = (weights_after(tmp_path / str(count)) for count in (1, 3))
    statistics = ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked")
    assert difference({name: one[name] for name in statistics}, {name: three[name] for name in statistics}) is None
    assert largest_gap(one, three) > 1e-4


def test_every_micro_batch_has_random_numbers_of_its_own(tmp_path):
    options = {"model": "dropout", "overfit_one_batch": True, "steps": 1, "lr": 0.0, "micro_batches": 2}
    trainer = build_toy_trainer(Relief(), tmp_path / "run", **options)
    dropped = []
    trainer.model.dropout.register_forward_hook(lambda module, inputs, output: dropped.append(output == 0))
    trainer.run()
    assert not torch.equal(dropped[0], dropped[1])


@pytest.mark.parametrize(("clip", "moved"), [(0.01, 0.01), (1000.0, None), (0.0, None)])
def test_clipping_limits_the_norm_of_the_gradient(tmp_path, clip, moved):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="plain", **SGD, lr=1.0, steps=1, clip_grad_norm=clip)
    before = dict(copy_of(trainer.model))
    finish(trainer)
    step = math.sqrt(sum(float((before[n] - v).square().sum()) for n, v in copy_of(trainer.model).items()))
    # With a learning rate of 1, plain SGD moves by the gradient itself.
    assert step == pytest.approx(moved, rel=1e-3) if moved else step > 0.05


def test_early_stopping_ends_training_after_patience_evaluations(tmp_path):
    result = train_toy(Relief(), tmp_path / "run", model="plain", lr=0.0, eval_every=2, patience=1, steps=9)
    assert result["steps"] == 4 and result["best"]["step"] == 2
    assert [line["step"] for line in log_lines(tmp_path / "run") if line["kind"] == "eval"] == [2, 4]


def test_nan_stops_the_run_with_step_and_term(tmp_path):
    with pytest.raises(UserError, match=r"term 'fuse' became nan at step 3: lower --lr") as caught:
        train_toy(Exploding(), tmp_path / "run", model="plain", save_every=1)
    assert "\n" not in str(caught.value)
    assert all(value.isfinite().all() for value in weights_after(tmp_path / "run").values())


def test_the_log_has_the_learning_rate_of_every_step(tmp_path):
    # Trap 29 of the facts on backbones: four steps of warm-up (1/5 .. 4/5), then half a cosine over the other six.
    options = {"steps": 10, "warmup_steps": 4, "lr": 0.2, "log_every": 1, "schedule": "cosine"}
    train_toy(Relief(), tmp_path / "run", model="plain", **options)
    rates = [line["lr"] for line in log_lines(tmp_path / "run") if line["kind"] == "train"]
    cosine = [(1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
    assert rates == pytest.approx([0.04, 0.08, 0.12, 0.16, *(0.2 * factor for factor in cosine)])


def test_the_backbone_uses_its_own_learning_rate(tmp_path):
    trainer = build_toy_trainer(Depth(), tmp_path / "run", **BACKBONE, **SGD, lr=0.1, backbone_lr_factor=0.0, steps=1)
    backbone, head = dict(trainer.model.backbone.named_parameters()), dict(trainer.model.head.named_parameters())
    before = [{name: value.detach().clone() for name, value in part.items()} for part in (backbone, head)]
    finish(trainer)
    assert difference(before[0], {name: value.detach() for name, value in backbone.items()}) is None
    assert largest_gap(before[1], head) > 1e-4


def test_initial_weights_depend_on_the_seed_alone(tmp_path):
    torch.manual_seed(5)
    one = copy_of(build_toy_trainer(Relief(), tmp_path / "one", model="plain").model)
    torch.manual_seed(6)
    assert difference(one, copy_of(build_toy_trainer(Relief(), tmp_path / "two", model="plain").model)) is None
    other = build_toy_trainer(Relief(), tmp_path / "three", model="plain", seed=1)
    assert difference(one, copy_of(other.model)) is not None


def test_dropout_differs_from_step_to_step(tmp_path):
    trainer = build_toy_trainer(Relief(), tmp_path / "run", model="dropout", overfit_one_batch=True, steps=2, lr=0.0)
    dropped = []
    trainer.model.dropout.register_forward_hook(lambda module, inputs, output: dropped.append(output == 0))
    trainer.run()
    assert not torch.equal(dropped[0], dropped[1])


def test_epochs_become_steps_and_need_a_finite_dataset(tmp_path):
    # 3 passes over 7 samples, 2 per step: 10.5 steps, rounded down.
    assert build_toy_trainer(Relief(), tmp_path / "run", model="plain", epochs=3, steps=None).steps == 10
    with pytest.raises(UserError, match="--epochs needs a finite training set; give --steps, or --train-samples"):
        build_toy_trainer(Relief(), tmp_path / "two", SyntheticRooms(), model="plain", epochs=1, steps=None)
    trainer = build_toy_trainer(
        Relief(), tmp_path / "three", SyntheticRooms(), model="plain", epochs=2, steps=None, train_samples=6
    )
    assert trainer.steps == 6


def test_steps_beside_epochs_are_refused(tmp_path):
    with pytest.raises(UserError, match="--steps and --epochs are two ways to say the same thing"):
        build_toy_trainer(Relief(), tmp_path / "run", model="plain", epochs=1)


def test_an_empty_training_set_is_refused(tmp_path):
    with pytest.raises(UserError, match="training split of 'Reliefs' contains no sample"):
        build_toy_trainer(Relief(), tmp_path / "run", Reliefs(samples=0), model="plain")


def test_a_dataset_object_needs_eval_data(tmp_path):
    from densevision.tasks.training.setup import train

    with pytest.raises(UserError, match="pass the data to evaluate on as eval_data"):
        train(Relief(), data=Reliefs(), model="plain", out=tmp_path / "run", **TINY)


@pytest.mark.parametrize(
    ("fits", "message"), [(3, "--batch-size 2 fits"), (1, "--batch-size 1 fits"), (0, "even one image")]
)
@pytest.mark.parametrize("task", [Relief(), Rivals()])
def test_out_of_memory_names_a_batch_size_that_fits(tmp_path, monkeypatch, task, fits, message):
    forward = PhaseRunner.forward

    def limited_forward(self, phase, batch, cache):
        # In the last phase, when earlier ones are frozen already.
        if len(batch["image"]) > fits and phase + 1 == len(self.phases):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(self, phase, batch, cache)

    monkeypatch.setattr(PhaseRunner, "forward", limited_forward)
    model = next(iter(task.models))
    with pytest.raises(UserError, match=f"Memory ran out with --batch-size 8: {message}"):
        train_toy(task, tmp_path / "run", model=model, batch_size=8)


def test_other_runtime_errors_are_raised_unchanged(tmp_path, monkeypatch):
    def fail(self, phase, batch, cache):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(PhaseRunner, "forward", fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2") as caught:
        train_toy(Relief(), tmp_path / "run", model="plain")
    assert caught.value.__cause__ is None


def test_on_step_is_called_once_per_optimizer_step(tmp_path):
    steps: list[int] = []
    train_toy(Relief(), tmp_path / "run", model="plain", micro_batches=2, on_step=steps.append)
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_compiled_model_has_the_same_loss(tmp_path):
    # Losses may call `forward_train` or `features` instead of `forward`: both use the compiled parts.
    losses = []
    for name, compiled in (("plain", False), ("compiled", True)):
        trainer = build_toy_trainer(Relief(), tmp_path / name, compile=compiled, **BACKBONE)
        batch = trainer.to_device(next(iter(trainer.data_loader())))
        losses.append([float(value) for value in trainer.phase_runner(0, batch, {}).values()])
        if compiled:
            assert "features" in vars(trainer.model.backbone)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
