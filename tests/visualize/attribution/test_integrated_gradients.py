"""Input times gradient and integrated gradients: equality with captum, and completeness."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.errors import UserError
from densevision.visualize.attribution.integrated_gradients import (
    baseline_images,
    input_x_gradient,
    integrated_gradients,
)
from densevision.visualize.core.objectives import evaluate_objective
from densevision.visualize.core.targets import parse_target

from ..core.test_targets import EXAMPLE_TARGETS, images_of
from ..toys import random_image, toy, untrained

captum = pytest.importorskip("captum.attr")


def test_input_x_gradient_equals_captums_summed_over_channels():
    """Computed on the normalized input, whose zero is gray, because captum has no preprocessing.

    Maximum difference: 7e-8 of the maximum.
    """
    model = toy()
    normalized = model.backbone.preprocessing(random_image()[0])
    theirs = captum.InputXGradient(model.backbone.eval()).attribute(normalized.requires_grad_(), target=2).sum(1)
    ours = input_x_gradient(model, random_image(), parse_target("class:2", model))
    np.testing.assert_allclose(ours.array, theirs.detach(), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 20, 50])
def test_integrated_gradients_equal_captums_summed_over_channels(steps):
    """The same Gauss-Legendre quadrature, with black as the baseline, captum's default.

    Maximum difference: 8e-8 of the maximum.
    """
    model = toy()
    theirs = (
        captum.IntegratedGradients(model.module.eval()).attribute(random_image()[0], target=2, n_steps=steps).sum(1)
    )
    ours = integrated_gradients(model, random_image(), parse_target("class:2", model), steps=steps)
    np.testing.assert_allclose(ours.array, theirs.detach(), atol=1e-6)


@pytest.mark.parametrize("text", ["class:2", "b:3", "class:2 - class:1", "conv2:1@3,4"])
def test_integrated_gradients_sum_to_the_difference(text):
    model = toy()
    objective = parse_target(text, model)
    for baseline in ("black", "gray"):
        attribution = integrated_gradients(model, random_image(), objective, steps=200, baseline=baseline)
        ends = [
            evaluate_objective(model, each, objective)[0]
            for each in (random_image(), baseline_images(model, random_image(), baseline))
        ]
        assert attribution.difference == pytest.approx(float((ends[0] - ends[1]).detach()), abs=1e-6)
        # The paper recommends 5 %.
        assert attribution.delta < 0.05, (baseline, attribution.delta)


@pytest.mark.parametrize("task", ["classification", "depth", "restoration", "translation"])
def test_completeness_for_every_kind_of_task(task):
    model = untrained(task)
    attribution = integrated_gradients(model, images_of(model), parse_target(EXAMPLE_TARGETS[task], model), steps=60)
    assert len(attribution.array) == len(images_of(model))
    assert attribution.delta < 0.1


def test_more_steps_lower_the_delta():
    model = toy()
    objective = parse_target("class:2", model)
    rough, fine = (integrated_gradients(model, random_image(), objective, steps=steps).delta for steps in (1, 200))
    assert fine < rough


def test_without_biases_input_x_gradient_sums_to_the_score():
    # Facts 4: for bias-free nets of ReLUs and max pools the sum is S exactly, about zero in the normalized input.
    model = toy(norm=False, biased=False)
    attribution = input_x_gradient(model, random_image(), parse_target("class:2", model))
    value = float(evaluate_objective(model, random_image(), parse_target("class:2", model))[0].detach())
    assert attribution.array.sum() == pytest.approx(value, rel=1e-5)
    assert attribution.delta < 1e-4


def test_both_methods_agree_for_a_linear_target():
    model = toy()
    objective = parse_target("norm:2", model)  # before any ReLU
    integrated, first = (
        method(model, random_image(), objective, baseline="gray") for method in (integrated_gradients, input_x_gradient)
    )
    np.testing.assert_allclose(integrated.array, first.array, rtol=1e-4, atol=1e-8)


def test_results_are_deterministic():
    model = untrained("translation")
    objective = parse_target("red@20,30", model)
    first, again = (integrated_gradients(model, images_of(model), objective, steps=3).array for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps is 0; it must be at least 1"),
        ({"baseline": "blck"}, "no baseline named 'blck'; did you mean 'black'"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    model = toy()
    with pytest.raises(UserError, match=message):
        integrated_gradients(model, random_image(), parse_target("class:1", model), **options)
