"""What every pixel adds: shares that add up."""

from __future__ import annotations

import numpy as np
import pytest

from densevision.apps.visualize.gradients import baseline_of, gradient_times_input, integrated_gradients
from densevision.apps.visualize.probes import parse_probe
from densevision.apps.visualize.sensitivity import score
from densevision.errors import UserError

from .test_probes import A_PROBE, pictures_of
from .toys import picture, toy, untrained

captum = pytest.importorskip("captum.attr")


def test_gradient_times_input_is_captums_summed_over_channels():
    """On the network's own input, whose zero is grey in pixels: captum knows no preprocessing.

    Largest difference found: 7e-8 of the largest share.
    """
    subject = toy()
    normalised = subject.trunk.preprocessing(picture()[0])
    theirs = captum.InputXGradient(subject.trunk.eval()).attribute(normalised.requires_grad_(), target=2).sum(1)
    ours = gradient_times_input(subject, picture(), parse_probe("class:2", subject))
    np.testing.assert_allclose(ours.maps, theirs.detach(), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 20, 50])
def test_integrated_gradients_are_captums_summed_over_channels(steps):
    """The same rule of Gauss and Legendre, about black in pixels, which is captum's usual baseline 0.

    Largest difference found: 8e-8 of the largest share.
    """
    subject = toy()
    theirs = captum.IntegratedGradients(subject.model.eval()).attribute(picture()[0], target=2, n_steps=steps).sum(1)
    ours = integrated_gradients(subject, picture(), parse_probe("class:2", subject), steps)
    np.testing.assert_allclose(ours.maps, theirs.detach(), atol=1e-6)


@pytest.mark.parametrize("text", ["class:2", "b:3", "class:2 - class:1", "conv2:1@3,4"])
def test_integrated_gradients_add_up_to_the_difference(text):
    subject = toy()
    probe = parse_probe(text, subject)
    for baseline in ("black", "grey"):
        found = integrated_gradients(subject, picture(), probe, 200, baseline)
        ends = [score(subject, each, probe)[0] for each in (picture(), baseline_of(subject, picture(), baseline))]
        assert found.difference == pytest.approx(float((ends[0] - ends[1]).detach()), abs=1e-6)
        # The paper asks for 5 %.
        assert found.delta < 0.05, (baseline, found.delta)


@pytest.mark.parametrize("task", ["classification", "depth", "restoration", "translation"])
def test_the_shares_of_a_dense_answer_add_up_too(task):
    subject = untrained(task)
    found = integrated_gradients(subject, pictures_of(subject), parse_probe(A_PROBE[task], subject), 60)
    assert len(found.maps) == len(pictures_of(subject))
    assert found.delta < 0.1


def test_delta_is_what_is_missing():
    subject = toy()
    probe = parse_probe("class:2", subject)
    rough, fine = (integrated_gradients(subject, picture(), probe, steps).delta for steps in (1, 200))
    assert fine < rough


def test_without_biases_gradient_times_input_is_the_whole_score():
    # Facts 4: for bias-free nets of ReLUs and max pools the sum is S exactly, about the network's own zero.
    subject = toy(norm=False, biased=False)
    found = gradient_times_input(subject, picture(), parse_probe("class:2", subject))
    value = float(score(subject, picture(), parse_probe("class:2", subject))[0].detach())
    assert found.maps.sum() == pytest.approx(value, rel=1e-5)
    assert found.delta < 1e-4


def test_on_a_line_the_first_term_is_all():
    subject = toy()
    probe = parse_probe("norm:2", subject)  # in front of any ReLU
    whole, first = (
        method(subject, picture(), probe, baseline="grey") for method in (integrated_gradients, gradient_times_input)
    )
    np.testing.assert_allclose(whole.maps, first.maps, rtol=1e-4, atol=1e-8)


def test_the_same_question_has_the_same_answer():
    subject = untrained("translation")
    probe = parse_probe("red@20,30", subject)
    first, again = (integrated_gradients(subject, pictures_of(subject), probe, 3).maps for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "--steps is 0; it must be at least 1"),
        ({"baseline": "blck"}, "no baseline named 'blck'; did you mean 'black'"),
    ],
)
def test_a_mistake_is_a_sentence(options, sentence):
    subject = toy()
    with pytest.raises(UserError, match=sentence):
        integrated_gradients(subject, picture(), parse_probe("class:1", subject), **options)
