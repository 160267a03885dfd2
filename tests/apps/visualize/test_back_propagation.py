"""Guided backpropagation and the deconvnet differ from the gradient at ReLUs, whatever form these have."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from densevision.apps.visualize.back_propagation import (
    Rule,
    deconvnet,
    guided_backpropagation,
    other_relus,
    strongest_unit,
)
from densevision.apps.visualize.probes import Unit, parse_probe
from densevision.apps.visualize.sensitivity import gradients
from densevision.apps.visualize.subject import subject_of_trunk
from densevision.backbones import create_backbone
from densevision.backbones.backbone import Backbone, Level, Preprocessing
from densevision.backbones.layers import LocalResponseNorm
from densevision.errors import UserError

from .toys import RELUS, picture, toy

captum = pytest.importorskip("captum.attr")

ALL_RELUS = ["modules", "in place", "re-used", "re-used in place", *RELUS]


def captums(method: str, model: nn.Module, image: torch.Tensor, target: int) -> np.ndarray:
    """captum's own, on a copy: it hooks modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(captum, method)(copy.deepcopy(model).eval()).attribute(image, target=target).detach().numpy()


class Pooled(Backbone):
    """One channel, doubled, rectified, pooled by two: small enough to be written down."""

    def __init__(self, lrn: bool = False) -> None:
        super().__init__()
        self.describe("pooled", [Level("pool", 2, 2)], classes=0, in_channels=1, built=None)
        self.preprocessing = Preprocessing(mean=(0.0,), std=(1.0,))
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        nn.init.constant_(self.conv.weight, 2.0)
        self.lrn = LocalResponseNorm() if lrn else nn.Identity()

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [functional.max_pool2d(self.lrn(self.conv(image).relu()), 2)]


@pytest.mark.parametrize("relu", ALL_RELUS)
def test_a_relu_is_a_relu_whatever_its_form(relu):
    """Facts 4: captum sees modules alone, and silently gives the plain gradient of a functional one (GoogLeNet)."""
    expected = toy("modules")
    subject = toy(relu)
    for method in (guided_backpropagation, deconvnet):
        ours = method(subject, picture(), parse_probe("class:2", subject))
        theirs = method(expected, picture(), parse_probe("class:2", expected))
        np.testing.assert_array_equal(ours, theirs)
    assert not np.allclose(gradients(subject, picture(), parse_probe("class:2", subject))[0], ours)


@pytest.mark.parametrize(("method", "name"), [(guided_backpropagation, "GuidedBackprop"), (deconvnet, "Deconvolution")])
def test_it_is_captums(method, name):
    """On the pixels and the class: the same definition. Largest difference found: 0."""
    subject = toy()
    theirs = captums(name, subject.model, picture()[0], target=3)
    np.testing.assert_allclose(method(subject, picture(), parse_probe("class:3", subject)), theirs, atol=1e-7)


@pytest.mark.parametrize(("method", "name"), [(guided_backpropagation, "GuidedBackprop"), (deconvnet, "Deconvolution")])
def test_it_is_captums_on_a_network_whose_relus_are_modules_in_place(method, name):
    """timm's ResNet-18. Largest difference found: 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        subject = subject_of_trunk(create_backbone("timm:resnet18", classes=10))
    theirs = captums(name, subject.model, picture(64, 64)[0], target=3)
    ours = method(subject, picture(64, 64), parse_probe("class:3", subject))
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())


def test_captum_gives_the_plain_gradient_where_a_relu_is_a_function():
    """Why these are our own."""
    subject = toy("function")
    theirs = captums("GuidedBackprop", subject.model, picture()[0], target=3)
    plain = gradients(subject, picture(), parse_probe("class:3", subject))[0].numpy()
    np.testing.assert_allclose(theirs, plain)
    assert not np.allclose(guided_backpropagation(subject, picture(), parse_probe("class:3", subject)), plain)


def test_the_three_rules_are_what_the_papers_print():
    x = torch.tensor([2.0, 2.0, -2.0, -2.0], requires_grad=True)
    signal = torch.tensor([3.0, -3.0, 3.0, -3.0])
    expected: dict[Rule, list[float]] = {"guided": [3.0, 0.0, 0.0, 0.0], "deconvnet": [3.0, 0.0, 3.0, 0.0]}
    assert torch.autograd.grad(x.relu(), x, signal)[0].tolist() == [3.0, -3.0, 0.0, 0.0]
    for rule, passed in expected.items():
        with other_relus(rule):
            made = x.relu()
        assert made.tolist() == [2.0, 2.0, 0.0, 0.0]
        assert torch.autograd.grad(made, x, signal)[0].tolist() == passed


def test_a_relu_in_place_still_writes_over_its_input():
    for change in (torch.relu_, lambda x: functional.relu(x, inplace=True), lambda x: functional.relu(x, True)):
        x = torch.tensor([1.0, -1.0], requires_grad=True)
        y = 2 * x
        with other_relus("guided"):
            change(y)
        assert y.tolist() == [2.0, 0.0]
        assert torch.autograd.grad(y, x, torch.tensor([-1.0, 1.0]))[0].tolist() == [0.0, 0.0]


def test_a_relu_is_the_usual_one_again_afterwards():
    x = torch.tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError), other_relus("guided"):
        raise RuntimeError
    assert torch.autograd.grad(x.relu(), x, torch.tensor([-1.0]))[0].item() == -1


def test_the_deconvnet_reconstructs_at_switch_positions_only():
    # Rows of four windows of 2 x 2; the largest of each stands at a known place.
    image = torch.tensor([[0.1, 0.2, 0.3, 0.1], [0.4, 0.0, 0.2, 0.9], [0.5, 0.1, 0.0, 0.0], [0.2, 0.3, 0.1, 0.8]])
    subject = subject_of_trunk(Pooled())
    pixels = (image.view(1, 1, 4, 4),)
    expected = np.zeros((4, 4), np.float32)
    # Unit (x 1, y 0) is 2 * 0.9, led back through the filter's 2 to where 0.9 was.
    expected[1, 3] = 2 * 0.9 * 2
    found = deconvnet(subject, pixels, parse_probe("pool:1@1,0", subject))
    np.testing.assert_allclose(found[0, 0], expected)


def test_a_channel_stands_for_its_most_active_unit():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 2, 1] = 0.7
    subject = subject_of_trunk(Pooled())
    channel = parse_probe("pool:0", subject)
    assert strongest_unit(subject, (image,), channel) == Unit("pool", 0, 0, 1)
    np.testing.assert_array_equal(
        deconvnet(subject, (image,), channel), deconvnet(subject, (image,), parse_probe("pool:0@0,1", subject))
    )


def test_the_activation_itself_is_led_back():
    """captum leads 1 back; Zeiler and Fergus the activation. The two differ by this factor."""
    subject = toy()
    probe = strongest_unit(subject, picture(), parse_probe("b:3", subject))
    with other_relus("deconvnet"):
        of_one = gradients(subject, picture(), probe)[0]
    activation = subject.look(picture(), ["b"]).levels["b"][0, 3, probe.y, probe.x]
    np.testing.assert_allclose(deconvnet(subject, picture(), probe), (activation * of_one).detach(), rtol=1e-5)


def test_response_normalisation_is_passed_by_in_the_deconvnet():
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    plain, normalised = subject_of_trunk(Pooled()), subject_of_trunk(Pooled(lrn=True))
    probe = parse_probe("pool:0@1,1", plain)
    activations = [float(each.look((image,), ["pool"]).levels["pool"][0, 0, 1, 1]) for each in (plain, normalised)]
    assert activations[0] != pytest.approx(activations[1], rel=1e-3)
    without, with_norm = (
        deconvnet(each, (image,), probe) / a for each, a in zip((plain, normalised), activations, strict=True)
    )
    np.testing.assert_allclose(with_norm, without, rtol=1e-6)


def test_guided_backpropagation_keeps_the_gradient_of_response_normalisation():
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    subject = subject_of_trunk(Pooled(lrn=True))
    # Both channels are 2 v at the switch; the other one takes away, and its ReLU lets no such signal through.
    maps = (2 * image.max()).expand(1, 2, 1, 1).clone().requires_grad_()
    own, other = torch.autograd.grad(LocalResponseNorm()(maps)[0, 0].sum(), maps)[0].flatten().tolist()
    assert own > 0 > other
    unit = strongest_unit(subject, (image,), parse_probe("pool:0", subject))
    found = guided_backpropagation(subject, (image,), unit)
    assert found.max() == pytest.approx(2 * own, rel=1e-6) and np.count_nonzero(found) == 1


def test_an_inactive_unit_leads_nothing_back():
    subject = toy()
    with torch.no_grad():
        subject.trunk.conv3.bias[2] = -1e6
    with pytest.raises(UserError, match=r"No pixel changes b:2@2,1 on this picture: it is dead; active ones nearby"):
        deconvnet(subject, picture(), parse_probe("b:2@2,1", subject))


def test_the_network_is_as_it_was():
    subject = toy("re-used in place")
    subject.model.train()
    before = {name: each.clone() for name, each in subject.model.state_dict().items()}
    for method in (guided_backpropagation, deconvnet):
        method(subject, picture(), parse_probe("b:1", subject))
    assert subject.model.training and all(each.requires_grad for each in subject.model.parameters())
    assert all(torch.equal(each, before[name]) for name, each in subject.model.state_dict().items())
