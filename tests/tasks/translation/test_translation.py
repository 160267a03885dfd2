"""The task: directions, two players that keep apart, what a checkpoint remembers of itself, label maps as inputs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from densevision.datasets import open_dataset
from densevision.datasets.fields import Image, Labels, OneHot
from densevision.errors import UserError
from densevision.tasks.blueprint import Blueprint
from densevision.tasks.conformance import check_task
from densevision.tasks.inference import Predictor, load
from densevision.tasks.pictures import labels_of
from densevision.tasks.training.assembly import assemble
from densevision.tasks.training.checkpoint import read_tensors
from densevision.tasks.training.loop import train
from densevision.tasks.training.options import Options
from densevision.tasks.training.stepper import optimizer_step
from densevision.tasks.translation import Translation
from densevision.tasks.translation.made import LabelMap, Made

from .players import TINY, weights_of

FACADES = open_dataset("facades", split="test").at((32, 32))
FIELDS = {"labels": Labels(("wall", "window")), "depth": Image(1), "image": Image()}


def test_the_task_keeps_its_promises():
    check_task(Translation())


def test_the_task_keeps_its_promises_backwards():
    check_task(Translation(from_="image", to="labels"))


@pytest.mark.parametrize(
    ("task", "source", "goal"),
    [
        (Translation(), "labels", "image"),
        (Translation(from_="image", to="labels"), "image", "labels"),
        (Translation(to="depth"), "labels", "depth"),
    ],
)
def test_the_first_field_becomes_the_last_unless_the_caller_says_others(task, source, goal):
    assert (*task.inputs(FIELDS), *task.targets(FIELDS)) == (source, goal)


def test_directions_that_cannot_be_are_named():
    with pytest.raises(UserError, match="did you mean 'image'"):
        Translation(from_="imag").inputs(FIELDS)
    with pytest.raises(UserError, match="turns one field into another"):
        Translation(to="labels").targets(FIELDS)
    with pytest.raises(UserError, match="neither"):
        Translation().inputs({})
    with pytest.raises(UserError, match="--patches is 7"):
        Translation(patches=7)


def test_a_label_map_goes_in_with_a_channel_per_class_and_one_for_none():
    (kind,) = (Translation().prepared(FIELDS)["labels"],)
    assert isinstance(kind, OneHot) and Translation().channels(FIELDS) == kind.channels == 3
    batch = kind.collate("labels", [np.array([[0, 1], [255, 1]])])["labels"]
    arrived = kind.arrive(batch)
    assert arrived.shape == (1, 3, 2, 2) and arrived.dtype == torch.float32
    assert arrived[0].argmax(0).tolist() == [[0, 1], [2, 1]] and torch.equal(arrived.sum(1), torch.ones(1, 2, 2))


def moved(before: dict[str, torch.Tensor], after: torch.nn.Module) -> bool:
    return any(not torch.equal(before[name], value) for name, value in after.named_parameters())


def test_each_player_moves_only_itself(tmp_path):
    """With a rate of 0 for one of them, the other moves alone: neither's loss reaches into the other's parameters."""
    for still in (0, 1):
        run = assemble(Translation(), Options(), None, None, {**TINY, "out": tmp_path / str(still)})
        players = [phase.module for phase in run.phases]
        assert [phase.name for phase in run.phases] == ["discriminator", "generator"]
        before = [{name: value.detach().clone() for name, value in player.named_parameters()} for player in players]
        for group in run.optimizers[still].param_groups:
            group["relative"] = 0.0
        optimizer_step(run, 0, iter(run.batches()), 0.1)
        assert [moved(*pair) for pair in zip(before, players, strict=True)] == [still != 0, still != 1]
        run.log.close()


def test_no_phase_sends_a_gradient_into_the_other_player(tmp_path):
    run = assemble(Translation(), Options(), None, None, {**TINY, "out": tmp_path / "run"})
    (batch,) = (run.arrive(next(iter(run.batches()))),)
    made: dict = {}
    discriminator, generator = (phase.module for phase in run.phases)
    for index, (learning, resting) in enumerate(((discriminator, generator), (generator, discriminator))):
        run.open_from(index)
        for player in (discriminator, generator):
            player.zero_grad(set_to_none=True)
        torch.stack(list(run.phases[index].loss(batch, made).values())).sum().backward()
        assert all(value.grad is not None for value in learning.parameters())
        assert all(value.grad is None for value in resting.parameters())
    assert made["answer"].shape == (2, 3, 32, 32)
    run.log.close()


def test_without_an_adversary_and_for_labels_there_is_one_phase():
    for task, loss in (
        (Translation(adversarial=False), {"l1"}),
        (Translation(from_="image", to="labels"), {"cross-entropy"}),
    ):
        blueprint = Blueprint(task, FACADES.fields, "resnet20_cifar", {}, "unet")
        (phase,) = task.phases(blueprint.build(), FACADES.fields, "vanilla")
        assert phase.name == "generator" and loss
    with pytest.raises(UserError, match="--adversarial judges pictures"):
        task = Translation(from_="image", to="labels", adversarial=True)
        task.phases(Blueprint(task, FACADES.fields, "resnet20_cifar", {}, "unet").build(), FACADES.fields, "vanilla")


def test_a_stopped_run_goes_on_with_both_players_and_both_optimizers_to_the_bit(tmp_path):
    options = {**TINY, "optimizer": "adam", "momentum": 0.5}

    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    train(Translation(), **{**options, "out": tmp_path / "whole"})
    with pytest.raises(KeyboardInterrupt):
        train(Translation(), on_step=stop, **{**options, "save_every": 1, "out": tmp_path / "cut"})
    train(Translation(), resume=True, out=tmp_path / "cut")
    whole, cut = (weights_of(tmp_path / name) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert [name for name in whole if not torch.equal(whole[name], cut[name])] == []


def test_a_checkpoint_holds_the_generator_alone(tmp_path):
    train(Translation(), **{**TINY, "steps": 1, "out": tmp_path / "run"})
    names = set(read_tensors(tmp_path / "run" / "last" / "checkpoint.safetensors"))
    assert {name.split(".")[0] for name in names} <= {"backbone", "head", "noise"}


@pytest.mark.parametrize("norm", ["batch-stats", "frozen", "instance"])
def test_a_checkpoint_answers_by_its_own_rule_and_alike_unless_a_seed_is_asked_for(tmp_path, norm):
    train(Translation(norm=norm), **{**TINY, "steps": 2, "out": tmp_path / "run"})
    predictor = load(tmp_path / "run" / "last" / "checkpoint.safetensors", device="cpu", amp="off")
    assert predictor.task == Translation(norm=norm)
    sample = FACADES.read(0)
    first, second = (predictor.answer(sample).picture() for _ in range(2))
    assert np.array_equal(first, second)
    predictor.seed = 7
    assert np.array_equal(predictor.answer(sample).picture(), first) == (norm != "batch-stats")


def test_any_size_in_is_the_size_out():
    task = Translation()
    predictor = Predictor(
        task, Blueprint(task, FACADES.fields, "resnet20_cifar", {}, "unet").build(), FACADES.fields, (32, 32)
    )
    for size in ((32, 32), (33, 47), (5, 90), (1, 1)):
        labels = np.zeros(size, np.int64)
        for view in task.views:
            made = predictor.predict(labels, view=view)
            assert isinstance(made, Made) and made.picture().shape == (*size, 3)


def test_a_network_into_labels_answers_with_a_label_map(tmp_path):
    task = Translation(from_="image", to="labels")
    blueprint = Blueprint(task, FACADES.fields, "resnet20_cifar", {}, "unet")
    answer = Predictor(task, blueprint.build(), FACADES.fields, (32, 32)).predict(np.zeros((40, 30, 3), np.uint8))
    assert isinstance(answer, LabelMap)
    assert answer.picture().shape == (40, 30, 3)
    assert {path.suffix for path in answer.save(tmp_path, "a")} == {".png"}


def test_a_file_of_labels_is_read_as_classes_and_one_in_colour_is_refused(tmp_path):
    kind = Labels(("a", "b", "c"))
    labels = np.array([[0, 2], [255, 1]], np.uint8)
    cv2.imwrite(str(tmp_path / "labels.png"), labels)
    assert labels_of(tmp_path / "labels.png", kind).tolist() == labels.tolist()
    cv2.imwrite(str(tmp_path / "rgb.png"), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match=r"rgb\.png.*one channel.*RGB picture"):
        labels_of(tmp_path / "rgb.png", kind)
    with pytest.raises(UserError, match="labels below 3 or 255; found: label 7"):
        labels_of(np.full((2, 2), 7), kind)
    with pytest.raises(UserError, match=r"none\.png"):
        labels_of(tmp_path / "none.png", kind)


def test_two_processes_play_as_one_of_twice_the_batch(tmp_path):
    port = socket.socket()
    port.bind(("127.0.0.1", 0))
    number = str(port.getsockname()[1])
    port.close()
    script, started = Path(__file__).parent / "two_players.py", []
    for rank in ("0", "1"):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment = {**os.environ, **place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": number}
        command = [sys.executable, str(script), str(tmp_path)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    train(Translation(norm="instance", patches=1), **{**TINY, "batch": 4, "out": tmp_path / "one"})
    one, two = weights_of(tmp_path / "one"), torch.load(tmp_path / "two.pt", weights_only=True)
    gap = max(float((one[name].double() - two[name].double()).abs().max()) for name in one)
    assert gap < 1e-5
