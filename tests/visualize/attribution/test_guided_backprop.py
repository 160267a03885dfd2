"""Guided backpropagation and deconvnet, for all forms of ReLUs."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from densevision.backbones import create_backbone
from densevision.backbones.backbone import Backbone, Level, Preprocessing
from densevision.backbones.layers import LocalResponseNorm
from densevision.errors import UserError
from densevision.visualize.attribution.guided_backprop import (
    Rule,
    deconvnet,
    guided_backprop,
    most_active_neuron,
    relu_backward_rule,
)
from densevision.visualize.core.model import inspect_backbone
from densevision.visualize.core.objectives import Neuron, gradients
from densevision.visualize.core.targets import parse_target

from ..toys import RELUS, random_image, toy

captum = pytest.importorskip("captum.attr")


def guided_maps(*arguments: Any) -> np.ndarray:
    return guided_backprop(*arguments).array


def deconvnet_maps(*arguments: Any) -> np.ndarray:
    return deconvnet(*arguments).array


ALL_RELUS = ["modules", "in place", "re-used", "re-used in place", *RELUS]


def captums(method: str, model: nn.Module, image: torch.Tensor, target: int) -> np.ndarray:
    """Attribution of captum, on a copy, because it hooks modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(captum, method)(copy.deepcopy(model).eval()).attribute(image, target=target).detach().numpy()


class Pooled(Backbone):
    """A 1 x 1 convolution with weights 2, a ReLU and a max pool of 2: small enough to compute by hand."""

    def __init__(self, lrn: bool = False) -> None:
        super().__init__()
        self._set_metadata("pooled", [Level("pool", 2, 2)], num_classes=0, in_channels=1, built=None)
        self.preprocessing = Preprocessing(mean=(0.0,), std=(1.0,))
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        nn.init.constant_(self.conv.weight, 2.0)
        self.lrn = LocalResponseNorm() if lrn else nn.Identity()

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [functional.max_pool2d(self.lrn(self.conv(image).relu()), 2)]


@pytest.mark.parametrize("relu", ALL_RELUS)
def test_all_forms_of_relus_give_the_same(relu):
    """Facts 4: captum handles modules only, and silently returns the plain gradient of functional ReLUs (GoogLeNet)."""
    expected = toy("modules")
    model = toy(relu)
    for method in (guided_maps, deconvnet_maps):
        ours = method(model, random_image(), parse_target("class:2", model))
        theirs = method(expected, random_image(), parse_target("class:2", expected))
        np.testing.assert_array_equal(ours, theirs)
    assert not np.allclose(gradients(model, random_image(), parse_target("class:2", model))[0], ours)


@pytest.mark.parametrize(("method", "name"), [(guided_maps, "GuidedBackprop"), (deconvnet_maps, "Deconvolution")])
def test_it_equals_captums(method, name):
    """The same definition, with respect to the pixels. Maximum difference: 0."""
    model = toy()
    theirs = captums(name, model.module, random_image()[0], target=3)
    np.testing.assert_allclose(method(model, random_image(), parse_target("class:3", model)), theirs, atol=1e-7)


@pytest.mark.parametrize(("method", "name"), [(guided_maps, "GuidedBackprop"), (deconvnet_maps, "Deconvolution")])
def test_it_equals_captums_with_in_place_modules(method, name):
    """timm's ResNet-18. Maximum difference: 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = inspect_backbone(create_backbone("timm:resnet18", num_classes=10))
    theirs = captums(name, model.module, random_image(64, 64)[0], target=3)
    ours = method(model, random_image(64, 64), parse_target("class:3", model))
    np.testing.assert_allclose(ours, theirs, atol=1e-6 * np.abs(theirs).max())


def test_captum_returns_the_plain_gradient_of_functional_relus():
    """The reason for this implementation."""
    model = toy("function")
    theirs = captums("GuidedBackprop", model.module, random_image()[0], target=3)
    plain = gradients(model, random_image(), parse_target("class:3", model))[0].numpy()
    np.testing.assert_allclose(theirs, plain)
    assert not np.allclose(guided_maps(model, random_image(), parse_target("class:3", model)), plain)


def test_the_three_backward_rules():
    x = torch.tensor([2.0, 2.0, -2.0, -2.0], requires_grad=True)
    signal = torch.tensor([3.0, -3.0, 3.0, -3.0])
    expected: dict[Rule, list[float]] = {"guided": [3.0, 0.0, 0.0, 0.0], "deconvnet": [3.0, 0.0, 3.0, 0.0]}
    assert torch.autograd.grad(x.relu(), x, signal)[0].tolist() == [3.0, -3.0, 0.0, 0.0]
    for rule, expected_grad in expected.items():
        with relu_backward_rule(rule):
            output = x.relu()
        assert output.tolist() == [2.0, 2.0, 0.0, 0.0]
        assert torch.autograd.grad(output, x, signal)[0].tolist() == expected_grad


def test_an_in_place_relu_overwrites_its_input():
    for change in (torch.relu_, lambda x: functional.relu(x, inplace=True), lambda x: functional.relu(x, True)):
        x = torch.tensor([1.0, -1.0], requires_grad=True)
        y = 2 * x
        with relu_backward_rule("guided"):
            change(y)
        assert y.tolist() == [2.0, 0.0]
        assert torch.autograd.grad(y, x, torch.tensor([-1.0, 1.0]))[0].tolist() == [0.0, 0.0]


def test_the_backward_rule_is_restored():
    x = torch.tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError), relu_backward_rule("guided"):
        raise RuntimeError
    assert torch.autograd.grad(x.relu(), x, torch.tensor([-1.0]))[0].item() == -1


def test_the_deconvnet_reconstructs_at_switch_positions_only():
    # Rows of four windows of 2 x 2; the maximum of each is at a known position.
    image = torch.tensor([[0.1, 0.2, 0.3, 0.1], [0.4, 0.0, 0.2, 0.9], [0.5, 0.1, 0.0, 0.0], [0.2, 0.3, 0.1, 0.8]])
    model = inspect_backbone(Pooled())
    pixels = (image.view(1, 1, 4, 4),)
    expected = np.zeros((4, 4), np.float32)
    # Unit (x 1, y 0) is 2 * 0.9, projected back by the filter's 2 to the pixel of 0.9.
    expected[1, 3] = 2 * 0.9 * 2
    result = deconvnet_maps(model, pixels, parse_target("pool:1@1,0", model))
    np.testing.assert_allclose(result[0, 0], expected)


def test_a_channel_is_replaced_by_its_most_active_unit():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 2, 1] = 0.7
    model = inspect_backbone(Pooled())
    channel = parse_target("pool:0", model)
    assert most_active_neuron(model, (image,), channel) == Neuron("pool", 0, 0, 1)
    np.testing.assert_array_equal(
        deconvnet_maps(model, (image,), channel), deconvnet_maps(model, (image,), parse_target("pool:0@0,1", model))
    )


def test_the_deconvnet_signal_is_the_activation():
    """captum projects 1 back; Zeiler and Fergus the activation. The two differ by this factor."""
    model = toy()
    objective = most_active_neuron(model, random_image(), parse_target("b:3", model))
    with relu_backward_rule("deconvnet"):
        grad = gradients(model, random_image(), objective)[0]
    activation = model.forward(random_image(), ["b"]).levels["b"][0, 3, objective.y, objective.x]
    ours = deconvnet_maps(model, random_image(), objective)
    np.testing.assert_allclose(ours, (activation * grad).detach(), rtol=1e-5)


def test_the_deconvnet_ignores_response_normalization():
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    plain, normalized = inspect_backbone(Pooled()), inspect_backbone(Pooled(lrn=True))
    objective = parse_target("pool:0@1,1", plain)
    activations = [float(each.forward((image,), ["pool"]).levels["pool"][0, 0, 1, 1]) for each in (plain, normalized)]
    assert activations[0] != pytest.approx(activations[1], rel=1e-3)
    without, with_norm = (
        deconvnet_maps(each, (image,), objective) / a for each, a in zip((plain, normalized), activations, strict=True)
    )
    np.testing.assert_allclose(with_norm, without, rtol=1e-6)


def test_guided_maps_keeps_the_gradient_of_response_normalization():
    image = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = inspect_backbone(Pooled(lrn=True))
    # Both channels are 2 v at the switch; the signal of the other one is negative, and its ReLU blocks it.
    maps = (2 * image.max()).expand(1, 2, 1, 1).clone().requires_grad_()
    own, other = torch.autograd.grad(LocalResponseNorm()(maps)[0, 0].sum(), maps)[0].flatten().tolist()
    assert own > 0 > other
    unit = most_active_neuron(model, (image,), parse_target("pool:0", model))
    result = guided_maps(model, (image,), unit)
    assert result.max() == pytest.approx(2 * own, rel=1e-6) and np.count_nonzero(result) == 1


def test_an_inactive_unit_is_an_error():
    model = toy()
    with torch.no_grad():
        model.backbone.conv3.bias[2] = -1e6
    with pytest.raises(UserError, match="No pixel changes b:2@2,1 on this image: it is not active; nearest active"):
        deconvnet_maps(model, random_image(), parse_target("b:2@2,1", model))


def test_the_model_is_unchanged():
    model = toy("re-used in place")
    model.module.train()
    before = {name: each.clone() for name, each in model.module.state_dict().items()}
    for method in (guided_maps, deconvnet_maps):
        method(model, random_image(), parse_target("b:1", model))
    assert model.module.training and all(each.requires_grad for each in model.module.parameters())
    assert all(torch.equal(each, before[name]) for name, each in model.module.state_dict().items())
