from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from densevision.datasets.dataset import Sample
from densevision.datasets.synthetic import SyntheticRooms
from densevision.tasks import create_task, list_tasks
from densevision.tasks.conformance import (
    SIZE,
    check_augment,
    check_declarations,
    check_fields,
    check_metrics,
    check_network,
    check_predictions,
    check_recipes,
    check_task,
)
from densevision.tasks.depth.depth_map import DepthMap
from densevision.tasks.model_spec import ModelSpec
from densevision.tasks.network import Phase
from densevision.tasks.policies import AugmentationPolicy, EvaluationPolicy
from densevision.tasks.training.options import Options

from .training.toys import Relief, Rivals

TRAINING, TEST = SyntheticRooms(size=SIZE), SyntheticRooms(split="test", size=SIZE)


def one_meter(sample: Sample) -> DepthMap:
    return DepthMap(np.ones_like(sample["depth"]))


@pytest.mark.parametrize("name", list_tasks())
def test_every_registered_task_conforms(name):
    check_task(create_task(name))


def test_a_task_with_two_phases_conforms():
    task = Rivals()
    model_spec = ModelSpec(task, TRAINING.fields, model="pair")
    torch.manual_seed(0)
    check_network(model_spec, model_spec.build(), TRAINING)


def small(task) -> tuple[ModelSpec, Any]:
    torch.manual_seed(0)
    model_spec = ModelSpec(task, TRAINING.fields, model=next(iter(task.models)))
    return model_spec, model_spec.build()


@dataclass(frozen=True)
class WithTuple(Relief):
    joints: tuple[int, ...] = (1, 2)


class WithoutProtocol(Relief):
    protocols: ClassVar[tuple[str, ...]] = ()


class WrongProtocol(Relief):
    @property
    def evaluation(self):
        return EvaluationPolicy(("unknown",))


class NoSuchHead(Relief):
    heads: ClassVar[tuple[str, ...]] = ("unet", "mynet")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (WithTuple(), "options do not survive a checkpoint header"),
        (WithoutProtocol(), "needs at least one loss, one protocol and one recipe"),
        (WrongProtocol(), "'unknown', is not one of the protocols"),
        (NoSuchHead(), r"heads \['mynet'\] are neither in tasks.heads.HEADS nor the task's own"),
    ],
)
def test_invalid_declarations_are_detected(task, message):
    with pytest.raises(AssertionError, match=message):
        check_declarations(task, TRAINING)


def test_a_recipe_without_an_image_size_is_detected():
    class Careless(Relief):
        recipes: ClassVar[dict[str, Options]] = {
            "synthetic-rooms": Relief.recipes["synthetic-rooms"],
            "careless": Options(steps=3),
        }

    with pytest.raises(AssertionError, match="recipe 'careless' has no image size"):
        check_recipes(Careless())


def test_a_task_that_accepts_a_dataset_without_fields_is_detected():
    class Indifferent(Relief):
        def targets(self, fields):
            return {name: field_type for name, field_type in fields.items() if name == "depth"}

    with pytest.raises(AssertionError, match=r"targets\(\) accepts a dataset without fields"):
        check_fields(Indifferent(), TRAINING)


class Overwriting(AugmentationPolicy):
    def augment(self, sample, rng, color_jitter):
        sample["image"][:] = 0
        return sample


class Unseeded(AugmentationPolicy):
    def augment(self, sample, rng, color_jitter):
        return {**sample, "image": np.random.default_rng().integers(0, 9, sample["image"].shape, dtype=np.uint8)}


@pytest.mark.parametrize(
    ("policy", "message"),
    [(Overwriting(), "argument of augment.* differs"), (Unseeded(), "with the same random stream differs")],
)
def test_an_augmentation_that_is_not_pure_is_detected(policy, message):
    class Augmented(Relief):
        augmentation = policy  # type: ignore[assignment]

    with pytest.raises(AssertionError, match=message):
        check_augment(Augmented(), TRAINING)


def test_a_loss_that_ignores_the_network_is_detected():
    class Blind(Relief):
        def phases(self, model: Any, fields, loss):
            return (Phase("blind", model, lambda batch, cache: {"zero": 0 * model.second.bias.sum() + 1.0}),)

    with pytest.raises(AssertionError, match="No step against its gradient lowers the loss of the phase 'blind'"):
        check_network(*small(Blind()), TRAINING)


def test_a_gradient_of_the_wrong_sign_is_detected():
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

            def negated(batch, cache):
                return {name: Uphill.apply(value) for name, value in phase.loss(batch, cache).items()}

            return (Phase("backwards", model, negated),)

    with pytest.raises(AssertionError, match="lowers the loss of the phase 'backwards'"):
        check_network(*small(Backwards()), TRAINING)


def test_two_phases_that_update_one_parameter_are_detected():
    class Sharing(Rivals):
        def phases(self, model, fields, loss):
            critic, generator = super().phases(model, fields, loss)
            return critic, Phase("generator", model, generator.loss)

    with pytest.raises(AssertionError, match="Two phases update the same parameter"):
        check_network(*small(Sharing()), TRAINING)


def test_metrics_that_do_not_merge_are_detected():
    class Forgetful(Relief):
        def metrics(self, protocol):
            metrics = super().metrics(protocol)
            merge = metrics.merge
            metrics.merge = lambda states: merge(list(states)[-1:])  # type: ignore[method-assign]
            return metrics

    with pytest.raises(AssertionError, match="merged one by one, gives"):
        check_metrics(Forgetful(), one_meter, TEST)


def test_predictions_of_another_size_are_detected():
    class Cropped(Relief):
        def decode(self, output, context):
            prediction: Any = super().decode(output, context)
            return DepthMap(prediction.meters[:-1])

    model_spec, model = small(Cropped())
    with pytest.raises(AssertionError, match=r"model's prediction is drawn as \(63, 96\), not as \(64, 96\)"):
        check_predictions(model_spec, model, one_meter, TEST)


def test_a_network_with_state_outside_its_checkpoint_is_detected():
    class Secretive(Relief):
        def build(self, fields, backbone, head, model):
            network: Any = super().build(fields, backbone, head, model)
            offset = torch.rand(1)
            network.register_forward_hook(lambda module, inputs, output: torch.add(output, offset))
            return network

    with pytest.raises(AssertionError, match="output of the saved and loaded model differs"):
        check_predictions(*small(Secretive()), one_meter, TEST)
