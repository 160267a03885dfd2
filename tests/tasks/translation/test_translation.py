"""The task: fields, phases of generator and discriminator, checkpoints, and label maps as inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch

from densevision.datasets import open_dataset
from densevision.datasets.field_types import Image, SegmentationMask
from densevision.errors import UserError
from densevision.tasks.checkpoint import read_tensors
from densevision.tasks.conformance import check_task
from densevision.tasks.export import export
from densevision.tasks.image_io import load_labels
from densevision.tasks.inference import Predictor, load
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.training.options import Options
from densevision.tasks.training.setup import build_trainer, train
from densevision.tasks.translation import Translation
from densevision.tasks.translation.predictions import LabelMap, TranslatedImage

from ..processes import run_processes
from .tiny_training import TINY, weights_of

FACADES = open_dataset("synthetic-facades", split="test").with_size((32, 32))
FIELDS = {"labels": SegmentationMask(("wall", "window")), "depth": Image(1), "image": Image()}


@pytest.mark.slow
def test_task_contract_from_images_to_labels():
    check_task(Translation(source_field="image", target_field="labels"))


@pytest.mark.parametrize(
    ("task", "source", "target"),
    [
        (Translation(), "labels", "image"),
        (Translation(source_field="image", target_field="labels"), "image", "labels"),
        (Translation(target_field="depth"), "labels", "depth"),
    ],
)
def test_default_source_is_the_first_and_target_the_last_field(task, source, target):
    assert (*task.inputs(FIELDS), *task.targets(FIELDS)) == (source, target)


def test_invalid_fields_and_options_are_refused():
    with pytest.raises(UserError, match="did you mean 'image'"):
        Translation(source_field="imag").inputs(FIELDS)
    with pytest.raises(UserError, match="translates one field into another"):
        Translation(target_field="labels").targets(FIELDS)
    with pytest.raises(UserError, match="neither"):
        Translation().inputs({})
    with pytest.raises(UserError, match="--discriminator-layers is 7"):
        Translation(discriminator_layers=7)


def test_input_label_map_has_a_channel_per_class_and_one_for_unlabeled_pixels():
    field_type = Translation().inputs(FIELDS)["labels"]
    assert Translation().backbone_options(FIELDS)["in_channels"] == field_type.input_channels == 3
    batch = field_type.collate("labels", [np.array([[0, 1], [255, 1]])])["labels"]
    pixels = field_type.to_input(batch)
    assert pixels.shape == (1, 3, 2, 2) and pixels.dtype == torch.float32
    assert pixels[0].argmax(0).tolist() == [[0, 1], [2, 1]] and torch.equal(pixels.sum(1), torch.ones(1, 2, 2))


def changed(before: dict[str, torch.Tensor], after: torch.nn.Module) -> bool:
    return any(not torch.equal(before[name], value) for name, value in after.named_parameters())


def test_each_phase_updates_its_own_network_only(tmp_path):
    """With a learning rate of 0 for one network, only the other changes."""
    for frozen in (0, 1):
        trainer = build_trainer(Translation(), Options(), None, None, {**TINY, "out": tmp_path / str(frozen)})
        networks = [phase.module for phase in trainer.phases]
        assert [phase.name for phase in trainer.phases] == ["discriminator", "generator"]
        before = [{name: value.detach().clone() for name, value in network.named_parameters()} for network in networks]
        for group in trainer.optimizers[frozen].param_groups:
            group["lr_scale"] = 0.0
        trainer.optimizer_step(0, iter(trainer.data_loader()), 0.1)
        assert [changed(*pair) for pair in zip(before, networks, strict=True)] == [frozen != 0, frozen != 1]
        trainer.log.close()


def test_no_phase_has_a_gradient_into_the_other_network(tmp_path):
    trainer = build_trainer(Translation(), Options(), None, None, {**TINY, "out": tmp_path / "trainer"})
    (batch,) = (trainer.to_device(next(iter(trainer.data_loader()))),)
    cache: dict = {}
    discriminator, generator = (phase.module for phase in trainer.phases)
    for index, (trained, other) in enumerate(((discriminator, generator), (generator, discriminator))):
        trainer.phase_runner.set_requires_grad(index)
        for network in (discriminator, generator):
            network.zero_grad(set_to_none=True)
        torch.stack(list(trainer.phases[index].loss(batch, cache).values())).sum().backward()
        assert all(value.grad is not None for value in trained.parameters())
        assert all(value.grad is None for value in other.parameters())
    assert cache["generated"].shape == (2, 3, 32, 32)
    trainer.log.close()


def test_one_phase_without_adversarial_loss_and_for_labels():
    for task in (Translation(adversarial=False), Translation(source_field="image", target_field="labels")):
        spec = ModelSpec(task, FACADES.fields, "resnet20_cifar", {}, "unet")
        (phase,) = task.phases(spec.build(), FACADES.fields, "vanilla")
        assert phase.name == "generator"
    with pytest.raises(UserError, match="--adversarial applies to images only"):
        task = Translation(source_field="image", target_field="labels", adversarial=True)
        task.phases(ModelSpec(task, FACADES.fields, "resnet20_cifar", {}, "unet").build(), FACADES.fields, "vanilla")


def test_resumed_run_is_bit_identical_for_both_networks_and_optimizers(tmp_path):
    options = {**TINY, "optimizer": "adam", "momentum": 0.5}

    def stop(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    train(Translation(), **{**options, "out": tmp_path / "uninterrupted"})
    with pytest.raises(KeyboardInterrupt):
        train(Translation(), on_step=stop, **{**options, "save_every": 1, "out": tmp_path / "resumed"})
    train(Translation(), resume=True, out=tmp_path / "resumed")
    first, second = (weights_of(tmp_path / name) for name in ("uninterrupted", "resumed"))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_checkpoint_contains_the_generator_only(tmp_path):
    train(Translation(), **{**TINY, "steps": 1, "out": tmp_path / "trainer"})
    names = set(read_tensors(tmp_path / "trainer" / "last" / "checkpoint.safetensors"))
    assert {name.split(".")[0] for name in names} <= {"backbone", "head"}


@pytest.mark.parametrize(
    "norm", ["batch", *(pytest.param(norm, marks=pytest.mark.slow) for norm in ("frozen-batch", "instance"))]
)
def test_checkpoint_predicts_in_its_normalization_mode_and_depends_on_the_seed_in_mode_batch(tmp_path, norm):
    train(Translation(norm=norm), **{**TINY, "steps": 2, "out": tmp_path / "trainer"})
    predictor = load(tmp_path / "trainer" / "last" / "checkpoint.safetensors", device="cpu", amp="off")
    assert predictor.task == Translation(norm=norm)
    sample = FACADES.read(0)
    first, second = (predictor.predict_sample(sample).to_image() for _ in range(2))
    assert np.array_equal(first, second)
    predictor.seed = 7
    assert np.array_equal(predictor.predict_sample(sample).to_image(), first) == (norm != "batch")


def test_output_has_the_size_of_the_input():
    task = Translation()
    predictor = Predictor(
        task, ModelSpec(task, FACADES.fields, "resnet20_cifar", {}, "unet").build(), FACADES.fields, (32, 32)
    )
    for size in ((32, 32), (33, 47), (5, 90), (1, 1)):
        labels = np.zeros(size, np.int64)
        for mode in task.inference.modes:
            prediction = predictor.predict(labels, mode=mode)
            assert isinstance(prediction, TranslatedImage) and prediction.to_image().shape == (*size, 3)


def test_model_with_labels_as_target_predicts_a_label_map(tmp_path):
    task = Translation(source_field="image", target_field="labels")
    spec = ModelSpec(task, FACADES.fields, "resnet20_cifar", {}, "unet")
    prediction = Predictor(task, spec.build(), FACADES.fields, (32, 32)).predict(np.zeros((40, 30, 3), np.uint8))
    assert isinstance(prediction, LabelMap)
    assert prediction.to_image().shape == (40, 30, 3)
    assert {path.suffix for path in prediction.save(tmp_path, "a")} == {".png"}


def test_label_file_is_read_as_classes_and_a_color_image_is_refused(tmp_path):
    field_type = SegmentationMask(("a", "b", "c"))
    labels = np.array([[0, 2], [255, 1]], np.uint8)
    cv2.imwrite(str(tmp_path / "labels.png"), labels)
    assert load_labels(tmp_path / "labels.png", field_type).tolist() == labels.tolist()
    cv2.imwrite(str(tmp_path / "rgb.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match=r"rgb\.png.*one channel.*RGB image"):
        load_labels(tmp_path / "rgb.png", field_type)
    with pytest.raises(UserError, match=r"labels below 3 or 255.*label 7"):
        load_labels(np.full((2, 2), 7), field_type)
    with pytest.raises(UserError, match=r"none\.png"):
        load_labels(tmp_path / "none.png", field_type)


@pytest.mark.slow
def test_two_processes_are_equivalent_to_one_with_twice_the_batch_size(tmp_path):
    run_processes(Path(__file__).parent / "train_in_process.py", tmp_path)
    train(Translation(norm="instance", discriminator_layers=1), **{**TINY, "batch_size": 4, "out": tmp_path / "one"})
    one, two = weights_of(tmp_path / "one"), torch.load(tmp_path / "two.pt", weights_only=True)
    gap = max(float((one[name].double() - two[name].double()).abs().max()) for name in one)
    assert gap < 1e-5


@pytest.mark.slow
def test_a_training_says_first_if_its_model_cannot_be_exported(tmp_path, capsys):
    expected: dict[Literal["batch", "frozen-batch", "instance"], int] = {"batch": 1, "frozen-batch": 0, "instance": 0}
    for norm, lines in expected.items():
        train(Translation(norm=norm), **{**TINY, "steps": 1, "out": tmp_path / norm})
        before_training = capsys.readouterr().err.split("step ")[0]
        assert before_training.count("cannot be exported: its dropout stays on; train with --norm frozen") == lines


def test_the_model_of_such_a_training_is_refused_for_the_same_reason(tmp_path):
    train(Translation(), **{**TINY, "steps": 1, "out": tmp_path / "run"})
    with pytest.raises(UserError, match=r"an exported file has no seed: its dropout stays on; .* --norm frozen-batch"):
        export(load(str(tmp_path / "run"), "cpu", "off"), tmp_path / "a.onnx", "onnx")
