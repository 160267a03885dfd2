from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from densevision.datasets.dataset import Sample
from densevision.datasets.rooms import Rooms
from densevision.tasks import create_task, list_tasks
from densevision.tasks.blueprint import Blueprint
from densevision.tasks.conformance import (
    SIZE,
    check_answers,
    check_fields,
    check_metrics,
    check_network,
    check_preparation,
    check_recipes,
    check_statements,
    check_task,
)
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.task import Phase
from densevision.tasks.training.options import Options

from .training.toys import Relief, Rivals

TRAINING, TEST = Rooms(size=SIZE), Rooms(split="test", size=SIZE)


def one_metre(sample: Sample) -> DepthMap:
    return DepthMap(np.ones_like(sample["depth"]))


@pytest.mark.parametrize("name", list_tasks())
def test_every_task_of_the_catalogue_keeps_its_promises(name):
    check_task(create_task(name))


def test_a_task_with_two_phases_keeps_its_promises():
    task = Rivals()
    blueprint = Blueprint(task, TRAINING.fields, network="pair")
    torch.manual_seed(0)
    check_network(blueprint, blueprint.build(), TRAINING)


def small(task) -> tuple[Blueprint, Any]:
    torch.manual_seed(0)
    blueprint = Blueprint(task, TRAINING.fields, network=next(iter(task.networks)))
    return blueprint, blueprint.build()


@dataclass(frozen=True)
class WithTuple(Relief):
    joints: tuple[int, ...] = (1, 2)


class WithoutProtocol(Relief):
    protocols: ClassVar[tuple[str, ...]] = ()


class WrongProtocol(Relief):
    def default_protocol(self, dataset, fields):
        return "the usual"


class NoSuchHead(Relief):
    heads: ClassVar[tuple[str, ...]] = ("unet", "mynet")


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (WithTuple(), "options do not survive a checkpoint's header"),
        (WithoutProtocol(), "has a loss, a protocol and a recipe at least"),
        (WrongProtocol(), "scored under 'the usual', which is none of the protocols"),
        (NoSuchHead(), r"heads \['mynet'\] are neither in tasks.heads.HEADS nor the task's own"),
    ],
)
def test_statements_that_lead_nowhere_are_found(task, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_statements(task, {})


def test_a_recipe_without_a_size_is_found():
    class Careless(Relief):
        recipes: ClassVar[dict[str, Options]] = {"rooms": Relief.recipes["rooms"], "careless": Options(steps=3)}

    with pytest.raises(AssertionError, match="recipe 'careless' states no size"):
        check_recipes(Careless())


def test_a_task_that_takes_data_without_its_fields_is_found():
    class Indifferent(Relief):
        def targets(self, fields):
            return {name: kind for name, kind in fields.items() if name == "depth"}

    with pytest.raises(AssertionError, match=r"targets\(\) takes a data set without a field"):
        check_fields(Indifferent(), TRAINING)


class Overwriting(Relief):
    def prepare(self, sample, rng, colour):
        sample["image"][:] = 0
        return sample


class Drawing(Relief):
    def prepare(self, sample, rng, colour):
        return {**sample, "image": np.random.default_rng().integers(0, 9, sample["image"].shape, dtype=np.uint8)}


@pytest.mark.parametrize(
    ("task", "sentence"), [(Overwriting(), "What prepare.* differs"), (Drawing(), "from the same stream differs")]
)
def test_a_preparation_that_depends_on_more_than_it_is_given_is_found(task, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_preparation(task, TRAINING)


def test_a_loss_that_does_not_see_the_network_is_found():
    class Blind(Relief):
        def phases(self, model: Any, fields, loss):
            return (Phase("blind", model, lambda batch, made: {"zero": 0 * model.second.bias.sum() + 1.0}),)

    with pytest.raises(AssertionError, match="No step against its gradient lowers the loss of the phase 'blind'"):
        check_network(*small(Blind()), TRAINING)


def test_a_gradient_of_the_wrong_sign_is_found():
    class Uphill(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, *gradients):
            return -gradients[0]

    class Backwards(Relief):
        def phases(self, model, fields, loss):
            (phase,) = super().phases(model, fields, loss)

            def flipped(batch, made):
                return {name: Uphill.apply(value) for name, value in phase.loss(batch, made).items()}

            return (Phase("backwards", model, flipped),)

    with pytest.raises(AssertionError, match="lowers the loss of the phase 'backwards'"):
        check_network(*small(Backwards()), TRAINING)


def test_two_phases_that_update_one_parameter_are_found():
    class Sharing(Rivals):
        def phases(self, model, fields, loss):
            critic, generator = super().phases(model, fields, loss)
            return critic, Phase("generator", model, generator.loss)

    with pytest.raises(AssertionError, match="Two phases update one parameter"):
        check_network(*small(Sharing()), TRAINING)


def test_tallies_that_do_not_merge_are_found():
    class Forgetful(Relief):
        def metrics(self, protocol):
            metrics = super().metrics(protocol)
            merge = metrics.merge
            metrics.merge = lambda states: merge(list(states)[-1:])  # type: ignore[method-assign]
            return metrics

    with pytest.raises(AssertionError, match="merged one by one, gives"):
        check_metrics(Forgetful(), one_metre, TEST)


def test_answers_of_another_size_are_found():
    class Cropped(Relief):
        def decode(self, output, query):
            whole: Any = super().decode(output, query)
            return DepthMap(whole.metres[:-1])

    blueprint, model = small(Cropped())
    with pytest.raises(AssertionError, match=r"network's answer is drawn as \(63, 96\), not as \(64, 96\)"):
        check_answers(blueprint, model, one_metre, TEST)


def test_a_network_that_keeps_what_no_checkpoint_holds_is_found():
    class Secretive(Relief):
        def build(self, fields, backbone, head, network):
            model: Any = super().build(fields, backbone, head, network)
            secret = torch.rand(1)
            model.register_forward_hook(lambda module, inputs, output: torch.add(output, secret))
            return model

    with pytest.raises(AssertionError, match="answers otherwise once saved"):
        check_answers(*small(Secretive()), one_metre, TEST)
